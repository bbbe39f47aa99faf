"""Write ``docs/recipes.md``: each ingredient of each ImageNet recipe beside what its source runs.

The sources' values stand in ``recipe_sources.yaml``; ours are read from the recipes, with the defaults of the package.

Usage: python scripts/compare_recipes.py [FILE]
"""

import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.backbone import create_backbone
from inceptionnext_lit.training.optim import OptimizerOptions

REPO = Path(__file__).parents[1]
SOURCES = Path(__file__).with_name("recipe_sources.yaml")


class Ingredient(NamedTuple):
    """One thing that a recipe decides.

    Attributes:
        name: What it is called in the tables.
        ours: Its value in a recipe: a dotted key, or a function of the whole recipe.
        checked: The module of ``tests/`` that holds our code to the source's, beyond the value itself.
    """

    name: str
    ours: str | Callable[[Namespace], object]
    checked: str = ""


def devices(recipe: Namespace) -> str:
    """How many devices make up a step at ``data.batch_size`` images each, 8 or, for atto's 320, 4."""
    count = 4 if recipe.data.batch_size == 320 else 8
    return f"{count} × {recipe.data.batch_size} × {recipe.data.global_batch_size // count // recipe.data.batch_size}"


def undecayed(recipe: Namespace) -> str:
    """Which parameters have no weight decay, as a rule that holds of each of them."""
    with torch.device("meta"):
        model, _ = create_backbone(recipe.model.name, 1000, {}, pretrained=False, preprocessing=None)
    optimizer = OptimizerOptions(kwargs={"fused": False}).build(model, lr=1.0, weight_decay=recipe.model.weight_decay)
    spared = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    named = dict(model.named_parameters())
    embeddings = [name for name in ("pos_embed", "cls_token") if name in named and id(named[name]) in spared]
    vectors = {id(p) for p in named.values() if p.ndim <= 1}
    if spared != vectors | {id(named[name]) for name in embeddings}:
        return "another rule"
    return ", ".join(["vectors", *embeddings])


def start(recipe: Namespace) -> str:
    """What the weights are before the first step."""
    return "the model's weights at 224 pixels" if recipe.model.pretrained else "random"


def dropout(recipe: Namespace) -> float:
    """Dropout before the last linear layer."""
    return float((recipe.model.kwargs or {}).get("drop_rate", 0.0))


def epochs(recipe: Namespace) -> str:
    """Epochs in all, and how many of them follow the cosine."""
    after = recipe.model.schedule.cooldown_epochs
    return f"{recipe.trainer['max_epochs']}, of which {after:g} after the cosine"


def averaging(recipe: Namespace) -> str:
    """Decay of the moving average of the weights."""
    if recipe.model.ema_decay is None:
        return "none"
    return f"{recipe.model.ema_decay}, {'warmed up' if recipe.model.ema_warmup else 'constant'}"


def evaluation(recipe: Namespace) -> str:
    """How an image is brought to the model's size in evaluation."""
    return f"{recipe.data.input.interpolation or 'bicubic'}, crop {recipe.data.input.crop_pct}"


def rand_augment(recipe: Namespace) -> str:
    """RandAugment's magnitude, its spread, and the operations of an image."""
    own = recipe.data.augmentation
    spread = "evenly from 0" if own.rand_augment_std == "uniform" else f"± {own.rand_augment_std}"
    grows = "increasing" if own.rand_augment_increasing else "mixed"
    return f"{own.rand_augment_magnitude:g} {spread}, {own.rand_augment_num_ops} operations, {grows}"


def jitter(recipe: Namespace) -> float:
    """Strength of the colour jitter that takes place: none beside RandAugment."""
    own = recipe.data.augmentation
    return float(own.color_jitter) if own.rand_augment_magnitude is None else 0.0


