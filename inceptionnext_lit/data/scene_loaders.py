"""Loaders of images with masks, and their batches on the device."""

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from inceptionnext_lit.data.decode.bad_images import BadImageOptions, BadImages
from inceptionnext_lit.data.device_input import DeviceInput
from inceptionnext_lit.data.scenes import (
    EvaluatedScenes,
    PredictedScenes,
    SceneInput,
    Scenes,
    TrainingScenes,
    UnlabeledScenes,
    collate_crops,
    collate_predicted,
    collate_scenes,
    finish_scenes,
)
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.seeding import run_seed


class SceneLoaders(DeviceInput):
    """Data module with loaders of images with masks; a subclass sets the data sets.

    Attributes:
        skipped: The training images that could not be read.

    Args:
        preprocessing: Preprocessing of the model's input.
        batch_size: Images per batch and device.
        global_batch_size: Images per optimizer step over all devices; None for one batch per device.
        num_workers: Loader processes; None for the cores available to this process, at most 8.
        bad_images: What to do about images that cannot be read.

    Raises:
        UserError: If a value is out of its range.
    """

    train_set: TrainingScenes
    val_set: EvaluatedScenes
    test_set: EvaluatedScenes
    predict_set: PredictedScenes

    def __init__(
        self,
        preprocessing: Preprocessing,
        batch_size: int,
        global_batch_size: int | None,
        num_workers: int | None,
        bad_images: BadImageOptions,
    ) -> None:
        super().__init__(preprocessing, batch_size, global_batch_size, num_workers)
        self.bad_images = bad_images
        self.skipped = BadImages(bad_images.max_skipped)
        self._to_scenes = SceneInput(preprocessing)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches of training crops, without the images of an incomplete last step."""
        self.train_set.seed = run_seed()  # only now have all ranks agreed on it
        if self.bad_images.skips:
            self.skipped.begin(Path((self.trainer.log_dir if self.trainer else None) or "."))
        return self._training_loader(self.train_set, collate_crops)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return batches of the validation split, in natural order."""
        return self._evaluation_loader(self._for_model(self.val_set), collate_scenes)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return batches of the test split, in natural order."""
        return self._evaluation_loader(self._for_model(self.test_set), collate_scenes)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return batches of images without masks, in natural order."""
        return self._loader(self._for_model(self.predict_set), collate_predicted)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalize the images of a batch, on the device."""
        if isinstance(batch, Scenes | UnlabeledScenes):
            convert = self.trainer.precision_plugin.convert_input if self.trainer else lambda images: images
            return finish_scenes(batch, self._to_scenes, convert)
        images, masks = super().on_after_batch_transfer(batch, dataloader_idx)
        return images, masks.long()

    def _for_model(self, images: EvaluatedScenes | PredictedScenes) -> EvaluatedScenes | PredictedScenes:
        """Leave images in their own size for a model that resizes them to several scales."""
        inference = getattr(getattr(self.trainer, "lightning_module", None), "inference", None)
        images.transform.keeps_size = bool(getattr(inference, "takes_originals", False))
        return images
