"""Image classification with any timm backbone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.tasks.backbone import create_backbone, has_weight_source
from inceptionnext_lit.tasks.base import check_shares
from inceptionnext_lit.tasks.classification.device_metrics import MeanLoss, exact_dtype
from inceptionnext_lit.tasks.classification.distillation import Distill
from inceptionnext_lit.tasks.classification.distilled import DistilledTask
from inceptionnext_lit.tasks.classification.losses import LossOptions, classification_loss, image_weights
from inceptionnext_lit.tasks.classification.metrics import ClassificationMetrics
from inceptionnext_lit.tasks.classification.targets import MultiLabel, SingleLabel, Targets
from inceptionnext_lit.tasks.matching import check_data
from inceptionnext_lit.tasks.self_contained import stored_classes
from inceptionnext_lit.training.execution import Execution
from inceptionnext_lit.training.finetuning import Finetuning
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule

Stage = Literal["val", "test"]


class ClassificationTask(DistilledTask):
    """Train and apply an image classifier.

    Metrics are fractions: ``acc1`` and ``acc5`` are over images, ``macro_acc`` is the mean of the classes' recalls.
    For multi-label classification they are ``mAP``, the mean over labels of average precision, ``f1`` at a threshold
    of 0.5, and ``f1/LABEL``. They are logged as ``train/…``, ``val/…`` and ``test/…``; those of averaged weights, if
    ``ema_decay`` is set, as ``val_ema/…`` and ``test_ema/…``. A run with mixup or CutMix has no training accuracy,
    since mixed images do not have a single label. Validation and test metrics are over the whole split, the same on
    any number of ranks.

    The random numbers of a step depend only on the run's seed, the epoch, the batch and the rank. A run resumed from a
    checkpoint continues with the next batch and ends with the same weights; it reports which settings have changed. A
    NaN or Inf loss stops it.

    Attributes:
        predictor: Computes logits instead of the model, if set; the command ``predict`` sets it to the model's
            inference form.
        compiles_prediction: Whether ``predict`` compiles that form.

    Args:
        name: Model name: any timm name, including this family's.
        pretrained: Start from published weights, which are downloaded, or from a file: weights of the family or of
            ConvNeXt as published by their authors or timm, or a checkpoint of a training run (its average, if any).
        kwargs: The model's own arguments, as for ``timm.create_model``.
        data_spec: Classes and input, which the command line derives from the data; None for ImageNet's 1000 classes.
        drop_path: Stochastic depth rate of the last block; it increases linearly over the blocks.
        loss: The training loss, its label smoothing, mixup and CutMix.
        distill: A teacher, and what is learned from it besides the labels (``train/distill_loss``); it is not saved.
        lr: Peak learning rate, for the recipe's global batch; ``auto`` derives it from the images per step.
        weight_decay: Weight decay; not applied to biases, norms and LayerScale.
        optimizer: The optimizer, its own arguments, and the layer-wise decay of the learning rate.
        schedule: Warm-up, cosine and cool-down of the learning rate, or another schedule by its class.
        ema_decay: Decay per step of a moving average of the weights; None disables it.
        ema_warmup: Whether to limit the decay to ``1 - n ** (-2 / 3)`` after n steps, so that short runs also forget
            their first weights. False keeps it constant, as in DeiT, ConvNeXt and timm 0.6.
        finetuning: Which layers are frozen, and whether to start with a linear probe.
        execution: How the model is run: memory layout, compilation, gradient checkpointing, BatchNorm on several
            ranks, and mirrored images in evaluation.

    Raises:
        UserError: If the model is unknown, cannot be built with these arguments or weights, or a value is out of range.
    """

    can_predict = True
    can_flip = True

    def __init__(
        self,
        name: str = "inceptionnext_tiny",
        pretrained: bool | str = False,
        kwargs: dict[str, Any] | None = None,
        data_spec: DataSpec | None = None,
        drop_path: float = 0.0,
        loss: LossOptions = LossOptions(),
        distill: Distill | None = None,
        lr: float | Literal["auto"] = 1e-3,
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
        arguments = ({"drop_path_rate": drop_path} if drop_path else {}) | (kwargs or {})
        model, loaded = create_backbone(
            name, len(names), arguments, pretrained=pretrained, preprocessing=spec.preprocessing
        )
        if loaded is not None:
            rank_zero_info(str(loaded))
        super().__init__(
            model,
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
        self.loss = loss
        self.distill, self.distillation = distill, None
        self.targets: Targets = MultiLabel(names) if spec.multi_label else SingleLabel(len(names))
        self.metrics = ClassificationMetrics(self.targets, names)
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

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch with :attr:`inference_model`, or during prediction with its inference form.

        Args:
            images: Normalized images of shape (N, C, H, W).

        Returns:
            Logits of shape (N, num_classes).
        """
        return self.classify(self.predictor or self.inference_model, images)

    def classify(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return the logits of a set of weights as :meth:`forward` does, averaged with mirrored images if configured.

        Args:
            model: One of :meth:`evaluated_models`, or another form of it.
            images: Normalized images of shape (N, C, H, W).

        Returns:
            Logits of shape (N, num_classes).
        """
        images = self._lay_out(images)
        logits = model(images)
        if not self.execution.test_time_flip:
            return logits
        logits, mirrored = logits.float(), model(self._lay_out(images.flip(-1))).float()
        lost = ~(logits.isfinite() & mirrored.isfinite()).all(dim=1, keepdim=True)
        # the mean may be finite nevertheless
        return self.targets.average(logits, mirrored).masked_fill(lost, torch.nan)

    def _lay_out(self, images: Tensor) -> Tensor:
        return images.to(memory_format=self.execution.memory_format)  # contiguous() ignores single-channel images

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the loss of a training batch: images (N, C, H, W), labels (N,) or (N, K), optional weights (N,)."""
        images, labels = batch[:2]
        weights = image_weights(batch)
        inputs, targets, weights = self.loss.mix(self._lay_out(images), labels, self.num_classes, weights)
        if self.loss.mix.order == "before_erasing" and hasattr(data := datamodule_of(self.trainer), "erase_mixed"):
            data.erase_mixed(inputs)
        logits = self.model(inputs)
        loss = classification_loss(
            logits,
            targets,
            name="bce" if self.data_spec.multi_label else self.loss.name,
            label_smoothing=self.loss.label_smoothing,
            weights=weights,
        )
        loss, distilled = self.with_teacher(loss, inputs, logits, weights)
        self.log("train/loss_step", loss)  # with prog_bar=True, Lightning would read the value in every step
        # mixed images do not have a single label
        is_single = not self.loss.mix.active
        self.metrics.trained(self, loss.detach(), logits, labels, with_metrics=is_single, distilled=distilled)
        return loss

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        images, labels = self._lay_out(batch[0]), batch[1]
        for name, model in self.evaluated_models(stage).items():
            logits = model(images) if self.trainer.state.fn == TrainerFn.FITTING else self.classify(model, images)
            self.metrics.evaluated(self, name, logits, labels)

    def on_train_epoch_start(self) -> None:
        """Unfreeze the layers after the linear probe, if there is one, and begin the epoch's metrics."""
        super().on_train_epoch_start()
        self.metrics.begin("train")

    def on_validation_epoch_start(self) -> None:
        """Begin the validation metrics."""
        self.metrics.begin("val", "val_ema")

    def on_test_epoch_start(self) -> None:
        """Begin the test metrics."""
        self.metrics.begin("test", "test_ema")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics per class; raises if logits are NaN or infinite."""
        self.metrics.finish(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics per class; raises if logits are NaN or infinite."""
        self.metrics.finish(self, "test")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add a validation batch to the metrics of the trained and averaged weights."""
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add a test batch to the metrics of the trained and averaged weights."""
        self._evaluate(batch, "test")

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint with other classes, or a run with another teacher.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If its classes differ from this task's, or are in another order; or the teacher differs.
        """
        super().check_checkpoint(checkpoint)
        stored = stored_classes(checkpoint)
        if stored is not None and stored != self.class_names:
            raise UserError(
                f"The checkpoint was trained on the classes {', '.join(stored)}; the data has "
                f"{', '.join(self.class_names)}. Use the data that it was trained on, or start a new head from its "
                "weights with --model.pretrained CHECKPOINT instead of --ckpt_path."
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
        keys = ("crop_pct", "crop_mode", "interpolation", "mean", "std", "nodata", "exif")
        images = {"image_size": stored["image_size"], "in_chans": len(stored["mean"])}
        given = {key: stored[key] for key in keys if key in stored}
        return images | {"input": given} | {key: spec[key] for key in ("class_names", "multi_label")}

    def setup(self, stage: str) -> None:
        """Compare the data module with the task, and prepare the metrics for their device and the evaluated images.

        Raises:
            UserError: If the data module has other classes, or in training another preprocessing.
        """
        # in double precision, sums of single-precision losses are exact, in any order of the ranks
        dtype = exact_dtype(self.trainer.strategy.root_device)
        for metric in self.metrics.losses.values():
            cast(MeanLoss, metric).set_dtype(dtype)
        data = datamodule_of(self.trainer)
        check_data(self, data, stage)
        if stage == "fit" and hasattr(data, "erases_mixed"):
            cast(Any, data).erases_mixed = self.loss.mix.order == "before_erasing"
        evaluated = getattr(data, "evaluated", None) if stage in ("validate", "test") else None
        self.metrics.outputs = None if evaluated is None else evaluated.outputs
        super().setup(stage)
