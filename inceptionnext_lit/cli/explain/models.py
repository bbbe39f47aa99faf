"""The models that ``explain`` is called with: classifiers and segmentation models."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inceptionnext_lit.cli.explain.arguments import ModelArgument
from inceptionnext_lit.data.class_words import first_word, with_words
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.hub import NoWeightsError
from inceptionnext_lit.reports.explain.attribution import Method, find_layer
from inceptionnext_lit.reports.explain.measure import read_image
from inceptionnext_lit.reports.explain.regions import find_region_layer, read_scene
from inceptionnext_lit.safe_load import load_plain, read_metadata
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.loading import (
    is_segmentation,
    load_published,
    load_random,
    load_segmentation_task,
    load_task,
)
from inceptionnext_lit.tasks.segmentation import SegmentationTask
from inceptionnext_lit.wording import did_you_mean, listed, printable


@dataclass(frozen=True)
class Model:
    """A classifier or a segmentation model to explain.

    Attributes:
        title: Its name and its weights, for figures and tables; printable.
        task: The model, in eval mode, with preprocessing.
    """

    title: str
    task: ClassificationTask | SegmentationTask

    @property
    def classifier(self) -> ClassificationTask:
        """The task of a classifier; raises UserError for a segmentation model."""
        if isinstance(self.task, SegmentationTask):
            raise UserError(
                f"{self.title} is a segmentation model, and --spectrum measures classifiers; give a checkpoint of its "
                "backbone's classifier."
            )
        return self.task

    def read(self, path: str) -> Tensor:
        """Read an image as the model takes it.

        Args:
            path: The image file.

        Returns:
            The pixels, (C, H, W).

        Raises:
            UserError: If it cannot be read.
        """
        if isinstance(self.task, ClassificationTask):
            return read_image(self.task, path)
        assert self.task.preprocessing is not None  # checked when it was loaded
        return read_scene(self.task.preprocessing, path)

    def class_index(self, wanted: str) -> int:
        """Return the index of a class.

        Args:
            wanted: Its name, its readable name for ImageNet's classes, or its index.

        Raises:
            UserError: If there is no such class, with the nearest names, or several have the readable name.
        """
        names = self.task.class_names
        readable = [first_word(name) for name in names]
        for known in (names, readable):
            found = [number for number, name in enumerate(known) if name == wanted]
            if len(found) > 1:
                both = " or ".join(f"{printable(names[number])} ({number})" for number in found)
                raise UserError(f"{len(found)} classes of {self.title} are called {wanted!r}; give {both}.")
            if found:
                return found[0]
        valid = f"an index from 0 to {len(names) - 1}"
        with suppress(ValueError):
            if 0 <= int(wanted) < len(names):
                return int(wanted)
            raise UserError(f"{self.title} has no class {int(wanted)}; give a name, or {valid}.")
        hint = did_you_mean(
            wanted, dict.fromkeys([*names, *readable]), otherwise=f"it has {listed(readable)}, or give {valid}."
        )
        raise UserError(f"{self.title} has no class {wanted!r}; {hint}")

    def class_title(self, index: int) -> str:
        """Return the printable name of a class for a title, with its word: ``n02123045 (tabby)``."""
        return printable(with_words(self.task.class_names[index]))

    def find_layer(self, method: Method, layer: str | None, *, shared: bool) -> str | None:
        """Return the layer that maps are computed for, or None if the method has none.

        Args:
            method: The method.
            layer: The layer, if one was given.
            shared: Whether it was given for other models too.

        Raises:
            UserError: If it cannot be explained, with the model's title.
        """
        try:
            if isinstance(self.task, SegmentationTask):
                return find_region_layer(self.task, method, layer)
            return find_layer(self.task, method, layer)
        except UserError as error:
            advice = " Give --layer once per model, in their order." if shared and layer is not None else ""
            raise UserError(f"{self.title}: {error}{advice}") from error


def load_models(
    models: Sequence[ModelArgument], seed: int, device: str | None, class_names: Sequence[str] | None = None
) -> list[Model]:
    """Load the models to explain.

    Args:
        models: The models.
        seed: Seed of random weights.
        device: Where they are computed; None for a GPU if there is one.
        class_names: The names of the classes of models with published weights or ``NAME=FILE``; None for those that
            the weights have.

    Raises:
        UserError: If names are given but have no use, one cannot be loaded, does not say how images are prepared, or
            the device cannot be used.
    """
    place = _usable(device)
    loaded = []
    if class_names is not None and not any(model.name and model.weights for model in models):
        raise UserError("--data.class_names is for weights without names, as NAME=FILE or NAME=true; leave it out.")
    for model in models:
        one = _load(model, seed, class_names)
        if one.task.preprocessing is None:
            raise UserError(f"{one.title} does not say how its images were prepared; use a checkpoint written by fit.")
        one.task.eval().requires_grad_(False).to(place)
        loaded.append(one)
    return loaded


def _usable(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"The device {name!r} cannot be used here; leave out --device, or give cpu.") from error
    return device


def _load(model: ModelArgument, seed: int, class_names: Sequence[str] | None) -> Model:
    name = model.name
    if isinstance(model.weights, Path):
        return _from_file(model, model.weights) if not name else _with_weights(model, model.weights, class_names)
    if not model.weights:
        return Model(f"{name} (random weights)", load_random(name, seed))
    try:
        return Model(name, load_published(name, True, class_names))
    except NoWeightsError as error:
        raise UserError(
            f"{error.problem}; give the file of its weights as {name}=FILE, or {name} alone for random weights."
        ) from error


def _with_weights(model: ModelArgument, path: Path, class_names: Sequence[str] | None) -> Model:
    task = load_published(model.name, str(path), class_names)
    if (own := str(task.hparams["name"])) != model.name:
        raise UserError(f"{path} is a checkpoint of {own}, not of {model.name}; give it without {model.name}=.")
    return Model(f"{model.name} ({model.end})", task)


def _from_file(model: ModelArgument, path: Path) -> Model:
    if path.suffix == ".ckpt" or "hyper_parameters" in load_plain(path, mmap=True):
        return Model(model.end, load_segmentation_task(path)[0] if is_segmentation(path) else load_task(path)[0])
    name = read_metadata(path).get("model")
    if name is None:
        raise UserError(f"{path} does not say which model it belongs to; give it as NAME={path}.")
    return Model(f"{printable(name)} ({model.end})", load_published(name, str(path)))
