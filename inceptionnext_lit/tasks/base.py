"""The base class of tasks: optimization, averaged weights, exact resumption, and self-contained checkpoints."""

import inspect
import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, ClassVar, Literal, cast

from lightning.pytorch import Callback
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.tasks.kernels import KernelChoice
from inceptionnext_lit.tasks.optimized import Optimized
from inceptionnext_lit.tasks.self_contained import check_options, match_average
from inceptionnext_lit.training.batchnorm import AverageStatistics
from inceptionnext_lit.training.callbacks.checkpoints import Mode
from inceptionnext_lit.training.callbacks.cuda_graphs import CudaGraphs
from inceptionnext_lit.training.callbacks.curve import ExactCurve
from inceptionnext_lit.training.callbacks.nan_guard import NanGuard
from inceptionnext_lit.training.callbacks.plateau import StepOnPlateau
from inceptionnext_lit.training.callbacks.progressive import ProgressiveImages
from inceptionnext_lit.training.callbacks.resume import ExactResume
from inceptionnext_lit.training.callbacks.same_data import SameData
from inceptionnext_lit.training.callbacks.settings import RunRecord
from inceptionnext_lit.training.callbacks.step_seeds import SeedSteps
from inceptionnext_lit.training.execution import Execution
from inceptionnext_lit.training.finetuning import Finetuning, Phases, without_classifier
from inceptionnext_lit.training.layout import match_gradients
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule
from inceptionnext_lit.training.sharding import shard


def run_callbacks() -> list[Callback]:
    """Return the callbacks of every training run: seeds, NaN guard, exact resumption, records of settings and data."""
    return [SeedSteps(), NanGuard(), ExactResume(), ExactCurve(), RunRecord(), SameData(), ProgressiveImages()]


