"""Values in the place of ``auto``: of the batch size, the learning rate, and the metric that decides."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.tuner import lr_finder
from lightning.pytorch.tuner.tuning import Tuner

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.training.callbacks.checkpoints import Checkpoints, best_mode
from inceptionnext_lit.wording import did_you_mean

_SMALLEST_BATCH = 4
_TRIAL_STEPS = 100
_FEWEST_STEPS = 2 * _TRIAL_STEPS  # with fewer, the same images come back, and the loss falls by memory


def resolve_checkpoints(kept: Checkpoints, config: Any, model: LightningModule) -> Checkpoints:
    """Put the metric that decides, and its direction, in the place of ``auto``.

    Args:
        kept: Which checkpoints are to be kept.
        config: Their parsed arguments, changed in place, so that the saved ones name the metric.
        model: The task.

    Returns:
        The checkpoints with both values.

    Raises:
        UserError: As :func:`choose_monitor`, or if the direction is not known.
    """
    config.monitor = choose_monitor(kept.monitor, model)
    config.mode = best_mode(model, config.monitor, kept.mode)
    return replace(kept, monitor=config.monitor, mode=config.mode)


def choose_monitor(monitor: str, model: LightningModule) -> str:
    """The metric by which the best epoch is chosen; one that will never be logged is refused.

    Args:
        monitor: Its name, or ``auto`` for the task's main metric, of the averaged weights where there are any.
        model: The task, whose ``directions`` names the metrics; of another module they are not known.

    Raises:
        UserError: If there is no such metric.
    """
    metrics: list[str] = list(getattr(model, "directions", ()))
    if monitor == "auto":
        if not metrics:
            raise UserError(
                f"{type(model).__name__} does not say which metric is its main one; name it: --checkpoint.monitor."
            )
        return next((name for name in metrics if name.startswith("val_ema/")), metrics[0])
    if metrics and monitor not in metrics:
        raise UserError(f"checkpoint.monitor is {monitor!r}, which is not logged; {did_you_mean(monitor, metrics)}")
    return monitor


def derive(config: Any, model: LightningModule, data: Any, trainer: Trainer) -> list[str]:
    """Put numbers in the place of ``auto``, in the objects and in the configuration that is saved.

    The batch is what the number of training images says; on a GPU it is halved until it fits. The rate follows from the
    images per step.

    Args:
        config: The command's parsed arguments, changed in place.
        model: The task.
        data: The data module, whose fit stage is set up.
        trainer: The trainer of the run.

    Returns:
        What was derived, as ``key value``.
    """
    derived = []
    if config.data.init_args.get("batch_size") == "auto":
        if trainer.strategy.root_device.type == "cuda" and trainer.world_size == 1:
            fit_memory(model, data, trainer)
        config.data.init_args.batch_size = data.batch_size
        derived.append(f"data.batch_size {data.batch_size}")
    if config.model.init_args.get("lr") == "auto" and isinstance(model, BaseTask):
        model.derive_lr(data)
        _set_lr(config, model, model.hparams["lr"])
        derived.append(f"model.lr {model.hparams['lr']:g}")
    return derived


def fit_memory(model: LightningModule, data: Any, trainer: Trainer) -> None:
    """Make the batch as large as it was to be, or as memory allows, by Lightning's trial.

    Args:
        model: The task; a copy of it is tried.
        data: The data module, whose ``batch_size`` is what was to be.
        trainer: The trainer of the run, of which the trial takes device and precision.
    """
    wanted = data.batch_size
    with _trial(trainer) as trial:
        found = Tuner(trial).scale_batch_size(
            _without_callbacks(model),
            datamodule=data,
            init_val=min(_SMALLEST_BATCH, wanted),
            max_val=wanted + 1,  # what reaches the limit is not tried any more
            steps_per_trial=2,
        )
    data.batch_size = min(wanted, found or wanted)
    data.trainer = trainer


def find_lr(model: LightningModule, data: Any, trainer: Trainer) -> float:
    """Find a peak learning rate by Lightning's range test: the rate of the steepest fall of the loss.

    Args:
        model: The task; a copy of it is tried.
        data: The data module, whose fit stage is set up.
        trainer: The trainer of the run, of which the trial takes device and precision.

    Raises:
        UserError: If there are several devices, too few images, or no rate stands out.
    """
    if trainer.world_size > 1:
        raise UserError("--find_lr runs on one device; find it with --trainer.devices 1, then give it as model.lr.")
    images, needed = len(data.train_set), _FEWEST_STEPS * data.step_size
    if images < needed:
        raise UserError(
            f"--find_lr needs {_FEWEST_STEPS} steps' worth of images, {needed:,} at {data.step_size} a step, to tell a "
            f"good rate from a bad one; there are {images:,}. Leave it out and keep the recipe's model.lr, or give a "
            "smaller --data.batch_size."
        )
    with _trial(trainer) as trial, _without_bar():
        copy = _without_callbacks(model)
        finder = Tuner(trial).lr_find(
            copy, datamodule=data, min_lr=1e-5, num_training=_TRIAL_STEPS, update_attr=False, attr_name="lr"
        )
    data.trainer = trainer
    found = None if finder is None else finder.suggestion()
    if found is None:
        raise UserError("--find_lr found no rate at which the loss falls; give model.lr a number.")
    return float(f"{found:.2g}")


def take_found_lr(
    config: Any, model: LightningModule, data: Any, trainer: Trainer, checkpoint: dict[str, Any] | None
) -> list[str]:
    """Find a peak learning rate, and put it into the task and into the configuration that is saved.

    Args:
        config: The command's parsed arguments, changed in place, so that they repeat this run without another trial.
        model: The task.
        data: The data module, whose fit stage is set up.
        trainer: The trainer of the run.
        checkpoint: Of a run that is continued, which has found its rate when it began; None for a new one.

    Returns:
        What was found, as ``key value``.
    """
    if checkpoint is not None:
        _set_lr(config, model, checkpoint["hyper_parameters"]["lr"])
        return []
    rate = find_lr(model, data, trainer)
    _set_lr(config, model, rate)
    config.find_lr = False
    return [f"model.lr {rate:g} (by a range test)"]


def _set_lr(config: Any, model: LightningModule, lr: float) -> None:
    """Give the task its peak learning rate, and write it into the configuration that is saved."""
    model.hparams["lr"] = config.model.init_args.lr = lr


@contextmanager
def _trial(trainer: Trainer) -> Iterator[Trainer]:
    """A trainer of the same device and precision that leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        yield Trainer(
            accelerator=trainer.strategy.root_device.type if trainer.strategy.root_device.type != "cuda" else "gpu",
            devices=1,
            precision=trainer.precision,
            max_epochs=_TRIAL_STEPS,  # enough for the range test, whatever the steps of an epoch
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )


@contextmanager
def _without_bar() -> Iterator[None]:
    """Leave the range test's own progress bar out where the output is no terminal, and its remarks everywhere."""
    remarks, module = logging.getLogger(lr_finder.__name__), cast(Any, lr_finder)
    bar = module.tqdm
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    module.tqdm = partial(bar, disable=None)
    try:
        yield
    finally:
        module.tqdm = bar
        remarks.setLevel(level)


def _without_callbacks(model: LightningModule) -> LightningModule:
    """A copy that does without its own callbacks: exact continuation, and the stop at a loss that is no number."""
    copy = deepcopy(model)
    cast(Any, copy).configure_callbacks = list
    return copy
