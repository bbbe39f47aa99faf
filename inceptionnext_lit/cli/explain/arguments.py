"""The arguments of ``explain``: which are models and which are images. This imports neither torch nor timm."""

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inceptionnext_lit.cli.explain.known_models import is_known, nearest_models
from inceptionnext_lit.data.sources.embedded import SAMPLE, unpack_sample
from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.data.sources.prepared import prepared_root
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import distinct_ends, printable

_WEIGHTS = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".tar")
_TRUE = ("true", "True")
_FALSE = ("false", "False")


@dataclass(frozen=True)
class ModelArgument:
    """A model as the command line names it.

    Attributes:
        word: How it was given.
        name: The model's name; empty if its file says it.
        weights: A file, True for published weights, False for random ones.
        end: The shortest end of the file's path that tells it from the other models' files; empty without a file.
    """

    word: str
    name: str
    weights: Path | bool
    end: str = ""


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the arguments of ``explain`` into models and images, each in their order.

    Args:
        arguments: Models: a checkpoint, a file of weights, ``NAME`` or ``NAME=WEIGHTS``. Images: a file, a folder, a
            pattern, a manifest, or ``sample``. Something that exists is not taken for a model's name.

    Raises:
        UserError: If one is neither, with the nearest model names.
    """
    models: list[str] = []
    images: list[str] = []
    for argument in arguments:
        path = os.path.expanduser(argument)
        is_weights = path.lower().endswith(_WEIGHTS) and not os.path.isdir(path)
        if argument == SAMPLE:
            images.append(argument)
        elif os.path.exists(path):
            (models if is_weights else images).append(argument)
        elif is_known(argument.partition("=")[0]):
            models.append(argument)
        elif glob.has_magic(path) and not is_weights:
            images.append(argument)
        else:
            raise UserError(_unknown(argument, is_weights=is_weights))
    return models, images


def _unknown(argument: str, *, is_weights: bool) -> str:
    """Return what is wrong with an argument that neither exists nor is a model's name."""
    shown = printable(argument) or "''"
    if is_weights:
        return f"{shown} does not exist; give a checkpoint or a file of weights."
    if os.path.splitext(argument)[1].lower() in IMAGE_SUFFIXES or os.path.dirname(argument):
        return f"{shown} does not exist; give an image, or a folder or pattern of images."
    near = nearest_models(argument.partition("=")[0])
    hint = f"did you mean {' or '.join(near)}?" if near else "check its spelling."
    return f"{shown} is neither a file, folder or pattern of images, nor a checkpoint, nor the name of a model; {hint}"


def parse_models(words: Sequence[str], pretrained: str | None) -> list[ModelArgument]:
    """Find the models that words name, without loading them.

    Args:
        words: As :func:`split_arguments` returns them.
        pretrained: The weights of names without their own: ``true``, a file for a single one, or None for random ones.

    Raises:
        UserError: If there are none, one is named twice, or a file does not exist.
    """
    if not words:
        raise UserError("Name what to explain: a checkpoint of fit, or a model such as inceptionnext_tiny=true.")
    bare = [word for word in words if "=" not in word and not os.path.exists(os.path.expanduser(word))]
    if pretrained is not None and pretrained not in (*_TRUE, *_FALSE) and len(bare) != 1:
        raise UserError(
            f"--model.pretrained {printable(pretrained)} is the file of one model, but {len(bare)} were named without "
            "weights; give each its own, as NAME=FILE."
        )
    models = [_parse_model(word, pretrained) for word in words]
    _refuse_repeated(models)
    files = [model.weights for model in models if isinstance(model.weights, Path)]
    ends = dict(zip(files, map(printable, distinct_ends(files)), strict=True))
    return [
        ModelArgument(one.word, one.name, one.weights, ends[one.weights] if isinstance(one.weights, Path) else "")
        for one in models
    ]


def _parse_model(word: str, pretrained: str | None) -> ModelArgument:
    path = Path(os.path.expanduser(word))
    if path.exists():
        return ModelArgument(word, "", path)
    name, has_weights, own = word.partition("=")
    given = own if has_weights else pretrained
    if given is None or given in _FALSE:
        return ModelArgument(word, name, False)
    if given in _TRUE:
        return ModelArgument(word, name, True)
    advice = f"give {name}=true, or {name}=FILE with a file of weights."
    if not given:
        key = f"{word} names" if has_weights else "--model.pretrained '' is empty and names"
        raise UserError(f"{printable(key)} no weights; {advice}")
    file = Path(os.path.expanduser(given))
    if not file.is_file():
        problem = "is not a file" if file.exists() else "does not exist"
        raise UserError(f"{printable(given)} {problem}; {advice}")
    return ModelArgument(word, name, file)


def _refuse_repeated(models: Sequence[ModelArgument]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for model in models:
        file = os.path.realpath(model.weights) if isinstance(model.weights, Path) else ""
        key = (file, "") if file else (model.name, str(model.weights))
        if key in seen:
            what = f"{printable(seen[key])} and {printable(model.word)} are the same model"
            if seen[key] == model.word:
                what = f"The model {printable(model.word)} is given twice"
            raise UserError(f"{what}; leave one out.")
        seen[key] = model.word


def find_images(names: Sequence[str]) -> list[str]:
    """Return the image files that the arguments match, each once, in their order.

    Args:
        names: Files, folders, patterns, manifests, or ``sample``.

    Raises:
        UserError: If there are none, or one does not match any image.
    """
    if not names:
        raise UserError("No images were named; give image files, folders or patterns.")
    places = [unpack_sample() if name == SAMPLE else prepared_root(Path(os.path.expanduser(name))) for name in names]
    return resolve_inputs([str(place) for place in places], note=lambda note: print(printable(note), file=sys.stderr))


def evenly(paths: Sequence[str], most: int) -> list[str]:
    """Return paths at even distances, so that all folders of a data set are among them.

    Args:
        paths: The paths.
        most: Maximum number of them.
    """
    number = min(most, len(paths))
    return [paths[place * len(paths) // number] for place in range(number)]
