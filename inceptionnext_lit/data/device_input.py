"""Data modules whose loaders return pixels, which become the model's input on the device."""

from typing import Any

from torch import Tensor

from inceptionnext_lit.data.base import BaseDataModule
from inceptionnext_lit.data.datasets import finish_batch
from inceptionnext_lit.data.device_batch import RawImages, ToInput
from inceptionnext_lit.data.progressive import ProgressiveSize, epoch_range, plan_sizes
from inceptionnext_lit.data.seen_pixels import SeenPixels
from inceptionnext_lit.data.transforms.erasing import Erasure, erase
from inceptionnext_lit.preprocessing import Preprocessing, Size, in_pixels


class DeviceInput(BaseDataModule):
    """Data module whose loaders return :class:`RawImages`, which are normalized and erased on the device.

    Attributes:
        preprocessing: Preprocessing of the model's input.
        erases_mixed: Whether images are erased after mixing, by :meth:`erase_mixed`.
        sizes: Height and width of the training images in each stage of the run; empty for the model's input size.

    Args:
        preprocessing: Preprocessing of the model's input.
        batch_size: Images per batch and device.
        global_batch_size: Images per optimizer step over all devices; None for one batch per device.
        num_workers: Loader processes; None for the cores available to this process, at most 8.

    Raises:
        UserError: If a value is out of its range.
    """

    def __init__(
        self, preprocessing: Preprocessing, batch_size: int, global_batch_size: int | None, num_workers: int | None
    ) -> None:
        super().__init__(batch_size, global_batch_size, num_workers)
        self.preprocessing = preprocessing
        self.erases_mixed = False
        self.sizes: tuple[Size, ...] = ()
        self._to_input = ToInput(preprocessing)
        self._left_to_erase: list[Erasure | None] = []
        self._seen = SeenPixels(preprocessing)

    @property
    def progressive(self) -> ProgressiveSize | None:
        """The training images' sizes by epoch, if they differ from the model's input size.

        Raises:
            UserError: If the trainer's epochs cannot be divided among the sizes.
        """
        return plan_sizes(self.sizes, self.trainer)

    def batches_at_once(self, epoch: int) -> int:
        """Return how many of a step's accumulated batches the loader joins into one in an epoch."""
        progressive = self.progressive
        counts_batches = self.trainer is not None and (
            self.trainer.limit_train_batches != 1.0 or isinstance(self.trainer.val_check_interval, int)
        )
        return 1 if progressive is None or counts_batches else progressive.batches_at_once(epoch, self.accumulated)

    def describe_sizes(self, stage: str) -> list[str]:
        """Describe the sizes of the training images by epoch; no line if they are the model's input size."""
        progressive = self.progressive
        if stage != "fit" or progressive is None:
            return []
        stages = []
        for size, epochs in progressive.stages():
            batch = self.training_batch_size(epochs[0])
            stages.append(f"{in_pixels(size)} in {epoch_range(epochs)} (batches of {batch})")
        return [f"Sizes:      training images of {', '.join(stages)}"]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Compare the first training images with the configured mean and standard deviation."""
        if self.trainer and self.trainer.training and self.trainer.is_global_zero and isinstance(batch[0], RawImages):
            self._seen.note(batch[0].pixels)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Replace the raw images of a batch with the model's input, on the device."""
        if self.erases_mixed and isinstance(batch[0], RawImages):
            self._left_to_erase = batch[0].erasures
        precision = self.trainer.precision_plugin if self.trainer else None
        return finish_batch(batch, self._to_input, precision, with_erasing=not self.erases_mixed)

    def erase_mixed(self, images: Tensor) -> None:
        """Erase the rectangles drawn for the last batch, if :attr:`erases_mixed` is on.

        Args:
            images: The batch's images (N, C, H, W), mixed or not, changed in place.
        """
        if self._left_to_erase:
            erase(images, self._left_to_erase)