RATES, GROUPS = "fidelity/test_rates", "fidelity/test_groups"
DRAWS, MIXING = "fidelity/test_draws", "fidelity/test_mixing_order"
INGREDIENTS = (
    Ingredient("initial weights", start, GROUPS),
    Ingredient("optimizer", "model.optimizer.name", "fidelity/test_steps"),
    Ingredient("betas", lambda recipe: list(recipe.model.optimizer.kwargs["betas"]), GROUPS),
    Ingredient("eps", "model.optimizer.kwargs.eps", GROUPS),
    Ingredient("weight decay", "model.weight_decay", GROUPS),
    Ingredient("no decay on", undecayed, GROUPS),
    Ingredient("layer decay", "model.optimizer.layer_decay", GROUPS),
    Ingredient("gradient clipping", "trainer.gradient_clip_val", "fidelity/test_steps"),
    Ingredient("images per step", "data.global_batch_size", RATES),
    Ingredient("devices × images × accumulated", devices, "fidelity/test_steps"),
    Ingredient("SyncBN", lambda recipe: recipe.trainer.get("sync_batchnorm", False)),
    Ingredient("BatchNorm's statistics in validation", "model.execution.dist_bn", "training/test_batchnorm"),
    Ingredient("precision", "trainer.precision"),
    Ingredient("epochs", epochs, RATES),
    Ingredient("peak rate", "model.lr", RATES),
    Ingredient("rate changes with each", "model.schedule.unit", RATES),
    Ingredient("warm-up epochs", "model.schedule.warmup_epochs", RATES),
    Ingredient("warm-up starts at", "model.schedule.warmup_lr", RATES),
    Ingredient("warm-up's last step has the peak", "model.schedule.warmup_reaches_peak", RATES),
    Ingredient("warm-up lies over the cosine", "model.schedule.warmup_overlays", RATES),
    Ingredient("cosine ends at", "model.schedule.min_lr", RATES),
    Ingredient("rate lags by epochs", "model.schedule.lag_epochs", RATES),
    Ingredient("moving average of the weights", averaging, "fidelity/test_average"),
    Ingredient("stochastic depth of the last block", "model.drop_path", GROUPS),
    Ingredient("dropout before the head", dropout),
    Ingredient("loss", "model.loss.name", "fidelity/test_steps"),
    Ingredient("label smoothing", "model.loss.label_smoothing", "fidelity/test_targets"),
    Ingredient("mixup", "model.loss.mix.mixup", "fidelity/test_targets"),
    Ingredient("CutMix", "model.loss.mix.cutmix", "fidelity/test_targets"),
    Ingredient("probability of either", "model.loss.mix.prob", "fidelity/test_targets"),
    Ingredient("probability of CutMix then", "model.loss.mix.switch_prob", "fidelity/test_targets"),
    Ingredient("mixing", "model.loss.mix.order", MIXING),
    Ingredient("image size", "data.image_size"),
    Ingredient("times an image is drawn", "data.augmentation.repeats", MIXING),
    Ingredient("crop's area", lambda recipe: list(recipe.data.augmentation.scale), DRAWS),
    Ingredient("crop's aspect", lambda recipe: [round(side, 4) for side in recipe.data.augmentation.ratio], DRAWS),
    Ingredient("interpolation in training", "data.augmentation.interpolation", DRAWS),
    Ingredient("horizontal flip", "data.augmentation.hflip"),
    Ingredient("colour jitter that takes place", jitter),
    Ingredient("RandAugment", rand_augment, DRAWS),
    Ingredient("random erasing", "data.augmentation.erasing", DRAWS),
    Ingredient("mean", lambda recipe: list(recipe.data.input.mean)),
    Ingredient("standard deviation", lambda recipe: list(recipe.data.input.std)),
    Ingredient("EXIF orientation", "data.input.exif", "fidelity/test_evaluation_pixels"),
    Ingredient("evaluation", evaluation, "fidelity/test_evaluation_pixels"),
    Ingredient("seed", "seed_everything"),
)


def load(name: str) -> Namespace:
    """A recipe with the package's defaults for what it leaves open."""
    return _parser().parse_args(["--config", str(REPO / f"configs/{name}.yaml")])


@cache
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--seed_everything", type=int)
    parser.add_argument("--trainer", type=dict[str, Any])
    parser.add_argument("--checkpoint", type=dict[str, Any])
    parser.add_class_arguments(ImageFolderDataModule, "data")
    parser.add_class_arguments(ClassificationTask, "model")
    return parser


def page(known: Mapping[str, Any], recipes: Mapping[str, Namespace]) -> str:
    """The whole document.

    Args:
        known: What ``recipe_sources.yaml`` says.
        recipes: For each name, the recipe with its defaults.

    Raises:
        KeyError: If a recipe has another value than its source and there is no reason for it, or a reason too many.
    """
    differing: set[str] = set()
    tables = [_table(source, recipes, differing) for source in known["sources"]]
    if unexplained := differing.symmetric_difference(known["reasons"]):
        raise KeyError(f"{sorted(unexplained)}: each value that differs has a reason in recipe_sources.yaml.")
    return "\n".join(
        [
            "# The ImageNet recipes beside their sources",
            "",
            "Written by `python scripts/compare_recipes.py`. A cell with = has the source's value; any other has its",
            "own, and the reason stands below. The last column names the module of `tests/` that holds the code behind",
            "the value to the source's formulas or to timm itself.",
            "",
            *tables,
            "## Why a value differs",
            "",
            *_list(known["reasons"]),
            "",
            "## Where the value is the same and the code is not",
            "",
            *_list(known["elsewhere"]),
            "",
        ]
    )


def _table(source: Mapping[str, Any], recipes: Mapping[str, Namespace], differing: set[str]) -> str:
    names = source["recipes"]
    header = ["ingredient", "source", "where it stands", *names, "checked by"]
    lines = [f"## {source['title']}", "", f"Source: {source['code']}", "", _row(header), _row(["---"] * len(header))]
    for ingredient in INGREDIENTS:
        value, where = source["values"][ingredient.name]
        theirs = [value.get(name, value["others"]) if isinstance(value, dict) else value for name in names]
        ours = [_value(recipes[name], ingredient) for name in names]
        cells = ["=" if own == other else f"**{_shown(own)}**" for own, other in zip(ours, theirs, strict=True)]
        if ours != theirs:
            differing.add(ingredient.name)
        values = " / ".join(dict.fromkeys(map(_shown, theirs)))
        lines.append(_row([ingredient.name, values, where, *cells, ingredient.checked]))
    return "\n".join([*lines, ""])


def _value(recipe: Namespace, ingredient: Ingredient) -> object:
    """The value of an ingredient in a recipe."""
    if not isinstance(ingredient.ours, str):
        return ingredient.ours(recipe)
    value: Any = recipe
    for key in ingredient.ours.split("."):
        value = value[key]
    return value


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _list(items: Mapping[str, str]) -> list[str]:
    return [f"- **{name[0].upper()}{name[1:]}.** {text}" for name, text in items.items()]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else REPO / "docs/recipes.md"
    known = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
    names = [name for source in known["sources"] for name in source["recipes"]]
    target.write_text(page(known, {name: load(name) for name in names}), encoding="utf-8")
