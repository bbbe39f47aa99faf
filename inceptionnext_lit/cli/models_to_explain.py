"""The arguments of ``explain``: which are models and which are images, and the models that they name."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm

from inceptionnext_lit.data.class_words import first_word, with_words
from inceptionnext_lit.data.sources.embedded import SAMPLE
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import model_names
from inceptionnext_lit.models.variants import is_model
from inceptionnext_lit.safe_load import load_plain, read_metadata
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.loading import load_published, load_random, load_task
from inceptionnext_lit.wording import did_you_mean, listed, printable

_WEIGHTS = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".tar")
_TRUE = ("true", "True")


@dataclass(frozen=True)
class Model:
    """A classifier to explain.

    Attributes:
        title: Its name and its weights, for figures and tables.
        task: The classifier, in eval mode.
    """

    title: str
    task: ClassificationTask

    def class_index(self, wanted: str) -> int:
        """Return the index of a class.

        Args:
            wanted: Its name, its readable name for ImageNet's classes, or its index.

        Raises:
            UserError: If there is no such class, with the nearest names.
        """
        names = self.task.class_names
        readable = [first_word(name) for name in names]
        for known in (names, readable):
            if wanted in known:
                return known.index(wanted)
        if wanted.isdecimal() and int(wanted) < len(names):
            return int(wanted)
        hint = did_you_mean(
            wanted,
            dict.fromkeys([*names, *readable]),
            otherwise=f"it has {listed(readable)}, or give an index from 0 to {len(names) - 1}.",
        )
        raise UserError(f"{self.title} has no class {wanted!r}; {hint}")

    def class_title(self, index: int) -> str:
        """Return the name of a class for a title, with its word: ``n02123045 (tabby)``."""
        return with_words(self.task.class_names[index])


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the arguments of ``explain`` into models and images, each in their order.

    Args:
        arguments: Models: a checkpoint, a file of weights, ``NAME`` or ``NAME=WEIGHTS``. Images: a file, a folder, a
            pattern, a manifest, or ``sample``. Something that exists is not taken for a model's name.

    Raises:
        UserError: If one is neither, with the nearest model names.
    """
    models, images = [], []
    for argument in arguments:
        path = os.path.expanduser(argument)
        is_weights = path.lower().endswith(_WEIGHTS)
        if argument == SAMPLE or (os.path.exists(path) and not is_weights):
            images.append(argument)
        elif is_weights and "=" not in argument and not glob.has_magic(path):
            if not os.path.exists(path):
                raise UserError(f"{printable(argument)} does not exist; give a checkpoint or a file of weights.")
            models.append(argument)
        elif is_model(argument.partition("=")[0]):
            models.append(argument)
        elif glob.has_magic(path):
            images.append(argument)
        else:
            hint = did_you_mean(
                argument.partition("=")[0], [*model_names(), *timm.list_models()], otherwise="check its spelling."
            )
            raise UserError(
                f"{printable(argument)} is neither a file, folder or pattern of images, nor a checkpoint, nor the name "
                f"of a model; {hint}"
            )
    return models, images


def load_models(words: Sequence[str], pretrained: str | None, seed: int = 0) -> list[Model]:
    """Load the models to explain.

    Args:
        words: As :func:`split_arguments` returns them.
        pretrained: The weights of names without their own: ``true``, a file for a single one, or None for random ones.
        seed: Seed of random weights.

    Raises:
        UserError: If there are none, or one cannot be loaded.
    """
    if not words:
        raise UserError("Name what to explain: a checkpoint of fit, or a model such as inceptionnext_tiny=true.")
    bare = [word for word in words if is_model(word) and "=" not in word]
    chosen: str | None = None if pretrained in (None, "false", "False") else pretrained
    if chosen is not None and chosen not in _TRUE and len(bare) != 1:
        raise UserError(
            f"--model.pretrained {chosen} is the file of one model, but {len(bare)} were named without weights; give "
            "each its own, as NAME=FILE."
        )
    models = [_load(word, chosen, seed) for word in words]
    for model in models:
        model.task.eval().requires_grad_(False)
    return models


def _load(word: str, pretrained: str | None, seed: int) -> Model:
    path = Path(word).expanduser()
    name, has_weights, weights = word.partition("=")
    if path.exists():
        return _from_file(path)
    given = weights if has_weights else pretrained
    if given is None or given in ("false", "False"):
        return Model(f"{name} (random weights)", load_random(name, seed))
    if given in _TRUE:
        return Model(name, load_published(name, True))
    if not Path(given).expanduser().exists():
        raise UserError(f"{printable(given)} does not exist; give {name}=true, or {name}=FILE with a file of weights.")
    model = Model(f"{name} ({Path(given).name})", load_published(name, given))
    if (own := str(model.task.hparams["name"])) != name:
        raise UserError(f"{printable(given)} is a checkpoint of {own}, not of {name}; give it without {name}=.")
    return model


def _from_file(path: Path) -> Model:
    if path.suffix == ".ckpt" or "hyper_parameters" in load_plain(path, mmap=True):
        return Model(path.name, load_task(path)[0])
    name = read_metadata(path).get("model")
    if name is None:
        raise UserError(f"{path} does not say which model it belongs to; give it as NAME={path}.")
    return Model(f"{name} ({path.name})", load_published(name, str(path)))
