"""The recipes of other systems: DeiT's, but for what each system's authors changed."""

from typing import Any

import pytest
import yaml

from inceptionnext_lit.models import BASELINES
from tests.recipes import REPO

FOLDER = REPO / "configs/baselines"
DEIT = yaml.safe_load((REPO / "configs/deit_s.yaml").read_text())
# what the authors' code has instead, by its dotted key
CHANGES: dict[str, dict[str, Any]] = {
    "pvt": {"model.name": "pvt_small"},
    "focal": {
        "model.name": "focal_tiny",
        "model.drop_path": 0.2,
        "model.schedule.unit": "step",
        "model.schedule.warmup_epochs": 20,
        "model.schedule.lag_epochs": None,
        "trainer.gradient_clip_val": 5.0,
        "data.augmentation.repeats": 1,
    },
    "iformer": {
        "model.name": "iformer_small",
        "model.drop_path": 0.2,
        "model.schedule.min_lr": 1e-6,
        "model.schedule.cooldown_epochs": 10,
        "model.schedule.lag_epochs": None,
        "trainer.max_epochs": 310,
        "data.augmentation.interpolation": "random",
        "data.augmentation.repeats": 1,
        "data.input.crop_pct": 0.9,
    },
}
SIZES = {
    "pvt": {"pvt_tiny", "pvt_small", "pvt_medium", "pvt_large"},
    "focal": {"focal_tiny", "focal_small"},
    "iformer": {"iformer_small", "iformer_base", "iformer_large"},
}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def test_every_recipe_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(CHANGES)


@pytest.mark.parametrize("stem", CHANGES)
def test_the_rest_is_deits(stem: str) -> None:
    recipe, deit = flat(yaml.safe_load((FOLDER / f"{stem}.yaml").read_text())), flat(DEIT)
    assert {key: recipe.get(key) for key in deit | recipe if recipe.get(key) != deit.get(key)} == CHANGES[stem]


@pytest.mark.parametrize("stem", CHANGES)
def test_the_header_names_every_size_with_its_accuracy(stem: str) -> None:
    text = (FOLDER / f"{stem}.yaml").read_text()
    rows = {row.name: row for row in BASELINES if row.name in SIZES[stem]}
    assert rows.keys() == SIZES[stem]
    for row in rows.values():
        assert row.name in text
        assert f"{row.top1}" in text
    main = rows[CHANGES[stem]["model.name"]]
    first = text.splitlines()[0]
    assert f"{main.params_m:.0f} M parameters, {main.macs_g:.1f} G MACs, {main.top1}% top-1" in first
