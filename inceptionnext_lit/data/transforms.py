"""From an RGB image to a model's input: augmented for training, plain for evaluation."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_choices, rand_augment_ops
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation, str_to_pil_interp
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.functional import to_tensor

from inceptionnext_lit.data.augmentation import Augmentation
from inceptionnext_lit.data.checks import check
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing

Transform = Callable[[Image.Image | Tensor], Tensor]
"""From an image as :func:`load_image` gives it to a model's input, float32 (C, S, S)."""

_RAND_AUGMENT_PROB = 0.5  # timm's, under which DeiT's 9/0.5 is meant


def input_format(
    image_size: int, in_chans: int, crop_pct: float, mean: list[float] | None, std: list[float] | None
) -> Preprocessing:
    """The evaluation transform as plain data, from the keys of the data module.

    Args:
        image_size: Side of the images that the model gets, in pixels.
        in_chans: Their channels.
        crop_pct: Share of the resized image's shorter side that the centre crop keeps.
        mean: Mean per channel; None for ImageNet's, averaged where the images are not RGB.
        std: Standard deviation per channel; None for ImageNet's, likewise.

    Raises:
        UserError: If a value is out of its range.
    """
    check("image_size", image_size, image_size >= 1, "1 pixel or more")
    check("in_chans", in_chans, in_chans >= 1, "1 channel or more")
    check("crop_pct", crop_pct, 0 < crop_pct <= 1, "above 0 and at most 1")
    mean = _per_channel(IMAGENET_DEFAULT_MEAN, in_chans) if mean is None else mean
    std = _per_channel(IMAGENET_DEFAULT_STD, in_chans) if std is None else std
    check("mean", mean, len(mean) == in_chans, f"{in_chans} numbers, one per channel")
    check("std", std, len(std) == in_chans and min(std) > 0, f"{in_chans} numbers above 0, one per channel")
    return Preprocessing(image_size=image_size, crop_pct=crop_pct, interpolation="bicubic", mean=mean, std=std)


def _per_channel(of_rgb: tuple[float, ...], channels: int) -> list[float]:
    return list(of_rgb) if channels == 3 else [round(sum(of_rgb) / len(of_rgb), 4)] * channels


def train_transform(augmentation: Augmentation, preprocessing: Preprocessing) -> Transform:
    """Builds the training transform: from an image to a float32 tensor (C, S, S).

    Args:
        augmentation: What is drawn at random.
        preprocessing: The evaluation transform, whose size, mean and standard deviation hold here too.

    Raises:
        UserError: If the images have other channels than RGB and RandAugment or colour jitter is on.
    """
    size = preprocessing["image_size"]
    channels = len(preprocessing["mean"])
    if channels != 3 and (augmentation.rand_augment_magnitude is not None or augmentation.color_jitter > 0):
        raise UserError(
            f"RandAugment and colour jitter are for RGB images, not for {channels} channels (data.in_chans); choose "
            "--data.augmentation light, or switch data.augmentation.rand_augment_magnitude and .color_jitter off."
        )
    steps: list[Any] = []
    if augmentation.pad_crop or augmentation.scale is None:
        steps += _resize_and_crop(preprocessing, crop_pct=1.0 if augmentation.pad_crop else preprocessing["crop_pct"])
    else:
        steps.append(_RandomCrop(size, augmentation))
    if augmentation.pad_crop:
        steps.append(v2.RandomCrop(size, padding=augmentation.pad_crop))
    steps.append(v2.RandomHorizontalFlip(augmentation.hflip))
    if augmentation.rand_augment_magnitude is not None:
        steps.append(rand_augment(augmentation, preprocessing["mean"]))
    elif augmentation.color_jitter > 0:
        steps.append(v2.ColorJitter(*[augmentation.color_jitter] * 3))
    steps += [_to_tensor, v2.Normalize(preprocessing["mean"], preprocessing["std"])]
    steps.append(RandomErasing(augmentation.erasing, mode="pixel", device="cpu"))
    transform: Transform = v2.Compose(steps)
    return transform


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Builds the evaluation transform: from an image to a float32 tensor (C, S, S).

    The shorter side is resized to ``image_size / crop_pct`` pixels, rounded down, and the centre is kept.
    """
    steps = _resize_and_crop(preprocessing, preprocessing["crop_pct"])
    steps += [_to_tensor, v2.Normalize(preprocessing["mean"], preprocessing["std"])]
    transform: Transform = v2.Compose(steps)
    return transform


def rand_augment(augmentation: Augmentation, mean: list[float]) -> Callable[[Image.Image], Image.Image]:
    """Builds timm's RandAugment, of which no operation fails on any magnitude.

    timm's posterize operations come down to keeping 0 bits, on which Pillow raises ValueError; here they
    keep at least one.

    Args:
        augmentation: Its ``rand_augment_*`` and ``interpolation`` are used; the magnitude is not ``None``.
        mean: Mean per channel in [0, 1], with which uncovered corners are filled.
    """
    hparams: dict[str, Any] = {
        "img_mean": tuple(min(255, round(255 * value)) for value in mean),
        "magnitude_std": augmentation.rand_augment_std,
    }
    if augmentation.interpolation != "random":
        hparams["interpolation"] = str_to_pil_interp(augmentation.interpolation)
    names = rand_augment_choices("", increasing=augmentation.rand_augment_increasing)
    ops = rand_augment_ops(augmentation.rand_augment_magnitude, _RAND_AUGMENT_PROB, hparams, names)
    for op in ops:
        if op.name in ("Posterize", "PosterizeIncreasing"):
            op.level_fn = partial(_at_least_one_bit, op.level_fn)
    transform: Callable[[Image.Image], Image.Image] = RandAugment(ops, augmentation.rand_augment_num_ops)
    return transform


def _at_least_one_bit(
    level_fn: Callable[[float, dict[str, Any]], tuple[int]], level: float, hparams: dict[str, Any]
) -> tuple[int]:
    return (max(1, level_fn(level, hparams)[0]),)


class _RandomCrop:
    """timm's crop, whose filter may be random, for pictures; torchvision's for tensors."""

    def __init__(self, size: int, augmentation: Augmentation) -> None:
        scale, ratio = augmentation.scale, augmentation.ratio
        self._of_pictures = RandomResizedCropAndInterpolation(size, scale, ratio, augmentation.interpolation)
        self._of_tensors = v2.RandomResizedCrop(size, scale, ratio, InterpolationMode.BICUBIC)

    def __call__(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        crop = self._of_tensors if isinstance(image, Tensor) else self._of_pictures
        return cast(Image.Image | Tensor, crop(image))


def _to_tensor(image: Image.Image | Tensor) -> Tensor:
    return image if isinstance(image, Tensor) else cast(Tensor, to_tensor(image))


def _resize_and_crop(preprocessing: Preprocessing, crop_pct: float) -> list[Any]:
    size = preprocessing["image_size"]
    interpolation = InterpolationMode(preprocessing["interpolation"])
    return [v2.Resize(math.floor(size / crop_pct), interpolation), v2.CenterCrop(size)]
