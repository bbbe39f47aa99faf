"""Write ``docs/recipes.md``: compare each ingredient of each ImageNet recipe with its source.

The sources' values are in ``recipe_sources.yaml``; ours are read from the recipes, with the package's defaults.

Usage: python scripts/compare_recipes.py [FILE]
"""

import argparse
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
    """One setting of a recipe.

    Attributes:
        name: Its name in the tables.
        ours: Its value in our recipe: a dotted key, or a function of the whole recipe.
        checked: The module of ``tests/`` that compares our code with the source's, beyond the value itself.
    """

    name: str
    ours: str | Callable[[Namespace], object]
    checked: str = ""


def devices(recipe: Namespace) -> str:
    """Return devices × images per device × accumulated batches, for 8 devices, or 4 for atto's 320 images."""
    count = 4 if recipe.data.batch_size == 320 else 8
    return f"{count} × {recipe.data.batch_size} × {recipe.data.global_batch_size // count // recipe.data.batch_size}"


def undecayed(recipe: Namespace) -> str:
    """Return which parameters have no weight decay, as a rule."""
    with torch.device("meta"):
        model, _ = create_backbone(recipe.model.name, 1000, {}, pretrained=False, preprocessing=None)
    optimizer = OptimizerOptions(kwargs={"fused": False}).build(model, lr=1.0, weight_decay=recipe.model.weight_decay)
    without_decay = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    named = dict(model.named_parameters())
    embeddings = [name for name in ("pos_embed", "cls_token") if name in named and id(named[name]) in without_decay]
    vectors = {id(p) for p in named.values() if p.ndim <= 1}
    if without_decay != vectors | {id(named[name]) for name in embeddings}:
        return "another rule"
    return ", ".join(["vectors", *embeddings])


def start(recipe: Namespace) -> str:
    """Return the initial weights."""
    return "the model's weights at 224 pixels" if recipe.model.pretrained else "random"


def dropout(recipe: Namespace) -> float:
    """Return the dropout before the last linear layer."""
    return float((recipe.model.kwargs or {}).get("drop_rate", 0.0))


def epochs(recipe: Namespace) -> str:
    """Return the number of epochs, and how many of them follow the cosine."""
    after = recipe.model.schedule.cooldown_epochs
    return f"{recipe.trainer['max_epochs']}, of which {after:g} after the cosine"


def averaging(recipe: Namespace) -> str:
    """Return the decay of the moving average of the weights."""
    if recipe.model.ema_decay is None:
        return "none"
    return f"{recipe.model.ema_decay}, {'with warm-up' if recipe.model.ema_warmup else 'constant'}"


def evaluation(recipe: Namespace) -> str:
    """Return how images are resized in evaluation."""
    return f"{recipe.data.input.interpolation or 'bicubic'}, crop {recipe.data.input.crop_pct}"


def rand_augment(recipe: Namespace) -> str:
    """Return RandAugment's magnitude, its spread and its operations per image."""
    own = recipe.data.augmentation
    spread = "uniform from 0" if own.rand_augment_std == "uniform" else f"± {own.rand_augment_std}"
    grows = "increasing" if own.rand_augment_increasing else "mixed"
    return f"{own.rand_augment_magnitude:g} {spread}, {own.rand_augment_num_ops} operations, {grows}"


