"""Data sets of images with masks, and the collation of their items into batches."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from inceptionnext_lit.data.decode.bad_images import BadImages
from inceptionnext_lit.data.decode.image import failure_reason
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.device_batch import RawImages, ToInput, stack_pixels
from inceptionnext_lit.data.masks.scheme import Scheme
from inceptionnext_lit.data.samplers import Draw
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.transforms.segmentation import Crop, TestScale, TrainingCrop
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED, Preprocessing, Size
from inceptionnext_lit.seeding import seed_generators


class Scenes(NamedTuple):
    """A batch for evaluation: N images of any sizes, with their masks.

    Attributes:
        images: N images at the test scale, float32 (C, h, w), normalized. From the loader, pixels.
        masks: N masks of the images' own sizes, class indices, uint8 (H, W); 255 is ignored. The mask of an image that
            pads a rank's share is all 255.
        paths: The N files.
    """

    images: list[Tensor]
    masks: list[Tensor]
    paths: list[str]


class UnlabeledScenes(NamedTuple):
    """A batch for prediction: N images that could be read, and the files that could not.

    Attributes:
        images: N images at the test scale, float32 (C, h, w), normalized. From the loader, pixels.
        sizes: Height and width of each file.
        paths: The N files.
        unreadable: The path of each other file, and the reason.
    """

    images: list[Tensor]
    sizes: list[Size]
    paths: list[str]
    unreadable: list[tuple[str, str]]


class PaddedImages(RawImages):
    """Training crops that images may not cover; what they do not cover is 0 after the normalization.

    Attributes:
        inside: Height and width of the part, at the top left, that each image covers.
    """

    def __init__(self, pixels: Tensor, inside: Sequence[Size]) -> None:
        super().__init__(pixels)
        self.inside = list(inside)

    def pin_memory(self) -> Self:
        """Return the same images in pinned memory."""
        return type(self)(self.pixels.pin_memory(), self.inside)

    def to(self, device: torch.device) -> Self:
        """Return the same images on a device, without synchronizing a GPU."""
        return type(self)(self.pixels.to(device, non_blocking=device.type == "cuda"), self.inside)

    def finished(self, to_input: ToInput, *, with_erasing: bool = True) -> Tensor:
        """Return the model's input, float32 (N, C, H, W), normalized."""
        images = to_input(self.pixels)
        for image, (height, width) in zip(images, self.inside, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return images


class SceneInput:
    """Normalize images of any sizes: ``(pixels / 255 - mean) / std``.

    Args:
        preprocessing: Contains the mean and standard deviation of each channel.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._spread = [torch.tensor(preprocessing[key]).view(-1, 1, 1) for key in ("mean", "std")]
        self._on: dict[torch.device, tuple[Tensor, ...]] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the input in float32.

        Args:
            pixels: Shape (C, H, W), uint8 or float32 in [0, 1].
        """
        device = pixels.device
        if device not in self._on:  # a tensor, since GPUs divide inexactly by a Python number
            self._on[device] = tuple(one.to(device) for one in (torch.tensor(255.0), *self._spread))
        white, mean, std = self._on[device]
        scaled = pixels.float().div_(white) if pixels.dtype == torch.uint8 else pixels.clone()
        return scaled.sub_(mean).div_(std)


class TrainingScenes(Dataset[Crop]):
    """Random crops of images with masks, whose draws depend only on seed, epoch, index and repeat.

    Args:
        samples: The images, with the classes of their masks.
        masks: The mask file of each.
        scheme: Reads masks.
        transform: Crops an image with its mask.
        skip: Records images that cannot be read; the next image is then used instead. None makes them an error.

    Attributes:
        seed: The run's seed; None to use the generators as they are.
    """

    def __init__(
        self,
        samples: Samples,
        masks: PackedStrings,
        scheme: Scheme,
        transform: TrainingCrop,
        max_pixels: int = MAX_PIXELS,
        *,
        skip: BadImages | None = None,
    ) -> None:
        self.samples = samples
        self.masks = masks
        self.scheme = scheme
        self.transform = transform
        self.max_pixels = max_pixels
        self.skip = skip
        self.seed: int | None = None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> Crop:
        """Return one crop."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Draw]) -> list[Crop]:
        """Return several crops."""
        draws = [key if isinstance(key, Draw) else Draw(key) for key in keys]
        if self.seed is None or get_worker_info() is not None:  # a loader process has its own generators
            return [self._load(draw) for draw in draws]
        with isolate_rng(include_cuda=False):
            return [self._load(draw) for draw in draws]

    def _load(self, draw: Draw) -> Crop:
        for following in range(draw.image, draw.image + len(self.samples)):
            place = following % len(self.samples)
            path = self.samples.paths[place]
            if self.seed is not None:
                seed_generators(self.seed, "augmentation", draw.epoch, draw.image, draw.repeat)
            mask = self.scheme.read(self.masks[place], self.max_pixels)
            try:
                return self.transform.read(path, mask)
            except UserError as error:
                if self.skip is None:
                    raise
                self.skip.note(path, error)
        raise UserError("None of the training images can be read. Check the folder with the subcommand doctor.")


class EvaluatedScenes(Dataset[tuple[Tensor, Tensor, str]]):
    """Whole images at the test scale, with masks of their own sizes.

    Args:
        samples: The images, with the classes of their masks.
        masks: The mask file of each.
        scheme: Reads masks.
        transform: Resizes an image.
        max_pixels: Maximum number of pixels of a mask.
    """

    def __init__(
        self,
        samples: Samples,
        masks: PackedStrings,
        scheme: Scheme,
        transform: TestScale,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.samples = samples
        self.masks = masks
        self.scheme = scheme
        self.transform = transform
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Tensor, str]:
        """Return the pixels (C, h, w), the mask (H, W), and the path; for padding, all of the mask is ignored."""
        draw = key if isinstance(key, Draw) else Draw(key)
        path = self.samples.paths[draw.image]
        pixels, size = self.transform.read(path)
        mask = self.scheme.read(self.masks[draw.image], self.max_pixels)
        if mask.shape != size:
            raise UserError(
                f"The mask of {path} has {mask.shape[1]}×{mask.shape[0]} pixels, and the image {size[1]}×{size[0]}; "
                "give both the same size."
            )
        return pixels, torch.from_numpy(mask if draw.counts else np.full_like(mask, IGNORED)), path


class PredictedScenes(Dataset[tuple[Tensor | str, Size, str]]):
    """Whole images at the test scale; an image that cannot be read is not an error.

    Args:
        paths: Path of each image.
        transform: Resizes an image.
    """

    def __init__(self, paths: Sequence[str], transform: TestScale) -> None:
        self.transform = transform
        self.keep(paths)

    def keep(self, paths: Sequence[str]) -> None:
        """Replace the images of the data set."""
        self.paths = PackedStrings.of(paths)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor | str, Size, str]:
        """Return the pixels (C, h, w), or the reason why the image cannot be read, its height and width, and path."""
        path = self.paths[index]
        try:
            return *self.transform.read(path), path
        except Exception as error:
            return failure_reason(error), (0, 0), path


def collate_crops(items: Sequence[Crop]) -> tuple[PaddedImages, Tensor]:
    """Collate a training batch: the crops, and their masks, uint8 (N, H, W)."""
    pixels, masks, inside = zip(*items, strict=True)
    stacked: Tensor = default_collate(list(masks))
    return PaddedImages(stack_pixels(pixels), inside), stacked


def collate_scenes(items: Sequence[tuple[Tensor, Tensor, str]]) -> Scenes:
    """Collate a batch for evaluation."""
    images, masks, paths = zip(*items, strict=True)
    return Scenes(list(images), list(masks), list(paths))


def collate_predicted(items: Sequence[tuple[Tensor | str, Size, str]]) -> UnlabeledScenes:
    """Collate a batch for prediction."""
    readable = [(image, size, path) for image, size, path in items if isinstance(image, Tensor)]
    unreadable = [(path, image) for image, _, path in items if isinstance(image, str)]
    return UnlabeledScenes(
        [image for image, _, _ in readable],
        [size for _, size, _ in readable],
        [path for _, _, path in readable],
        unreadable,
    )


def finish_scenes(batch: Any, to_input: SceneInput, convert: Any) -> Any:
    """Normalize the images of an evaluated or predicted batch, on the batch's device.

    Args:
        batch: The batch.
        to_input: Normalizes the pixels.
        convert: Applies the trainer's precision.
    """
    return batch._replace(images=[convert(to_input(pixels)) for pixels in batch.images])
