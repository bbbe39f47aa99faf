"""Image classification with any timm backbone."""

import math
import os
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.seeding import VARIABLE, run_seed, seed_generators
from inceptionnext_lit.tasks.backbone import create_backbone, has_weight_source
from inceptionnext_lit.tasks.checkpointing import match_average
from inceptionnext_lit.tasks.counting import MeanLoss, exact_dtype
from inceptionnext_lit.tasks.figures import Figures
from inceptionnext_lit.tasks.kinds import Kind, MultiLabel, SingleLabel
from inceptionnext_lit.tasks.optimised import Optimised
from inceptionnext_lit.tasks.predictions import Predictions, rank
from inceptionnext_lit.training.batchnorm import AverageStatistics, DistBN
from inceptionnext_lit.training.curve import ExactCurve
from inceptionnext_lit.training.execution import Execution
from inceptionnext_lit.training.finetuning import Finetuning, Phases, without_classifier
from inceptionnext_lit.training.finite import StopOnNonFinite
from inceptionnext_lit.training.layout import match_gradients
from inceptionnext_lit.training.losses import LossName, classification_loss
from inceptionnext_lit.training.mixing import Mix
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.plateau import StepOnPlateau
from inceptionnext_lit.training.record import RunRecord
from inceptionnext_lit.training.resume import ExactResume
from inceptionnext_lit.training.same_data import SameData
from inceptionnext_lit.training.schedule import Schedule
from inceptionnext_lit.training.sharding import shard

Stage = Literal["val", "test"]


