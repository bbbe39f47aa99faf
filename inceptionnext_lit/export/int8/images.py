"""The images of calibration and of the accuracy check, as the exported file takes them."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import Tensor

from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.sources.embedded import data_folder
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.data.transforms.pipeline import eval_transform, reader
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.wrapper import ExportedModel
from inceptionnext_lit.wording import count

_MEMORY = 2**30  # bytes of images that are kept; others are read again
_AHEAD = 64  # images that are read at a time
_THREADS = 4


def draw(paths: Sequence[str], most: int) -> list[str]:
    """Return some of the paths, the same ones each time, in their order.

    Args:
        paths: The paths.
        most: How many to return at most.
    """
    if len(paths) <= most:
        return list(paths)
    chosen = sorted(random.Random(0).sample(range(len(paths)), most))
    return [paths[place] for place in chosen]


def training_images(folder: str, channels: int) -> list[str]:
    """Return the images of a folder to calibrate on: those of its training split if it has one, otherwise all.

    Args:
        folder: A folder, a pattern or a manifest; ``sample`` for the embedded images.
        channels: Channels of the model's input.

    Raises:
        UserError: If there are none.
    """
    root = ImageRoot(folder, channels)
    try:
        if root.source.has_splits and (samples := root.source.samples("train", None)) is not None:
            return list(samples.paths)
    except UserError:
        pass  # not a data set
    return resolve_inputs([str(data_folder(folder))], image_suffixes(channels))


class Reader:
    """Reads images as an exported file takes them, and keeps them as far as there is memory.

    Args:
        model: The exported module.
        sizes: Whether the file takes images of any size, and resizes them.
    """

    def __init__(self, model: ExportedModel, *, sizes: bool) -> None:
        preprocessing = model.preprocessing.copy()
        preprocessing.pop("exif", None)  # as in the predict command
        self._load, self._transform = reader(preprocessing), eval_transform(preprocessing)
        self._to_input = ToInput(preprocessing)
        self._takes, self._whole = model.takes, sizes and model.takes == "pixels"
        self._kept: dict[str, np.ndarray] = {}
        self._memory = _MEMORY

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, np.ndarray | UserError]]:
        """Yield images with their paths; for one that cannot be read, the reason.

        Args:
            paths: The files.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(paths), _AHEAD):
                chunk = paths[start : start + _AHEAD]
                for path, image in zip(chunk, pool.map(self._input, chunk), strict=True):
                    if path not in self._kept and isinstance(image, np.ndarray) and image.nbytes <= self._memory:
                        self._kept[path] = image
                        self._memory -= image.nbytes
                    yield path, image

    def _input(self, path: str) -> np.ndarray | UserError:
        if path in self._kept:
            return self._kept[path]
        try:
            picture = self._load(path)
        except UserError as error:
            return error
        if self._whole:
            return np.asarray(picture)
        pixels: Tensor = self._transform(picture)
        if self._takes == "pixels":
            return pixels.permute(1, 2, 0).contiguous().numpy()
        return self._to_input(stack_pixels([pixels]))[0].contiguous().numpy()


class FileImages:
    """Images on disk as inputs of an exported file.

    Args:
        paths: The images, all of which can be read.
        reader: Reads them.
    """

    def __init__(self, paths: Sequence[str], reader: Reader) -> None:
        self.paths = list(paths)
        self._reader = reader

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, size: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield positions of images of the same size, and the images.

        Args:
            size: Images per batch, at most.
        """
        for start in range(0, len(self.paths), _AHEAD):
            groups: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = defaultdict(list)
            for place, (path, image) in enumerate(self._reader.read(self.paths[start : start + _AHEAD])):
                if isinstance(image, UserError):
                    raise UserError(f"{path} was changed during the export; start again.") from image
                groups[image.shape].append((start + place, image))
            for members in groups.values():
                for first in range(0, len(members), size):
                    part = members[first : first + size]
                    yield [place for place, _ in part], np.stack([image for _, image in part])

    def first(self, number: int) -> "FileImages":
        """Return some of the images, evenly spread.

        Args:
            number: How many, at most.
        """
        kept = min(number, len(self))
        return FileImages([self.paths[place * len(self) // kept] for place in range(kept)], self._reader)


def readable(paths: Sequence[str], reader: Reader, name: str) -> tuple[FileImages, list[str]]:
    """Return the images that can be read, and a sentence about the others, if any.

    Args:
        paths: The files.
        reader: Reads them.
        name: What they are for, in messages.

    Raises:
        UserError: If none can be read.
    """
    found: list[str] = []
    lost: list[UserError] = []
    for path, image in reader.read(paths):
        if isinstance(image, UserError):
            lost.append(image)
        else:
            found.append(path)
    if not found:
        raise UserError(f"None of {count(len(paths), 'image')} of {name} could be read. {lost[0]}") from lost[0]
    note = [f"{count(len(lost), 'image')} of {name} could not be read and were left out. {lost[0]}"] if lost else []
    return FileImages(found, reader), note
