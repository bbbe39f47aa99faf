"""Semantic segmentation with any timm backbone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.pyramid import feature_maps
from inceptionnext_lit.models.segmenter import resized
from inceptionnext_lit.predictions import MaskPredictions
from inceptionnext_lit.preprocessing import Size, height_and_width
from inceptionnext_lit.tasks.backbone import create_backbone, has_weight_source
from inceptionnext_lit.tasks.base import BaseTask, check_shares
from inceptionnext_lit.tasks.matching import check_data
from inceptionnext_lit.tasks.segmentation.inference import Inference, Segment
from inceptionnext_lit.tasks.segmentation.losses import balanced_weights
from inceptionnext_lit.tasks.segmentation.metrics import SegmentationMetrics
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from inceptionnext_lit.tasks.self_contained import stored_classes
from inceptionnext_lit.training.execution import Execution
from inceptionnext_lit.training.finetuning import Finetuning
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule

_CROP = (512, 512)


class SegmentationTask(BaseTask):
    """Train and apply a model that gives each pixel of an image a class (arXiv 2303.16900, section 4.2).

    Metrics are fractions under MMSegmentation's names: ``mIoU``, ``mAcc`` and ``aAcc``, from one confusion matrix over
    the whole split, the same on any number of ranks; ``IoU/CLASS``; and ``boundary_f1`` for two classes. They are
    logged as ``val/…`` and ``test/…``; those of averaged weights, if ``ema_decay`` is set, as ``val_ema/…`` and
    ``test_ema/…``. Pixels of 255 are ignored by losses and metrics.

    Args:
        name: Name of the backbone: any timm name, including this family's.
        pretrained: Start the backbone from published weights of its classifier, which are downloaded, or from a file
            of weights or a checkpoint of a training run.
        kwargs: The backbone's own arguments, as for ``timm.create_model``.
        data_spec: Classes and input, which the command line derives from the data; None for ImageNet's 1000 classes.
        drop_path: Stochastic depth rate of the backbone's last block; it increases linearly over the blocks.
        segmentation: The decoder, the loss, and how whole images are segmented.
        lr: Peak learning rate, for the recipe's global batch; ``auto`` derives it from the images per step.
        weight_decay: Weight decay; not applied to biases, norms and LayerScale.
        optimizer: The optimizer, its own arguments, and the decay of the learning rate by stage.
        schedule: The learning rate's schedule; ``poly`` is the usual one.
        ema_decay: Decay per step of a moving average of the weights; None disables it.
        ema_warmup: Whether to limit the decay to ``1 - n ** (-2 / 3)`` after n steps.
        finetuning: Which layers are frozen; ``backbone`` trains the decoder alone.
        execution: How the model is run: memory layout, compilation, gradient checkpointing, BatchNorm on several
            ranks.

    Raises:
        UserError: If the model is unknown, cannot be built with these arguments or weights, or a value is out of range.
    """

    can_predict = True
    predictions_name = "segmented.csv"
    data_class = "inceptionnext_lit.data.SegmentationDataModule"

    def __init__(
        self,
        name: str = "inceptionnext_tiny",
        pretrained: bool | str = False,
        kwargs: dict[str, Any] | None = None,
        data_spec: DataSpec | None = None,
        drop_path: float = 0.0,
        segmentation: SegmentationOptions | None = None,
        lr: float | Literal["auto"] = 1e-4,
        weight_decay: float = 0.05,
        optimizer: OptimizerOptions | None = None,
        schedule: Schedule | None = None,
        ema_decay: float | None = None,
        ema_warmup: bool = True,
        finetuning: Finetuning | None = None,
        execution: Execution | None = None,
    ) -> None:
        check_shares(drop_path=drop_path)
        spec = data_spec or DataSpec()
        names = spec.names
        options = segmentation or SegmentationOptions()
        arguments = ({"drop_path_rate": drop_path} if drop_path else {}) | (kwargs or {})
        backbone, loaded = create_backbone(name, 0, arguments, pretrained=pretrained, preprocessing=spec.preprocessing)
        if loaded is not None:
            rank_zero_info(str(loaded))
        super().__init__(
            options.build(feature_maps(backbone, name), len(names)),
            optimizer=optimizer,
            schedule=schedule,
            ema_decay=ema_decay,
            ema_warmup=ema_warmup,
            finetuning=finetuning,
            execution=execution,
            has_weights=has_weight_source(arguments, pretrained),
        )
        self.loaded = loaded
        self.data_spec = replace(spec, class_names=names, num_classes=len(names))
        self.class_names = names
        self.preprocessing = spec.preprocessing
        self.segmentation = options
        self.loss = options.loss.build(len(names))
        given = spec.preprocessing
        crop = _CROP if given is None else height_and_width(given)
        self.inference = Inference(options.inference, crop, None if given is None else given.get("scale"))
        self.metrics = SegmentationMetrics(names)
        self.directions = self.metrics.directions(*self.evaluated_models("val"))
        self.check_schedule(self.directions)
        self.predictor: Callable[[Tensor], Tensor] | None = None
        self.compiles_prediction = False

    def on_predict_start(self) -> None:
        """Build the model's inference form, which gives the same outputs with fewer operations."""
        if self.device_mesh is None:  # sharded weights cannot be folded
            model = deploy(self.inference_model)
            self.predictor = Compiled(model) if self.compiles_prediction else model.__call__

    def on_predict_end(self) -> None:
        """Discard the inference form, since the weights may be trained further."""
        self.predictor = None

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel with :attr:`inference_model`.

        Args:
            images: Normalized images of shape (N, C, H, W).

        Returns:
            Logits of shape (N, num_classes, H, W).
        """
        return resized(self.inference_model(self._lay_out(images)), (images.shape[-2], images.shape[-1]))

    def laid_out(self, model: Callable[[Tensor], Tensor]) -> Segment:
        """Return a model for :attr:`inference`, which takes images in any memory format.

        Args:
            model: One of :meth:`evaluated_models`, in eval mode, or another form of it.
        """
        return lambda images: model(self._lay_out(images))

    def segment(self, images: Sequence[Tensor], sizes: Sequence[Size], paths: list[str]) -> MaskPredictions:
        """Return the most probable class of each pixel with :attr:`inference_model`.

        Args:
            images: N normalized images of any sizes, each (C, h, w).
            sizes: Height and width of each mask, such as those of the original image.
            paths: The N files.
        """
        model = self.predictor or self.inference_model
        masks, confidences, reasons = [], [], {}
        for image, size, path in zip(images, sizes, paths, strict=True):
            try:
                classes, best, _ = self.inference.best(self.laid_out(model), image, size)
            except UserError as error:  # such as an image that is too small for the model
                reasons[path] = str(error)
                classes, best = torch.zeros(size), torch.full(size, torch.nan)
            masks.append(classes.to(torch.uint8).cpu().numpy())
            confidences.append(float(best.double().mean()))  # NaN if any is
        return MaskPredictions(paths, masks, confidences, reasons)

    def predict_step(self, batch: Any, batch_idx: int) -> MaskPredictions:
        """Return the mask of each image of a batch."""
        return self.segment(batch.images, batch.sizes, batch.paths)

    def _lay_out(self, images: Tensor) -> Tensor:
        return images.to(memory_format=self.execution.memory_format)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a training batch: images (N, C, H, W) and masks (N, H, W)."""
        images, masks = batch
        outputs = self.model(self._lay_out(images))
        logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, None)
        size = (masks.shape[-2], masks.shape[-1])
        loss = self.loss(resized(logits, size), masks)
        if auxiliary is not None and self.segmentation.aux_weight:
            loss = loss + self.segmentation.aux_weight * self.loss(resized(auxiliary, size), masks)
        self.log("train/loss_step", loss)
        self.metrics.trained(self, loss.detach(), len(images))
        return loss

    def _evaluate(self, batch: Any, stage: Literal["val", "test"]) -> None:
        images, masks = (batch.images, batch.masks) if hasattr(batch, "images") else batch
        for image, mask in zip(images, masks, strict=True):
            size = (mask.shape[-2], mask.shape[-1])
            for name, model in self.evaluated_models(stage).items():
                self.metrics.evaluated(name, self.inference.best(self.laid_out(model), image, size, mask), mask)

    def on_train_epoch_start(self) -> None:
        """Unfreeze the layers after a probe of the decoder, if there is one, and begin the epoch's metrics."""
        super().on_train_epoch_start()
        self.metrics.begin("train")

    def on_validation_epoch_start(self) -> None:
        """Begin the validation metrics."""
        self.metrics.begin("val", "val_ema")

    def on_test_epoch_start(self) -> None:
        """Begin the test metrics."""
        self.metrics.begin("test", "test_ema")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add validation images to the metrics: a batch of the data module, or (N, C, H, W) and masks (N, H, W)."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add test images to the metrics of the trained and averaged weights."""
        self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics; raises if outputs are NaN or infinite."""
        self.metrics.finish(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics; raises if outputs are NaN or infinite."""
        self.metrics.finish(self, "test")

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint with other classes.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If its classes differ from this task's, or are in another order.
        """
        stored = stored_classes(checkpoint)
        if stored is not None and stored != self.class_names:
            raise UserError(
                f"The checkpoint was trained on the classes {', '.join(stored)}; the data has "
                f"{', '.join(self.class_names)}. Use the data that it was trained on."
            )

    @classmethod
    def data_defaults(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the preprocessing of the images, and their classes.

        Args:
            arguments: The constructor's arguments as stored in a checkpoint.

        Raises:
            UserError: If the checkpoint does not contain the preprocessing.
        """
        spec = arguments.get("data_spec") or {}
        if (stored := spec.get("preprocessing")) is None:
            raise UserError("The checkpoint does not describe its model's input, so it cannot be used here.")
        given = {key: stored[key] for key in ("mean", "std", "nodata", "exif") if key in stored}
        images = {"crop_size": stored["image_size"], "scale": stored.get("scale"), "in_chans": len(stored["mean"])}
        return images | {"input": given, "class_names": spec["class_names"]}

    def derive_class_weights(self, data: Any) -> list[float] | None:
        """Replace ``auto`` by the weights of the classes, in the loss and in the saved arguments.

        Args:
            data: The data module, with its fit stage set up.

        Returns:
            The weights; None if they are not ``auto``.

        Raises:
            UserError: If it does not count the pixels of each class.
        """
        options = self.segmentation
        if options.loss.class_weights != "auto":
            return None
        if not hasattr(data, "class_pixels"):
            raise UserError(
                "model.segmentation.loss.class_weights is auto, but the data module does not define class_pixels; give "
                "numbers."
            )
        weights = balanced_weights(data.class_pixels(), self.num_classes)
        self.segmentation = replace(options, loss=replace(options.loss, class_weights=weights))
        self.hparams["segmentation"] = self.segmentation
        self.loss = self.segmentation.loss.build(self.num_classes)
        return weights

    def setup(self, stage: str) -> None:
        """Prepare the metrics, and derive what depends on the masks; refuse a data module that does not match."""
        data = datamodule_of(self.trainer)
        check_data(self, data, stage, only_in_training={"image_size"})
        if stage == "fit":
            self.derive_class_weights(data)
        self.metrics.use_exact_sums(self.trainer.strategy.root_device)
        super().setup(stage)
