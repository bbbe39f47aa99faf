"""Weight decay, betas, stochastic depth and initial values of every tensor."""

import math
from functools import cache

import pytest
import torch
from scipy import stats
from torch import nn

from tests.fidelity.sources import CONVNEXT, DEIT, drop_path_rates, recipe, recipes


@cache
def model_of(stem: str) -> nn.Module:
    torch.manual_seed(0)
    return recipe(stem).model()


@recipes
def test_decay_and_betas_of_every_parameter(stem: str) -> None:
    """Matrices and kernels decay by 0.05; vectors, position embeddings and class tokens do not."""
    found, model = recipe(stem), model_of(stem)
    optimizer = found.optimizer.build(model, lr=1.0, weight_decay=found.config["model"]["weight_decay"])
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = groups.pop(id(parameter))
        spared = parameter.ndim <= 1 or name in ("pos_embed", "cls_token")
        assert group["weight_decay"] == (0.0 if spared else 0.05), name
        assert (tuple(group["betas"]), group["eps"], group["lr"]) == ((0.9, 0.999), 1e-8, 1.0)
    assert not groups
    assert type(optimizer) is torch.optim.AdamW


@recipes
def test_stochastic_depth_of_every_block(stem: str) -> None:
    """``torch.linspace(0, rate, depth)`` over all blocks, as in timm and ConvNeXt."""
    rates = drop_path_rates(model_of(stem))
    last = {"small": 0.3, "base": 0.4, "base_384": 0.7, "iso_b": 0.2, "convnext_iso_b": 0.2}.get(stem, 0.1)
    assert rates == pytest.approx(torch.linspace(0, last, len(rates)).tolist(), abs=1e-7)


@recipes
def test_the_initial_distribution_of_every_tensor(stem: str) -> None:
    """Weights are normal with deviation 0.02, biases 0, norms 1, LayerScale 1e-6 (DeiT: timm's own model)."""
    if stem in DEIT and stem != "metanext_attn_s":
        assert type(model_of(stem)).__module__.startswith("timm.")
        return
    model = model_of(stem)
    norms = {id(m.weight) for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten().double().numpy()
        if parameter.ndim > 1:
            sample = values[:: max(len(values) // 20_000, 1)]
            bound = math.sqrt(-math.log(1e-6 / 2) / 2 / len(sample))  # a false alarm once in a million
            assert stats.kstest(sample, stats.norm(scale=0.02).cdf).statistic < bound, name
        elif name.endswith("gamma"):
            assert stem not in CONVNEXT
            assert values == pytest.approx(1e-6)
        else:
            assert (values == (1.0 if id(parameter) in norms else 0.0)).all(), name