def jitter(recipe: Namespace) -> float:
    """Return the strength of the color jitter in effect, which is 0 with RandAugment."""
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
    Ingredient("peak learning rate", "model.lr", RATES),
    Ingredient("learning rate changes with each", "model.schedule.unit", RATES),
    Ingredient("warm-up epochs", "model.schedule.warmup_epochs", RATES),
    Ingredient("warm-up starts at", "model.schedule.warmup_lr", RATES),
    Ingredient("warm-up's last step has the peak", "model.schedule.warmup_reaches_peak", RATES),
    Ingredient("warm-up overlaps the cosine", "model.schedule.warmup_overlays", RATES),
    Ingredient("cosine ends at", "model.schedule.min_lr", RATES),
    Ingredient("learning rate lags by epochs", "model.schedule.lag_epochs", RATES),
    Ingredient("moving average of the weights", averaging, "fidelity/test_average"),
    Ingredient("stochastic depth of the last block", "model.drop_path", GROUPS),
    Ingredient("dropout before the head", dropout),
    Ingredient("loss", "model.loss.name", "fidelity/test_steps"),
    Ingredient("label smoothing", "model.loss.label_smoothing", "fidelity/test_targets"),
    Ingredient("mixup", "model.loss.mix.mixup", "fidelity/test_targets"),
    Ingredient("CutMix", "model.loss.mix.cutmix", "fidelity/test_targets"),
    Ingredient("probability of mixing", "model.loss.mix.prob", "fidelity/test_targets"),
    Ingredient("probability of CutMix when mixing", "model.loss.mix.switch_prob", "fidelity/test_targets"),
    Ingredient("mixing", "model.loss.mix.order", MIXING),
    Ingredient("image size", "data.image_size"),
    Ingredient("times an image is drawn", "data.augmentation.repeats", MIXING),
    Ingredient("crop's area", lambda recipe: list(recipe.data.augmentation.scale), DRAWS),
    Ingredient("crop's aspect", lambda recipe: [round(side, 4) for side in recipe.data.augmentation.ratio], DRAWS),
    Ingredient("interpolation in training", "data.augmentation.interpolation", DRAWS),
    Ingredient("horizontal flip", "data.augmentation.hflip"),
    Ingredient("color jitter in effect", jitter),
    Ingredient("RandAugment", rand_augment, DRAWS),
    Ingredient("random erasing", "data.augmentation.erasing", DRAWS),
    Ingredient("mean", lambda recipe: list(recipe.data.input.mean)),
    Ingredient("standard deviation", lambda recipe: list(recipe.data.input.std)),
    Ingredient("EXIF orientation", "data.input.exif", "fidelity/test_evaluation_pixels"),
    Ingredient("evaluation", evaluation, "fidelity/test_evaluation_pixels"),
    Ingredient("seed", "seed_everything"),
)


def load(name: str) -> Namespace:
    """Load a recipe with the package's defaults for the keys that it does not set."""
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
    """Render the whole document.

    Args:
        known: The content of ``recipe_sources.yaml``.
        recipes: The recipes with their defaults, by name.

    Raises:
        KeyError: If a value differs from its source without a reason, or a reason belongs to no difference.
    """
    differing: set[str] = set()
    tables = [_table(source, recipes, differing) for source in known["sources"]]
    if unexplained := differing.symmetric_difference(known["reasons"]):
        raise KeyError(f"{sorted(unexplained)}: recipe_sources.yaml needs a reason for each value that differs, only.")
    return "\n".join(
        [
            "# The ImageNet recipes compared with their sources",
            "",
            "Written by `python scripts/compare_recipes.py`. A cell with = has the source's value; any other cell has",
            "its own value, with the reason below. The last column names the module of `tests/` that compares the code",
            "behind the value with the source's formulas or with timm itself.",
            "",
            *tables,
            "## Why a value differs",
            "",
            *_list(known["reasons"]),
            "",
            "## Where the value is the same but the code differs",
            "",
            *_list(known["elsewhere"]),
            "",
        ]
    )


def _table(source: Mapping[str, Any], recipes: Mapping[str, Namespace], differing: set[str]) -> str:
    names = source["recipes"]
    header = ["ingredient", "source", "where in the source", *names, "checked by"]
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
    """Return the value of an ingredient in a recipe."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", type=Path, default=REPO / "docs/recipes.md", metavar="FILE")
    target: Path = parser.parse_args().target
    known = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
    names = [name for source in known["sources"] for name in source["recipes"]]
    target.write_text(page(known, {name: load(name) for name in names}), encoding="utf-8")
