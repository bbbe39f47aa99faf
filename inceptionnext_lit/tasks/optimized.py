"""Optimization of a task's model: learning rates, schedule, and the phases of fine-tuning."""

import math
from collections.abc import Mapping
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.self_contained import SelfContained
from inceptionnext_lit.training.callbacks.resume import KEY as POSITION
from inceptionnext_lit.training.finetuning import Finetuning, Phases, classifier_parameters, trainable
from inceptionnext_lit.training.optim import STEP_KWARGS, OptimizerOptions, default_lr, unscale_before_step
from inceptionnext_lit.training.schedule import Probe, Schedule, StepSchedule


class Optimized(SelfContained):
    """A task with one model, one optimizer and a schedule; its arguments include ``lr`` and ``weight_decay``.

    Attributes:
        model: The model to train.
        optimizer: The optimizer's options.
        schedule: The learning rate schedule.
        finetuning: Which layers are frozen, and whether to start with a linear probe.
        phases: The phases of fine-tuning this model.
        has_weights: Whether the model's weights were loaded; random ones cannot be frozen.
    """

    model: nn.Module
    optimizer: OptimizerOptions
    schedule: Schedule
    finetuning: Finetuning
    phases: Phases
    has_weights: bool

    def __init__(self) -> None:
        super().__init__()
        self._own_options: list[dict[str, Any]] = []
        self._stored_kwargs: dict[str, Any] = {}

    @property
    def trained_beside(self) -> nn.Module | None:
        """A module that is trained with the model and is not part of it; none by default."""
        return None

    def check_schedule(self, directions: Mapping[str, str]) -> None:
        """Refuse a schedule that is incompatible with the task.

        Args:
            directions: Whether the ``min`` or ``max`` of each logged metric is the best.

        Raises:
            UserError: If it monitors a metric that is not logged, or in the wrong direction, or is combined with a
                linear probe.
        """
        self.schedule.check_monitor(directions)
        if self.schedule.name is not None and self.finetuning.probe_epochs:
            raise UserError(
                f"A linear probe needs the recipes' own schedule, not {self.schedule.name}; leave out "
                "model.finetuning.probe_epochs or model.schedule.name."
            )

    def derive_lr(self, data: Any) -> None:
        """Derive the learning rate from the images per step.

        Args:
            data: The data module, with its fit stage set up; its ``step_size`` is the number of images per step.

        Raises:
            UserError: If it has no ``step_size``.
        """
        if not hasattr(data, "step_size"):
            raise UserError("model.lr is auto, but the data module does not define step_size; give a number.")
        self.hparams["lr"] = default_lr(data.step_size, int(cast(Any, self.model).num_features))

    def on_train_epoch_start(self) -> None:
        """Unfreeze the layers after the linear probe, if there is one."""
        if self.phases.advance(self.current_epoch, self.trainer):
            rank_zero_info(f"The linear probe ends: all layers are trained from epoch {self.current_epoch + 1}.")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer, without weight decay on biases, norms and LayerScale, and the schedule.

        The recipes' schedule is stepped per optimizer step, other schedules per epoch.
        """
        tuning, later = self.finetuning, self.phases.later
        head = classifier_parameters(self.model) if later or self.optimizer.head_lr_factor != 1 else ()
        with trainable(self.model, later):
            # NumPy's numbers would be in the optimizer's state, and checkpoints with them cannot be loaded
            rates = float(self.hparams["lr"]), float(self.hparams["weight_decay"])
            optimizer = self.optimizer.build(self.model, *rates, head, self.trained_beside)
        if self.trainer.gradient_clip_val:
            unscale_before_step(optimizer)
        if self.schedule.name is not None:
            described = self.schedule.attach(optimizer)
            self._own_options = [_options(group) | {"lr": group["initial_lr"]} for group in optimizer.param_groups]
            return cast(OptimizerLRSchedulerConfig, {"optimizer": optimizer, "lr_scheduler": described})
        self._own_options = [_options(group) for group in optimizer.param_groups]
        self.trainer.fit_loop.setup_data()  # otherwise the batches per epoch are not known yet if max_steps is set
        if self.trainer.num_training_batches == math.inf:
            raise UserError(
                "The training loader has no length, so that the schedule does not know an epoch's steps; set "
                "trainer.limit_train_batches to the batches of an epoch."
            )
        total_steps = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        if later and (self.trainer.max_epochs or 0) in range(1, tuning.probe_epochs + 1):
            rank_zero_warn(
                f"model.finetuning.probe_epochs is {tuning.probe_epochs} and trainer.max_epochs is "
                f"{self.trainer.max_epochs}, so only the classifier is trained. Lower the former or raise the latter."
            )
        probe = Probe(tuning.probe_epochs * steps_per_epoch, tuning.probe_lr) if later else None
        scheduler = self.schedule.build(optimizer, total_steps, steps_per_epoch, probe)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a schedule, except one that monitors a metric: ``StepOnPlateau`` steps it."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Rescale the gradients of an incomplete step at the end of an epoch to the mean over its batches.

        Each batch's gradients have been divided by the number of batches of a full step.
        """
        whole = self.trainer.accumulate_grad_batches
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready % whole
        if batches:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(whole / batches)

    def on_train_start(self) -> None:
        """Override the arguments restored from a resumed run's checkpoint with this run's own."""
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        scheduler = self.lr_schedulers()
        if not isinstance(scheduler, StepSchedule) and self.schedule.name is None:
            return  # a learning rate range test, with its own schedule
        if not isinstance(scheduler, ReduceLROnPlateau):  # it has no base_lrs
            cast(LRScheduler, scheduler).base_lrs = [own["lr"] for own in self._own_options]
        if isinstance(scheduler, StepSchedule) and self.trainer.max_steps == -1:
            by_now, total = self._steps_by_now(), int(self.trainer.estimated_stepping_batches)
            if scheduler.last_epoch != by_now:
                rank_zero_info(
                    f"The number of steps per epoch has changed: the schedule continues from step {by_now} of {total}."
                )
            scheduler.last_epoch = by_now
        stored, given = self._stored_kwargs, self.optimizer.kwargs or {}
        changed = {key for key in stored.keys() | given.keys() if stored.get(key) != given.get(key)} - set(STEP_KWARGS)
        for index, (group, own) in enumerate(zip(optimizer.param_groups, self._own_options, strict=True)):
            if isinstance(scheduler, StepSchedule):
                group["lr"] = own["lr"] * scheduler.lr_lambdas[index](scheduler.last_epoch)
            elif own["lr"] != group["initial_lr"]:
                group["lr"] *= own["lr"] / group["initial_lr"]
            group.update(initial_lr=own["lr"], weight_decay=own["weight_decay"])
            group.update({key: own[key] for key in changed if key in own})

    def _steps_by_now(self) -> int:
        """Return the steps of this run so far; epochs may have been longer or shorter before resuming."""
        whole, batches_per_epoch = self.trainer.accumulate_grad_batches, int(self.trainer.num_training_batches)
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        progress = cast(Any, self.trainer.fit_loop.epoch_progress.current)
        epochs = int(progress.processed)
        if progress.ready == epochs:  # between two epochs, the batches are still those of the one before
            batches = 0
        # an epoch's last step may have fewer batches, and be done before the epoch's validation
        in_epoch = math.ceil(batches / whole) if batches >= batches_per_epoch else batches // whole
        return epochs * math.ceil(batches_per_epoch / whole) + in_epoch

    def try_state(self, state: dict[str, Any], *, with_step: bool) -> str | None:
        """Check whether the optimizer can continue from a state.

        Args:
            state: The optimizer state of a checkpoint.
            with_step: Whether to also step a copy of a parameter, since the optimizer's own arguments have changed.

        Returns:
            What went wrong, or None.
        """
        head = classifier_parameters(self.model) if self.optimizer.head_lr_factor != 1 or self.phases.later else ()
        with trainable(self.model, self.phases.later):
            groups = self.optimizer.build(self.model, 1.0, 0.0, head, self.trained_beside).param_groups
        sizes = [[len(group["params"]) for group in of] for of in (state["param_groups"], groups)]
        if sizes[0] != sizes[1]:
            return f"its groups have {sizes[0]} parameters, those of this run {sizes[1]}"
        parameters = [parameter for group in groups for parameter in group["params"]]
        index = next(iter(state["state"]), None)
        if not with_step or index is None:
            return None
        return self.optimizer.try_step(parameters[index], state["state"][index])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse an incompatible checkpoint, and continue in the phase in which it was written.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If a weight is NaN or infinite, or the checkpoint's weights do not belong to this task.
        """
        super().on_load_checkpoint(checkpoint)
        self.has_weights = True
        stored = checkpoint.get("hyper_parameters", {}).get("optimizer") or {}
        self._stored_kwargs = stored.get("kwargs") or {}
        if self.phases.probing:
            self.phases.begin(checkpoint.get(POSITION, {}).get("epoch", checkpoint["epoch"]))


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
