"""The models of ``transfer``: published weights, files, or random weights."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.weights import save_weights
from inceptionnext_lit.reports.transfer.cells import short_hash
from inceptionnext_lit.safe_load import load_plain, read_metadata
from inceptionnext_lit.tasks.backbone import WEIGHT_SOURCES
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.loading import is_checkpoint, load_backbone, load_random, load_task
from inceptionnext_lit.training.callbacks.settings import KEY as RUN
from inceptionnext_lit.wording import printable

RANDOM = "random"
_TRUE = ("true", "True")
_SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".tar")
_ENTRY = ("architecture", "tag", "url", "file", "hf_hub_id", "hf_hub_filename")


@dataclass(frozen=True)
class TransferModel:
    """A model to transfer.

    Attributes:
        word: How it was given.
        title: What tables call it.
        weights: A file, True for published weights, or None for random ones.
        name: Its name; None if the file says it.
        identity: What tells its weights apart from others, as plain data.
    """

    word: str
    title: str
    weights: Path | bool | None
    name: str | None
    identity: dict[str, Any]

    def load(self) -> ClassificationTask:
        """Load it as a classifier with its preprocessing.

        Raises:
            UserError: If the weights cannot be read or downloaded, or do not fit.
        """
        if self.weights is None:
            return load_random(str(self.name))
        if not isinstance(self.weights, Path):
            return load_backbone(str(self.name), True)
        if self.name is not None:
            return load_backbone(self.name, str(self.weights))
        if self.weights.suffix == ".ckpt" or is_checkpoint(self.weights):
            return load_task(self.weights)[0]
        if (name := read_metadata(self.weights).get("model")) is None:
            raise UserError(
                f"{self.weights} does not say which model it belongs to; give it as NAME={printable(self.word)}."
            )
        return load_backbone(name, str(self.weights))

    def trained_on(self) -> str | None:
        """Return the folder or manifest that a checkpoint was trained on; None if unknown."""
        if not isinstance(self.weights, Path) or self.weights.suffix != ".ckpt":
            return None
        root = load_plain(self.weights, mmap=True).get(RUN, {}).get("data.root")
        return None if root is None else os.path.realpath(root)

    def start(self, task: ClassificationTask, folder: Path) -> str | bool:
        """Return the weights that fine-tuning starts from, as ``model.pretrained``: a copy without the classifier.

        Args:
            task: The model as :meth:`load` returns it.
            folder: Where the copies are kept.
        """
        if self.weights is None:
            return False
        path = folder / f"{short_hash(self.identity)}.safetensors"
        if not path.is_file():
            save_weights(task.inference_model, path, {"model": str(task.hparams["name"])}, with_classifier=False)
        return os.path.abspath(path)


def model_settings(task: ClassificationTask) -> dict[str, Any]:
    """Return the options of ``fit`` for a model's name, arguments and input, as a config.

    Args:
        task: The model.

    Raises:
        UserError: If its preprocessing is unknown.
    """
    if (found := task.preprocessing) is None:
        raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
    kwargs = {key: value for key, value in (task.hparams["kwargs"] or {}).items() if key not in WEIGHT_SOURCES}
    given = {key: value for key, value in found.items() if key != "image_size"}
    data = {"image_size": found["image_size"], "in_chans": len(found["mean"]), "input": given}
    return {"data": data, "model": {"name": task.hparams["name"]} | ({"kwargs": kwargs} if kwargs else {})}


def parse_models(words: Sequence[str]) -> list[TransferModel]:
    """Find the models that words name, without loading them.

    Args:
        words: ``NAME`` or ``NAME=true`` for published weights, ``NAME=FILE``, ``NAME=random``, a checkpoint, or a file
            of weights that says its model.

    Raises:
        UserError: If a name is unknown, a file does not exist, or a model is given twice.
    """
    repeated = [word for word, times in Counter(words).items() if times > 1]
    if repeated:
        raise UserError(f"The model {printable(repeated[0])} is given twice; leave one out.")
    models = [_parse(word) for word in words]
    titles = distinct_titles([(model.title, str(model.weights or model.word)) for model in models])
    return [
        TransferModel(one.word, title, one.weights, one.name, one.identity)
        for one, title in zip(models, titles, strict=True)
    ]


def _parse(word: str) -> TransferModel:
    path = Path(word).expanduser()
    name, has_weights, weights = word.partition("=")
    if path.is_file():
        return TransferModel(word, path.name, path, None, _of_file(path, None))
    if path.suffix.lower() in _SUFFIXES and not has_weights:
        raise UserError(f"{printable(word)} does not exist; give a checkpoint or a file of weights.")
    check_model_name(name)
    if weights == RANDOM:
        return TransferModel(word, f"{name} (random weights)", None, name, {"weights": RANDOM, "name": name, "seed": 0})
    if not has_weights or weights in _TRUE:
        entry = timm.get_pretrained_cfg(name)
        found = {} if entry is None else {key: getattr(entry, key, None) for key in _ENTRY}
        return TransferModel(word, name, True, name, {"weights": "published", "name": name, **found})
    file = Path(weights).expanduser()
    if not file.is_file():
        raise UserError(
            f"{printable(weights)} does not exist; give {name} for published weights, {name}=FILE for those of a file, "
            f"or {name}={RANDOM}."
        )
    return TransferModel(word, f"{name} ({file.name})", file, name, _of_file(file, name))


def _of_file(path: Path, name: str | None) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return {"weights": "file", "name": name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def distinct_titles(named: Sequence[tuple[str, str]]) -> list[str]:
    """Return titles that differ: equal ones get as many folders of their paths as it takes.

    Args:
        named: Pairs of a title and a path.
    """
    titles = [title for title, _ in named]
    for title in [title for title, times in Counter(titles).items() if times > 1]:
        places = [place for place, one in enumerate(titles) if one == title]
        parts = [Path(os.path.abspath(os.path.expanduser(named[place][1]))).parts for place in places]
        depths = range(2, max(map(len, parts)) + 1)
        tails = partial(_tails, parts)
        depth = next((depth for depth in depths if len(set(tails(depth))) == len(parts)), len(max(parts, key=len)))
        for place, tail in zip(places, tails(depth), strict=True):
            same = title == Path(named[place][1]).name
            titles[place] = tail if same else f"{title} ({tail})"
    return titles


def _tails(parts: Sequence[tuple[str, ...]], depth: int) -> list[str]:
    return [str(Path(*one[-depth:])) for one in parts]
