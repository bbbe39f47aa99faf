"""Features of images, computed once per model and kept on disk in parts, so that memory stays flat."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inceptionnext_lit.data.datasets import UnlabeledImages
from inceptionnext_lit.data.device_batch import RawImages, ToInput, stack_pixels
from inceptionnext_lit.data.loaders import build_loader
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Indices
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.wording import count

Precision = Literal["float32", "float16"]
SHARD = 1024  # images per file
_ABOUT = "features.json"


@dataclass(frozen=True)
class Speed:
    """How long it took to compute features.

    Attributes:
        images: Number of images.
        seconds: Duration.
        waited: Seconds of it that the model waited for images.
    """

    images: int
    seconds: float
    waited: float

    def __str__(self) -> str:
        """Describe the speed, and whether reading images or the model limits it."""
        limit = "reading images" if self.waited > self.seconds / 2 else "the model"
        return (
            f"{count(self.images, 'image')} in {self.seconds:.1f} s, {self.images / self.seconds:,.0f} images/s, "
            f"limited by {limit} (waited {self.waited / self.seconds:.0%} of the time for images)"
        )


class FeatureFiles:
    """Features of a list of images in a folder, in memory-mapped files of 1,024 images each.

    Args:
        folder: The folder, whose name should depend on weights, preprocessing and images.
        images: Number of images.
        precision: Type of the numbers on disk.
    """

    def __init__(self, folder: Path, images: int, precision: Precision) -> None:
        self.folder = folder
        self.images = images
        self.precision = precision

    def missing(self) -> list[int]:
        """Return the numbers of the files that are not there yet."""
        return [number for number in range(-(-self.images // SHARD)) if not self._path(number).is_file()]

    def extent(self, number: int) -> range:
        """Return the images of a file."""
        return range(number * SHARD, min(self.images, (number + 1) * SHARD))

    def write(self, number: int, features: NDArray[np.float32], unreadable: dict[int, str]) -> None:
        """Write a file; one that exists is complete.

        Args:
            number: The file's number.
            features: Features of its images, (n, D).
            unreadable: Its images that could not be read, and the reasons.
        """
        if unreadable:
            with replacing(self._path(number, ".unreadable.json")) as partial:
                partial.write_text(json.dumps(unreadable), encoding="utf-8")
        with replacing(self._path(number)) as partial, partial.open("wb") as file, np.errstate(over="ignore"):
            np.save(file, features.astype(self.precision), allow_pickle=False)

    def unreadable(self) -> dict[int, str]:
        """Return the images that could not be read, and the reasons."""
        found: dict[int, str] = {}
        for number in range(-(-self.images // SHARD)):
            path = self._path(number, ".unreadable.json")
            if path.is_file():
                found |= {int(key): reason for key, reason in json.loads(path.read_text(encoding="utf-8")).items()}
        return found

    def rows(self, indices: Indices) -> NDArray[np.float32]:
        """Return the features of some images, float32 (n, D).

        Raises:
            UserError: If one is NaN or infinite, or a file is damaged.
        """
        parts: NDArray[np.float32] | None = None
        numbers = indices // SHARD
        for number in np.unique(numbers).tolist():
            try:
                stored = np.load(self._path(number), mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise UserError(f"{self._path(number)} is damaged; delete it, and run the command again.") from error
            if parts is None:
                parts = np.empty((len(indices), stored.shape[1]), dtype=np.float32)
            chosen = numbers == number
            parts[chosen] = stored[indices[chosen] - number * SHARD]
        found = np.empty((0, 0), dtype=np.float32) if parts is None else parts
        if lost := int((~np.isfinite(found).all(axis=1)).sum()):
            advice = " Use --precision float32." if self.precision == "float16" else ""
            raise UserError(f"The model's features of {lost:,} of {len(found):,} images are NaN or infinite.{advice}")
        return found

    def describe(self, about: dict[str, Any]) -> None:
        """Write what the features belong to, for people."""
        with replacing(self.folder / _ABOUT) as partial:
            partial.write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _path(self, number: int, suffix: str = ".npy") -> Path:
        return self.folder / f"{number:05d}{suffix}"


def pooled_features(model: nn.Module, images: Tensor) -> Tensor:
    """Return the input of a timm model's last linear layer, (N, D): ``forward_head(…, pre_logits=True)``.

    Args:
        model: Any timm model, in eval mode.
        images: The model's input, (N, C, H, W).

    Raises:
        UserError: If the model does not pool its features.
    """
    timm_model = cast(Any, model)
    features: Tensor = timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)
    if features.ndim != 2:
        raise UserError(f"The model's features have the shape {tuple(features.shape)}, but must be pooled to (N, D).")
    return features


def extract(
    task: ClassificationTask,
    paths: PackedStrings,
    files: FeatureFiles,
    *,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    tick: Callable[[int], object] = lambda images: None,
) -> Speed | None:
    """Compute the features that are not on disk yet.

    Args:
        task: The model, with averaged weights if it has them, and its preprocessing; it is moved to the device.
        paths: The images.
        files: Where they are kept.
        device: Device to run on.
        batch_size: Images per batch.
        num_workers: Loader processes.
        tick: Called with the number of images of each batch.

    Returns:
        How long it took; None if all were there.

    Raises:
        UserError: If the task has no preprocessing, or its model does not pool its features.
    """
    if not (missing := files.missing()):
        return None
    if (preprocessing := task.preprocessing) is None:
        raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
    model = task.eval().requires_grad_(False).to(device).inference_model
    to_input = ToInput(preprocessing)
    wanted = np.concatenate([np.array(files.extent(number)) for number in missing])
    dataset = UnlabeledImages(paths.take(wanted), eval_transform(preprocessing))
    loader = build_loader(dataset, _collate, None, batch_size=batch_size, num_workers=num_workers)
    writer = _Writer(files, missing)
    start, waited = time.perf_counter(), 0.0
    batches = iter(loader)
    with torch.inference_mode():
        while True:
            before = time.perf_counter()
            batch = next(batches, None)
            waited += time.perf_counter() - before
            if batch is None:
                break
            raw, is_readable, reasons = batch
            features = None
            if raw is not None:
                images = raw.to(device).finished(to_input)
                images = images.to(memory_format=task.execution.memory_format)
                features = pooled_features(model, images).float().cpu().numpy()
            writer.add(features, is_readable, reasons)
            tick(len(is_readable))
    return Speed(len(wanted), max(time.perf_counter() - start, 1e-9), waited)


_Batch = tuple[RawImages | None, NDArray[np.bool_], list[str]]


def _collate(items: list[tuple[Tensor | str, str]]) -> _Batch:
    """Return the raw images that could be read, which ones they are, and why the others could not."""
    images = [image for image, _ in items if isinstance(image, Tensor)]
    is_readable = np.array([isinstance(image, Tensor) for image, _ in items], dtype=bool)
    return RawImages(stack_pixels(images)) if images else None, is_readable, [i for i, _ in items if isinstance(i, str)]


class _Writer:
    """Collects the features of one file at a time; images that cannot be read have zeros."""

    def __init__(self, files: FeatureFiles, numbers: Sequence[int]) -> None:
        self._files = files
        self._numbers = list(numbers)
        self._parts: list[tuple[NDArray[np.float32] | None, NDArray[np.bool_], list[str]]] = []
        self._count = 0

    def add(self, features: NDArray[np.float32] | None, is_readable: NDArray[np.bool_], reasons: list[str]) -> None:
        """Add a batch, and write the files that it completes."""
        while len(is_readable):
            extent = self._files.extent(self._numbers[0])
            taken = is_readable[: len(extent) - self._count]
            good = int(taken.sum())
            bad = len(taken) - good
            self._parts.append((None if features is None else features[:good], taken, reasons[:bad]))
            features = None if features is None else features[good:]
            is_readable, reasons = is_readable[len(taken) :], reasons[bad:]
            self._count += len(taken)
            if self._count == len(extent):
                self._flush(extent)

    def _flush(self, extent: range) -> None:
        is_readable = np.concatenate([part[1] for part in self._parts])
        found = [part[0] for part in self._parts if part[0] is not None]
        width = found[0].shape[1] if found else 1
        whole = np.zeros((len(extent), width), dtype=np.float32)
        if found:
            whole[is_readable] = np.concatenate(found)
        places = np.flatnonzero(~is_readable) + extent.start
        reasons = [reason for part in self._parts for reason in part[2]]
        self._files.write(self._numbers.pop(0), whole, dict(zip(places.tolist(), reasons, strict=True)))
        self._parts, self._count = [], 0
