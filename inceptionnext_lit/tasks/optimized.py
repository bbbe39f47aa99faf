"""How a task's model is optimized: rates, schedule, and the phases of fine-tuning."""

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
    """A task with one model, one optimizer and a schedule; its arguments are ``lr``, ``weight_decay`` and others.

    Attributes:
        model: What is trained.
        optimizer: Which optimizer.
        schedule: How its rate changes.
        finetuning: What is frozen, and whether a linear probe comes first.
        phases: The same for this model.
        has_weights: Whether the model's weights were loaded; random ones are not to be frozen.
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

    def check_schedule(self, directions: Mapping[str, str]) -> None:
        """Refuse a schedule that does not go with the rest of the task.

        Args:
            directions: For each metric of an epoch, whether its ``min`` or its ``max`` is the best.

        Raises:
            UserError: If it waits for what is not logged or for a metric to get worse, or comes with a linear probe.
        """
        self.schedule.check_monitor(directions)
        if self.schedule.name is not None and self.finetuning.probe_epochs:
            raise UserError(
                f"A linear probe needs the recipes' own schedule, not {self.schedule.name}; leave out "
                "model.finetuning.probe_epochs or model.schedule.name."
            )

    def derive_lr(self, data: Any) -> None:
        """Put a number in the place of a rate that is to be derived.

        Args:
            data: The data module, of which ``step_size`` tells the images per step; its fit stage is set up.

        Raises:
            UserError: If it does not tell.
        """
        if not hasattr(data, "step_size"):
            raise UserError("model.lr is auto, but the data do not tell the images per step; give a number.")
        self.hparams["lr"] = default_lr(data.step_size, int(cast(Any, self.model).num_features))

    def on_train_epoch_start(self) -> None:
        """Go on from the linear probe to the rest, where there is one."""
        if self.phases.advance(self.current_epoch, self.trainer):
            rank_zero_info(f"The linear probe ends: from epoch {self.current_epoch + 1} on all layers are trained.")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer without decay on biases, norms and LayerScale, and the schedule.

        The recipes' schedule is stepped per optimizer step, another per epoch.
        """
        tuning, later = self.finetuning, self.phases.later
        head = classifier_parameters(self.model) if later or self.optimizer.head_lr_factor != 1 else ()
        with trainable(self.model, later):
            optimizer = self.optimizer.build(self.model, self.hparams["lr"], self.hparams["weight_decay"], head)
        if self.trainer.gradient_clip_val:
            unscale_before_step(optimizer)
        if self.schedule.name is not None:
            described = self.schedule.attach(optimizer)
            self._own_options = [_options(group) | {"lr": group["initial_lr"]} for group in optimizer.param_groups]
            return cast(OptimizerLRSchedulerConfig, {"optimizer": optimizer, "lr_scheduler": described})
        self._own_options = [_options(group) for group in optimizer.param_groups]
        self.trainer.fit_loop.setup_data()  # else the batches per epoch are not known yet where max_steps is set
        total_steps = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        if later and (self.trainer.max_epochs or 0) in range(1, tuning.probe_epochs + 1):
            rank_zero_warn(
                f"model.finetuning.probe_epochs is {tuning.probe_epochs} and trainer.max_epochs is "
                f"{self.trainer.max_epochs}: only the classifier is trained. Lower the one or raise the other."
            )
        probe = Probe(tuning.probe_epochs * steps_per_epoch, tuning.probe_lr) if later else None
        scheduler = self.schedule.build(optimizer, total_steps, steps_per_epoch, probe)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a schedule, but for one that waits for a metric: ``StepOnPlateau`` steps it."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Take the mean over the batches of a step that the end of an epoch has cut short.

        Each batch's gradients have been divided by the batches of a whole step, as if none were missing.
        """
        whole = self.trainer.accumulate_grad_batches
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready % whole
        if batches:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(whole / batches)

    def on_train_start(self) -> None:
        """Let this run's own arguments win over those that a continued run's checkpoint has just restored."""
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        scheduler = self.lr_schedulers()
        if not isinstance(scheduler, StepSchedule) and self.schedule.name is None:
            return  # a range test for the rate, with a schedule of its own
        if not isinstance(scheduler, ReduceLROnPlateau):  # which has none
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
        """The steps that this run would have done by now; a continued one may have had longer or shorter epochs."""
        whole, batches_per_epoch = self.trainer.accumulate_grad_batches, int(self.trainer.num_training_batches)
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        epochs = int(cast(Any, self.trainer.fit_loop.epoch_progress.current).processed)
        # an epoch's last step may have fewer batches, and be done while its validation is still to come
        in_epoch = math.ceil(batches / whole) if batches >= batches_per_epoch else batches // whole
        return epochs * math.ceil(batches_per_epoch / whole) + in_epoch

    def try_state(self, state: dict[str, Any], *, with_step: bool) -> str | None:
        """Try whether the optimizer can go on from a state.

        Args:
            state: Its state as a checkpoint holds it.
            with_step: Whether to step a copy of a parameter too, since the optimizer's own arguments have changed.

        Returns:
            What went wrong, if anything did.
        """
        head = classifier_parameters(self.model) if self.optimizer.head_lr_factor != 1 or self.phases.later else ()
        with trainable(self.model, self.phases.later):
            groups = self.optimizer.build(self.model, 1.0, 0.0, head).param_groups
        sizes = [[len(group["params"]) for group in of] for of in (state["param_groups"], groups)]
        if sizes[0] != sizes[1]:
            return f"its groups have {sizes[0]} parameters, those of this run {sizes[1]}"
        parameters = [parameter for group in groups for parameter in group["params"]]
        index = next(iter(state["state"]), None)
        if not with_step or index is None:
            return None
        return self.optimizer.try_step(parameters[index], state["state"][index])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit, and go on in the phase in which it was written.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If a weight is NaN or infinite, or its weights mean something else than this task's.
        """
        super().on_load_checkpoint(checkpoint)
        self.has_weights = True
        stored = checkpoint.get("hyper_parameters", {}).get("optimizer") or {}
        self._stored_kwargs = stored.get("kwargs") or {}
        if self.phases.probing:
            self.phases.begin(checkpoint.get(POSITION, {}).get("epoch", checkpoint["epoch"]))


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
