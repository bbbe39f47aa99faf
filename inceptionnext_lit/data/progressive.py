"""Progressive image size: small training images in the first epochs, larger ones later (EfficientNetV2's idea)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inceptionnext_lit.data.checks import check
from inceptionnext_lit.data.transforms.augmentation import Augmentation
from inceptionnext_lit.data.transforms.pipeline import Transform, train_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing, Size


@dataclass(frozen=True)
class ProgressiveSize:
    """The sizes of training images, each for an equal share of the epochs (EfficientNetV2, arXiv 2104.00298).

    Attributes:
        sizes: Height and width in each stage, from the smallest to the largest.
        epochs: The epochs of the run, at least as many as stages.
    """

    sizes: tuple[Size, ...]
    epochs: int

    def stage(self, epoch: int) -> int:
        """Return the stage of an epoch; epochs after the last one belong to the last stage."""
        return min(epoch * len(self.sizes) // self.epochs, len(self.sizes) - 1)

    def size(self, epoch: int) -> Size:
        """Return the height and width of the training images of an epoch."""
        return self.sizes[self.stage(epoch)]

    def batches_at_once(self, epoch: int, accumulated: int) -> int:
        """Return how many of a step's accumulated batches fit into one batch of an epoch.

        Their pixels are at most those of one batch of the largest size, so the images per step and the memory of a step
        do not change.

        Args:
            epoch: The epoch.
            accumulated: Batches per step at the largest size.
        """
        fitting = _pixels(self.sizes[-1]) // _pixels(self.size(epoch))
        return max(count for count in range(1, accumulated + 1) if accumulated % count == 0 and count <= fitting)

    def cost_of_rest(self, epoch: int) -> float:
        """Return the mean pixels of an image from an epoch on, relative to that epoch."""
        rest = range(epoch, max(self.epochs, epoch + 1))
        return sum(_pixels(self.size(later)) for later in rest) / len(rest) / _pixels(self.size(epoch))

    def stages(self) -> list[tuple[Size, range]]:
        """Return the size and the epochs of each stage."""
        starts = [-(-stage * self.epochs // len(self.sizes)) for stage in range(len(self.sizes) + 1)]
        return [(size, range(*starts[stage : stage + 2])) for stage, size in enumerate(self.sizes)]


@dataclass(frozen=True)
class StagedTransform:
    """The training transform of each stage.

    Attributes:
        progressive: The stages.
        transforms: One transform for each.
    """

    progressive: ProgressiveSize
    transforms: Sequence[Transform]

    @classmethod
    def of(
        cls, progressive: ProgressiveSize, augmentation: Augmentation, preprocessing: Preprocessing, max_pixels: int
    ) -> "StagedTransform":
        """Build the transforms; see :func:`train_transform`."""
        inputs = [preprocessing.copy() for _ in progressive.sizes]
        for stage, size in zip(inputs, progressive.sizes, strict=True):
            stage["image_size"] = list(size)
        return cls(progressive, [train_transform(augmentation, stage, max_pixels) for stage in inputs])

    def __call__(self, epoch: int) -> Transform:
        """Return the transform of an epoch."""
        return self.transforms[self.progressive.stage(epoch)]


def check_sizes(sizes: Sequence[int | list[int]] | None) -> tuple[Size, ...]:
    """Return the sizes as heights and widths; empty if there are none.

    Args:
        sizes: Sides of square images, or pairs of height and width, in pixels.

    Raises:
        UserError: If one is not a size, or they do not increase.
    """
    if sizes is None:
        return ()
    pairs = [[size, size] if isinstance(size, int) else list(size) for size in sizes]
    is_size = bool(pairs) and all(len(pair) == 2 and min(pair) >= 1 for pair in pairs)
    check("progressive_size", sizes, is_size, "one or more sizes in pixels, such as [128, 160, 192, 224]")
    areas = [height * width for height, width in pairs]
    check("progressive_size", sizes, sorted(set(areas)) == areas, "sizes from the smallest to the largest, each once")
    return tuple((height, width) for height, width in pairs)


def plan_sizes(sizes: tuple[Size, ...], trainer: Any) -> ProgressiveSize | None:
    """Distribute the sizes over the epochs of a run; None without sizes.

    Args:
        sizes: Height and width in each stage.
        trainer: The trainer; None outside a run, where training images have the largest size.

    Raises:
        UserError: If the number of epochs is not known, or smaller than the number of sizes.
    """
    if not sizes:
        return None
    if trainer is None:
        return ProgressiveSize(sizes[-1:], 1)
    epochs = trainer.max_epochs
    if epochs in (None, -1):
        raise UserError("data.progressive_size divides the run's epochs among the sizes; set trainer.max_epochs.")
    if 0 < epochs < len(sizes):
        raise UserError(
            f"data.progressive_size has {len(sizes)} sizes, but trainer.max_epochs is {epochs}; give at most one size "
            "per epoch."
        )
    return ProgressiveSize(sizes, max(epochs, len(sizes)))


def epoch_range(epochs: range) -> str:
    """Return epochs as text, counted from one: ``epoch 1`` or ``epochs 1–25``."""
    first, last = epochs[0] + 1, epochs[-1] + 1
    return f"epoch {first}" if first == last else f"epochs {first}–{last}"


def _pixels(size: Size) -> int:
    return size[0] * size[1]
