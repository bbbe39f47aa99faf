"""The default recipe of ``fit``."""

import sys

from inceptionnext_lit.cli.recipes.shipped import FOLDER

NAME = "finetune/folder"
_ROOTS = ("--data.root", "--data.init_args.root")
_CLASSES = {"model": "ClassificationTask", "data": "ImageFolderDataModule"}  # the recipe's classes


def add_default_recipe(words: list[str]) -> tuple[list[str], str | None]:
    """Add the fine-tuning recipe to a ``fit`` that names images but no recipe.

    Nothing is added if a checkpoint's path or a custom class is given, which have settings of their own.

    Args:
        words: Arguments after the program's name.

    Returns:
        The arguments, and a sentence on what was added, or None.
    """
    names_images = any(_value(words, key) is not None for key in _ROOTS)
    from_checkpoint = _value(words, "--ckpt_path") not in (None, "last")
    chosen = {
        key: _value(words, f"--{key}") or _value(words, f"--{key}.class_path") or own for key, own in _CLASSES.items()
    }
    is_own = any(chosen[key].rpartition(".")[2] != own for key, own in _CLASSES.items())
    if words[:1] != ["fit"] or not names_images or from_checkpoint or is_own or _value(words, "--config") is not None:
        return words, None
    added, without_weights = ["--config", str(FOLDER / f"{NAME}.yaml")], ""
    model = _value(words, "--model.name")
    if model is not None and _value(words, "--model.pretrained") is None and not _has_weights(model):
        added += ["--model.pretrained", "false"]
        without_weights = f", from random weights, because none are published for {model}"
    return [words[0], *added, *words[1:]], f"{NAME}, because no --config was given{without_weights}"


def say_recipe(sentence: str, words: list[str]) -> None:
    """Print which recipe is used; on stderr if the config is printed too."""
    from inceptionnext_lit.cli.runs.latest_run import say  # imports torch

    if "--print_config" in words:
        print(f"Recipe:     {sentence}", file=sys.stderr)
    else:
        say(f"Recipe:     {sentence}")


def _value(words: list[str], key: str) -> str | None:
    """Return the value after a key or its ``=``; empty if there is none, None if the key is absent."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == key:
            return following
        if word.startswith(f"{key}="):
            return word.partition("=")[2]
    return None


def _has_weights(model: str) -> bool:
    """Return whether weights are published for a model; True for an unknown one, which is reported elsewhere."""
    import timm

    config = timm.get_pretrained_cfg(model, allow_unregistered=True)
    return not timm.is_model(model) or bool(config is not None and config.has_weights)