class ClassificationTask(Optimised):
    """Train and apply an image classifier.

    Metrics are fractions: ``acc1`` and ``acc5`` count images, ``macro_acc`` is the mean of the classes'
    recalls. Where images may have several labels they are ``mAP``, the mean over labels of average precision, ``f1`` at
    a probability of one half, and ``f1/LABEL``. They are logged as ``train/…``, ``val/…`` and ``test/…``; those of
    averaged weights, where ``ema_decay`` is set, as ``val_ema/…`` and ``test_ema/…``. A run that mixes images has no
    training accuracy, since mixed images have no single label. Validation and test figures are those of the whole
    split, the same on any number of processes.

    What is random in a step depends on the run's seed, the epoch, the batch and the process alone. A run that is
    continued from a checkpoint goes on at the next batch and ends with the same weights; it says which settings have
    changed. A loss that is no finite number ends it.

    Attributes:
        directions: Names of the validation figures, each with ``max`` or ``min``: whether its largest or its smallest
            value is the best.
        predictor: What computes logits in the place of the model, if there is such a thing; the command ``predict`` has
            the model's inference form do it.
        compiles_prediction: Whether ``predict`` compiles that form.

    Args:
        name: Model: any name that timm knows, this family's among them.
        pretrained: Start from published weights, which are downloaded, or from those in a file: of the family or of
            ConvNeXt as their authors or timm publish them, or a checkpoint of a training run (its average, if any).
        kwargs: The model's own arguments, as ``timm.create_model`` takes them.
        num_classes: Number of classes; the command line takes it from the data.
        class_names: Their names in the order of the indices; the command line takes them from the data.
        preprocessing: What the model's input looks like; the command line takes it from the data.
        multi_label: Whether an image may have several labels; the command line takes it from the data.
        drop_path: Stochastic depth of the last block; earlier blocks have less, linearly.
        loss: Training loss: cross-entropy, or binary cross-entropy of each class (arXiv 2110.00476), which images with
            several labels have in any case.
        label_smoothing: Probability mass that training targets spread over all classes.
        mix: Mixup and CutMix.
        lr: Peak learning rate, for the global batch that the recipe states; ``auto`` derives it from the images per
            step.
        weight_decay: Decay of weights; biases, norms and LayerScale have none.
        optimizer: Which optimiser, its own arguments, and how its rate falls from the head to the stem.
        schedule: Warm-up, cosine and cool-down of the learning rate, or another schedule by its class.
        ema_decay: Decay per step of a moving average of the weights; none keeps no average.
        ema_warmup: Whether the decay is at most ``1 - n ** (-2 / 3)`` after n steps, so that short runs forget their
            first weights too. False keeps it constant, as DeiT, ConvNeXt and timm 0.6 do.
        finetuning: What is frozen, and whether a linear probe comes first.
        test_time_flip: Whether test and prediction average each image's probabilities with its mirror image's.
        dist_bn: Whose running statistics of BatchNorm several processes validate with: their mean (``reduce``, timm's
            default), or those of the first process (``broadcast``).
        execution: How the model is computed: memory layout, compilation, gradient checkpointing.

    Raises:
        UserError: If the model is unknown, cannot be built with these arguments or weights, or a value is out of range.
    """

    def __init__(
        self,
        name: str = "inceptionnext_tiny",
        pretrained: bool | str = False,
        kwargs: dict[str, Any] | None = None,
        num_classes: int = 1000,
        class_names: list[str] | None = None,
        preprocessing: Preprocessing | None = None,
        multi_label: bool = False,
        drop_path: float = 0.0,
        loss: LossName = "cross_entropy",
        label_smoothing: float = 0.0,
        mix: Mix | None = None,
        lr: float | Literal["auto"] = 1e-3,
        weight_decay: float = 0.05,
        optimizer: OptimizerOptions | None = None,
        schedule: Schedule | None = None,
        ema_decay: float | None = None,
        ema_warmup: bool = True,
        finetuning: Finetuning | None = None,
        test_time_flip: bool = False,
        dist_bn: DistBN = "reduce",
        execution: Execution | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        _check_ranges(
            lr=1.0 if lr == "auto" else lr,
            weight_decay=weight_decay,
            drop_path=drop_path,
            label_smoothing=label_smoothing,
            ema_decay=0.0 if ema_decay is None else ema_decay,
        )
        if class_names is not None and len(class_names) != num_classes:
            raise UserError(f"{len(class_names)} class names were given for {num_classes} classes.")
        self.class_names = class_names or [str(index) for index in range(num_classes)]
        self.preprocessing = preprocessing
        self.mix = mix or Mix()
        self.optimizer = optimizer or OptimizerOptions()
        self.schedule = schedule or Schedule()
        self.finetuning = finetuning or Finetuning()
        self.execution = execution or Execution()
        self.kind: Kind = MultiLabel(self.class_names) if multi_label else SingleLabel(num_classes)
        arguments = ({"drop_path_rate": drop_path} if drop_path else {}) | (kwargs or {})
        self.model, self.loaded = create_backbone(
            name, num_classes, arguments, pretrained=pretrained, preprocessing=preprocessing
        )
        if self.loaded is not None:
            rank_zero_info(str(self.loaded))
        self.execution.prepare(self.model, name)
        self.phases = Phases(self.model, self.finetuning)
        self.has_weights = has_weight_source(arguments, pretrained)
        self.model_ema = None if ema_decay is None else ModelEmaV3(self.model, decay=ema_decay, use_warmup=ema_warmup)
        if self.model_ema is not None:
            self.model_ema.requires_grad_(False)

        self.metrics = Figures(self.kind, self.class_names)
        stages = ("val",) if self.model_ema is None else ("val", "val_ema")
        self.directions = self.metrics.directions(*stages)
        self.check_schedule(self.directions)
        self.predictor: Callable[[Tensor], Tensor] | None = None
        self.compiles_prediction = False

    @property
    def backbone(self) -> nn.Module:
        """The model without its classifier, as Lightning's ``BackboneFinetuning`` asks for it."""
        return without_classifier(self.model)

    @property
    def inference_model(self) -> nn.Module:
        """The averaged weights' model where there is one, the trained one otherwise."""
        return self.model if self.model_ema is None else cast(nn.Module, self.model_ema.module)

    def on_predict_start(self) -> None:
        """Make the form of the model that gives the same outputs with fewer operations."""
        if self.device_mesh is None:  # sharded weights stay as they are
            model = deploy(self.inference_model)
            self.predictor = Compiled(model) if self.compiles_prediction else model.__call__

    def on_predict_end(self) -> None:
        """Forget it: the weights may be trained on."""
        self.predictor = None

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch with :attr:`inference_model`, while predicting with its inference form.

        Args:
            images: Normalised images of shape (N, C, H, W).

        Returns:
            Logits of shape (N, num_classes).
        """
        return self._classify(self.predictor or self.inference_model, self._lay_out(images))

    def _classify(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        logits = model(images)
        if not self.hparams["test_time_flip"]:
            return logits
        logits, mirrored = logits.float(), model(self._lay_out(images.flip(-1))).float()
        lost = ~(logits.isfinite() & mirrored.isfinite()).all(dim=1, keepdim=True)
        return self.kind.average(logits, mirrored).masked_fill(lost, torch.nan)  # the mean may be finite all the same

    def _lay_out(self, images: Tensor) -> Tensor:
        return images.to(memory_format=self.execution.memory_format)  # contiguous() passes single channels by

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Loss of one training batch: images (N, C, H, W), labels (N,) or (N, K), and perhaps weights (N,)."""
        images, labels = batch[:2]
        weights = batch[2] if len(batch) == 3 else None
        inputs, targets, weights = self.mix(self._lay_out(images), labels, self.num_classes, weights)
        if self.mix.order == "before_erasing" and hasattr(data := cast(Any, self.trainer).datamodule, "erase_mixed"):
            data.erase_mixed(inputs)
        logits = self.model(inputs)
        loss = classification_loss(
            logits,
            targets,
            name="bce" if self.hparams["multi_label"] else self.hparams["loss"],
            label_smoothing=self.hparams["label_smoothing"],
            weights=weights,
        )
        self.log("train/loss_step", loss)  # of prog_bar=True, Lightning would read the value in every step
        # mixed images have no single label
        self.metrics.trained(self, loss.detach(), logits, labels, with_metrics=not self.mix.active)
        return loss

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        images, labels = self._lay_out(batch[0]), batch[1]
        models = {stage: self.model} | ({} if self.model_ema is None else {f"{stage}_ema": self.model_ema.module})
        for name, model in models.items():
            logits = self._classify(model, images) if stage == "test" else model(images)
            self.metrics.evaluated(self, name, logits, labels)

    def on_train_epoch_start(self) -> None:
        """Go on from the linear probe to the rest, where there is one, and begin the epoch's figures."""
        super().on_train_epoch_start()
        self.metrics.begin("train")

    def on_validation_epoch_start(self) -> None:
        """Begin the validation's figures."""
        self.metrics.begin("val", "val_ema")

    def on_test_epoch_start(self) -> None:
        """Begin the test's figures."""
        self.metrics.begin("test", "test_ema")

    def on_validation_epoch_end(self) -> None:
        """Log what there is for each class; raises if an image's logits are not finite."""
        self.metrics.finish(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log what there is for each class; raises if an image's logits are not finite."""
        self.metrics.finish(self, "test")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Metrics of one validation batch, of the trained and of the averaged weights."""
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Metrics of one test batch, of the trained and of the averaged weights."""
        self._evaluate(batch, "test")

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities of the classes, float32 (N, num_classes), from logits of that shape.

        All are NaN for an image of which a logit is not finite.
        """
        logits = logits.float()
        lost = ~logits.isfinite().all(dim=1, keepdim=True)
        return self.kind.probabilities(logits).masked_fill(lost, torch.nan)

    def predict_step(self, batch: tuple[Tensor, list[str], Any], batch_idx: int) -> Predictions:
        """Most probable classes of a batch: images (N, C, H, W), their N paths, and what could not be read."""
        images, paths, _ = batch
        scores = self.scores(self(images)) if paths else images.new_empty(0, self.num_classes)
        return rank(scores, paths, multi_label=self.hparams["multi_label"])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Begin the average of the weights, or leave it out, where this task and the checkpoint differ in that.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If its classes are not this task's, in this order.
        """
        super().on_load_checkpoint(checkpoint)
        match_average(checkpoint, wanted=self.model_ema is not None)

    def configure_callbacks(self) -> list[Callback]:
        """What belongs to this task on every trainer: exact continuation, a record of the settings, a finite loss."""
        averaging = [AverageStatistics()] if self.hparams["dist_bn"] == "reduce" else []
        return [*averaging, StopOnNonFinite(), ExactResume(), ExactCurve(), RunRecord(), SameData(), StepOnPlateau()]

    def setup(self, stage: str) -> None:
        """Agree on one seed for all processes, and compile if that is asked for."""
        os.environ[VARIABLE] = str(self.trainer.strategy.broadcast(run_seed()))
        # in double precision, sums of single-precision losses are exact, in whatever order processes add them
        dtype = exact_dtype(self.trainer.strategy.root_device)
        for metric in self.metrics.losses.values():
            cast(MeanLoss, metric).set_dtype(dtype)
        if stage == "fit":
            self.finetuning.check_weights(are_loaded=self.has_weights or self.trainer.ckpt_path is not None)
            if self.hparams["lr"] == "auto":
                self.derive_lr(cast(Any, self.trainer).datamodule)
            if hasattr(data := cast(Any, self.trainer).datamodule, "erases_mixed"):
                data.erases_mixed = self.mix.order == "before_erasing"
            self.phases.begin(epoch=0)
            if self.trainer.world_size > 1 and self.device_mesh is None:
                match_gradients(self.model)
            self.execution.start(self.model)

    def configure_model(self) -> None:
        """Spread the model over the processes, where the strategy is ``ModelParallelStrategy``."""
        if self.device_mesh is None:
            return
        shard(self.model, self.device_mesh["data_parallel"])
        if self.model_ema is not None:
            shard(self.model_ema.module, self.device_mesh["data_parallel"])
            self.model_ema.foreach = False  # torch's multi-tensor kernels take no sharded tensors

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what this step draws: its mixing, stochastic depth and dropout."""
        seed_generators(run_seed(), "step", self.current_epoch, batch_idx, self.global_rank)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step as Lightning does, then move the averaged weights along."""
        super().optimizer_step(*args, **kwargs)
        if self.model_ema is not None:
            self.model_ema.update(self.model, step=self.trainer.global_step if self.model_ema.use_warmup else None)


def _check_ranges(*, lr: float, weight_decay: float, **shares: float) -> None:
    if not 0 < lr < math.inf:  # which NaN is not either
        raise UserError(f"model.lr is {lr}; a learning rate is greater than 0.")
    if not 0 <= weight_decay < math.inf:
        raise UserError(f"model.weight_decay is {weight_decay}; it must be 0 or more.")
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise UserError(f"model.{name} is {value}; it must be at least 0 and less than 1.")
