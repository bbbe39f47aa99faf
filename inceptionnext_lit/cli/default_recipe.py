"""The recipe that a training takes when its command line names none."""

import sys

from inceptionnext_lit.cli.recipes import FOLDER

NAME = "finetune/folder"
_ROOTS = ("--data.root", "--data.init_args.root")
_CLASSES = {"model": "ClassificationTask", "data": "ImageFolderDataModule"}  # which the recipe is for


def add_default_recipe(words: list[str]) -> tuple[list[str], str | None]:
    """Add the recipe for one's own images to a ``fit`` that names images and no recipe.

    A checkpoint's own settings are kept, where one is given by its path, and so are those of a module of one's own.

    Args:
        words: Words after the program's name.

    Returns:
        The words, and a sentence on what was added; None if nothing was.
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
    """Print which recipe was taken; beside a configuration that is printed, on stderr."""
    from inceptionnext_lit.cli.latest_run import say  # torch comes with it

    if "--print_config" in words:
        print(f"Recipe:     {sentence}", file=sys.stderr)
    else:
        say(f"Recipe:     {sentence}")


def _value(words: list[str], key: str) -> str | None:
    """What follows a key, also after ``=``; empty if nothing does, None if it is not there."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == key:
            return following
        if word.startswith(f"{key}="):
            return word.partition("=")[2]
    return None


def _has_weights(model: str) -> bool:
    """Whether weights are published for a model; also of an unknown one, which gets an error of its own."""
    import timm

    config = timm.get_pretrained_cfg(model, allow_unregistered=True)
    return not timm.is_model(model) or bool(config is not None and config.has_weights)
