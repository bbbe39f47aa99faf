"""Single keys of ``data.augmentation`` after a level's name, such as ``light``, change that level."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import yaml

from inceptionnext_lit.cli.recipes.recipe_yaml import load_recipe
from inceptionnext_lit.cli.recipes.shipped import recipe_text
from inceptionnext_lit.data import ImageFolderDataModule, SegmentationDataModule
from inceptionnext_lit.data.transforms.augmentation import LEVELS
from inceptionnext_lit.data.transforms.segmentation import SEGMENTATION_LEVELS
from inceptionnext_lit.errors import UserError

_KEY = "data.augmentation"
_GROUPS = ("data", "data.init_args", _KEY, "data.init_args.augmentation")
_LEVELS: dict[type, Mapping[Any, Any]] = {
    ImageFolderDataModule: LEVELS,
    SegmentationDataModule: SEGMENTATION_LEVELS,
}


def spell_out_levels(words: list[str], data: type, level: Any = None) -> list[str]:
    """Insert a level's values before the first single key that follows its name.

    jsonargparse would start from the defaults of the augmentation's class, whose values are another level's.

    Args:
        words: Arguments after the program's name, recipes as paths.
        data: The data module's class.
        level: The level, or other value, that the arguments start from, such as a checkpoint's.

    Returns:
        The arguments.
    """
    levels: Mapping[Any, Any] = next((levels for cls, levels in _LEVELS.items() if issubclass(data, cls)), {})
    spelled: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        for value in _settings(word, following):
            if isinstance(value, dict) and isinstance(level, str) and level in levels:
                spelled.append(f"--{_KEY}={json.dumps(asdict(levels[level]))}")
            level = value if isinstance(value, str) else None
        spelled.append(word)
    return spelled


def _settings(word: str, following: str) -> Iterator[Any]:
    """Yield what an argument sets the augmentation to: a level's name, or a dictionary of single keys."""
    key, equals, text = word.partition("=")
    key = key.removeprefix("--")
    text = text if equals else following
    if word.startswith("--") and key.replace(".init_args.", ".").startswith(f"{_KEY}."):
        yield {}
    if not word.startswith("--") or key not in ("config", *_GROUPS):
        return
    try:
        value = load_recipe(recipe_text(text), text) if key == "config" else load_recipe(text)
    except (OSError, UserError, yaml.YAMLError):  # the parser says what is wrong with it
        return
    yield from _found(value if key == "config" and isinstance(value, dict) else {key: value})


def _found(values: dict[str, Any], prefix: str = "") -> Iterator[Any]:
    for key, value in values.items():
        path = f"{prefix}.{key}".removeprefix(".").replace(".init_args", "")
        if path == _KEY:
            yield value
        elif path.startswith(f"{_KEY}."):
            yield {}
        elif isinstance(value, dict):
            yield from _found(value, path)
