"""The learning rate of every step of every recipe is its source's."""

import numpy as np
import pytest
import torch

from tests.fidelity.sources import RECIPES, rates_of, recipe


@pytest.mark.parametrize("stem", RECIPES)
def test_the_rate_of_every_step(stem: str) -> None:
    expected, steps_per_epoch = rates_of(stem)
    found = recipe(stem)
    peak = found.config["model"]["lr"]
    assert found.steps_per_epoch == steps_per_epoch
    assert found.epochs * steps_per_epoch == len(expected)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    factor = found.schedule.build(optimizer, len(expected), steps_per_epoch).lr_lambdas[0]
    rates = np.array([peak * factor(step) for step in range(len(expected))])
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=0)


def test_the_rates_that_the_authors_script_printed() -> None:
    """At the first step of some epochs of the run that trains InceptionNeXt-T."""
    rates, steps = rates_of("tiny")
    printed = {
        0: 1e-6, 1: 2.01e-4, 20: 3.956e-3, 50: 3.733e-3, 100: 3.003e-3, 150: 2.005e-3, 200: 1.0075e-3, 250: 2.77e-4,
        280: 5.36e-5, 290: 2.09e-5, 299: 1.01e-5, 300: 1e-5, 309: 1e-5,
    }  # fmt: skip
    assert len(rates) == 96_720
    assert {epoch: rates[epoch * steps] for epoch in printed} == pytest.approx(printed, rel=2e-3)