class BaseTask(Optimized):
    """A task with one model; a subclass defines its steps and metrics.

    The subclass's constructor takes at least ``lr`` and ``weight_decay``, and those of the options below that a user
    can set, under the same names; it builds the model and passes both on. Its arguments are plain values or dataclasses
    of them: they are saved, and a checkpoint rebuilds the task from them. A resumed run continues with the next batch
    and ends with the same weights, provided that the metrics are ``torchmetrics.Metric`` and that steps draw random
    numbers from torch, NumPy or ``random``.

    Attributes:
        directions: Names of the validation metrics, each with ``max`` or ``min`` for whether its largest or smallest
            value is the best. The first one selects the best epoch, for the averaged weights (``val_ema/…``) if any.
        data_class: The data module for a checkpoint's data, if the command line does not name one: a name of
            ``inceptionnext_lit.data``, or a path.
        can_predict: Whether the command ``predict`` supports the task.
        predictions_name: The output that the end of a run suggests for ``predict``.
        can_flip: Whether the task supports averaging over mirrored images (``execution.test_time_flip``).
        model_ema: The averaged weights, if enabled; ``model_ema.module`` is a model.

    Args:
        model: The model to train.
        optimizer: The optimizer, its own arguments, and the layer-wise decay of the learning rate.
        schedule: Warm-up, cosine and cool-down of the learning rate, or another schedule by its class.
        ema_decay: Decay per step of a moving average of the weights; None disables it.
        ema_warmup: Whether to limit the decay to ``1 - n ** (-2 / 3)`` after n steps.
        finetuning: Which layers are frozen, and whether to start with a linear probe.
        execution: How the model is run: memory layout, compilation, gradient checkpointing, BatchNorm on several
            ranks.
        has_weights: Whether the model has pretrained weights; random ones cannot be frozen.

    Raises:
        TypeError: If the constructor does not take ``lr`` and ``weight_decay``, or an option has another type.
        UserError: If a value is out of range.
    """

    directions: Mapping[str, Mode] = {"val/loss": "min"}
    data_class: ClassVar[str] = "ImageFolderDataModule"
    can_predict: ClassVar[bool] = False
    predictions_name: ClassVar[str] = "labels.csv"
    can_flip: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerOptions | None = None,
        schedule: Schedule | None = None,
        ema_decay: float | None = None,
        ema_warmup: bool = True,
        finetuning: Finetuning | None = None,
        execution: Execution | None = None,
        has_weights: bool = False,
    ) -> None:
        super().__init__()
        constructor = cast(Any, inspect.currentframe()).f_back  # the subclass's
        check_options(type(self), constructor.f_locals)
        self.save_hyperparameters(frame=constructor)
        if missing := {"lr", "weight_decay"} - set(self.hparams):
            raise TypeError(f"{type(self).__name__}'s constructor must take {' and '.join(sorted(missing))}.")
        _check_rates(self.hparams["lr"], self.hparams["weight_decay"])
        check_shares(ema_decay=ema_decay or 0.0)
        self.model = model
        self.has_weights = has_weights
        self.optimizer = optimizer or OptimizerOptions()
        self.schedule = schedule or Schedule()
        self.finetuning = finetuning or Finetuning()
        self.execution = execution or Execution()
        if self.execution.test_time_flip and not self.can_flip:
            raise UserError(f"{type(self).__name__} does not support model.execution.test_time_flip; leave it out.")
        self.execution.prepare(model, str(self.hparams.get("name", type(model).__name__)))
        self.phases = Phases(model, self.finetuning)
        self.model_ema = None if ema_decay is None else ModelEmaV3(model, decay=ema_decay, use_warmup=ema_warmup)
        if self.model_ema is not None:
            self.model_ema.requires_grad_(False)
        self._averaged_names = list(model.state_dict())

    @property
    def backbone(self) -> nn.Module:
        """The model without its classifier, as Lightning's ``BackboneFinetuning`` requires."""
        return without_classifier(self.model)

    @property
    def inference_model(self) -> nn.Module:
        """The model with averaged weights if there is one, otherwise the trained model."""
        return self.model if self.model_ema is None else cast(nn.Module, self.model_ema.module)

    @property
    def shown_metrics(self) -> list[str]:
        """The logged metrics shown after each epoch: the losses, and the main metric of each split."""
        stages = dict.fromkeys(name.partition("/")[0] for name in self.directions)
        main = [next(name for name in self.directions if name.startswith(f"{stage}/")) for stage in stages]
        trained = [f"train/{name.partition('/')[2]}" for name in main[:1]]
        return list(dict.fromkeys(["train/loss", *trained, "val/loss", *main]))

    def evaluated_models(self, stage: str) -> dict[str, nn.Module]:
        """Return the models to evaluate: with the trained weights and, if any, with the averaged weights.

        Args:
            stage: ``val`` or ``test``.

        Returns:
            The models by the prefix of their metrics, such as ``val`` and ``val_ema``.
        """
        averaged = {} if self.model_ema is None else {f"{stage}_ema": cast(nn.Module, self.model_ema.module)}
        return {stage: self.model, **averaged}

    def model_input(self, batch: Any) -> Tensor:
        """Return what the model is called with for a training batch; by default the batch's first tensor.

        Args:
            batch: A batch on the model's device.
        """
        images: Tensor = batch[0]
        return images.to(memory_format=self.execution.memory_format)

    @classmethod
    def data_defaults(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments of the image data module that follow from a checkpoint; none by default.

        Args:
            arguments: The constructor's arguments as stored in a checkpoint.

        Raises:
            UserError: If the checkpoint lacks the required information.
        """
        return {}

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks of :func:`run_callbacks`, and those that other options need."""
        execution = self.execution
        averaging = [AverageStatistics()] if execution.dist_bn == "reduce" else []
        kernels = [] if execution.kernels == "torch" else [KernelChoice(execution.kernels)]
        graphs = [CudaGraphs(execution.compile_mode)] if execution.uses_cuda_graphs else []
        return [*averaging, *kernels, *graphs, *run_callbacks(), StepOnPlateau()]

    def setup(self, stage: str) -> None:
        """Prepare the model for training, and compile it if configured."""
        if stage != "fit":
            return
        self.check_schedule(self.directions)
        if self.trainer.checkpoint_callbacks:
            self.plain_hparams()  # reports arguments that cannot be saved before the first step
        if self.hparams["lr"] == "auto":
            self.derive_lr(datamodule_of(self.trainer))
        self.phases.begin(epoch=0)
        if self.trainer.world_size > 1 and self.device_mesh is None:
            match_gradients(self.model)
        self.execution.start(self.model)

    def on_train_start(self) -> None:
        """Refuse to freeze random weights, after a checkpoint's weights have been restored."""
        self.finetuning.check_weights(are_loaded=self.has_weights)
        super().on_train_start()

    def on_train_epoch_start(self) -> None:
        """Unfreeze the layers after a linear probe; refuse to average weights that another callback has renamed.

        Raises:
            UserError: If it has, as Lightning's ``ModelPruning`` does.
        """
        super().on_train_epoch_start()
        names = [name.removeprefix("_orig_mod.") for name in self.model.state_dict()]  # compiled by the user
        if self.model_ema is not None and names != self._averaged_names:  # it pairs weights by their order
            changed = next(one for one, other in zip_longest(names, self._averaged_names) if one != other)
            raise UserError(
                f"The model's weights are not those that model.ema_decay averages: {changed} is not at its place, as "
                "after pruning. Leave out ema_decay, or the callback that changes the model."
            )

    def configure_model(self) -> None:
        """Shard the model across ranks, if the strategy is ``ModelParallelStrategy``."""
        if self.device_mesh is None:
            return
        shard(self.model, self.device_mesh["data_parallel"])
        if self.model_ema is not None:
            shard(self.model_ema.module, self.device_mesh["data_parallel"])
            self.model_ema.foreach = False  # torch's multi-tensor kernels do not support sharded tensors

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step as Lightning does, then update the averaged weights."""
        super().optimizer_step(*args, **kwargs)
        if self.model_ema is not None:
            self.model_ema.update(self.model, step=self.trainer.global_step if self.model_ema.use_warmup else None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Start or drop the average of the weights, if the task and the checkpoint differ in keeping one.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If a weight is NaN or infinite, or the checkpoint's weights do not belong to this task.
        """
        super().on_load_checkpoint(checkpoint)
        match_average(checkpoint, wanted=self.model_ema is not None)


def check_shares(**shares: float) -> None:
    """Check that options of a task are at least 0 and less than 1.

    Args:
        **shares: The options by name.

    Raises:
        UserError: If one is out of range.
    """
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise UserError(f"model.{name} is {value}; it must be at least 0 and less than 1.")


def _check_rates(lr: float | Literal["auto"], weight_decay: float) -> None:
    if lr != "auto" and not 0 < lr < math.inf:  # also rejects NaN
        raise UserError(f"model.lr is {lr}; it must be greater than 0.")
    if not 0 <= weight_decay < math.inf:
        raise UserError(f"model.weight_decay is {weight_decay}; it must be 0 or more.")
