"""Resolve ``auto`` for the batch size, the crop, the learning rate, class weights and the monitored metric."""

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
from inceptionnext_lit.tasks import BaseTask, SegmentationTask
from inceptionnext_lit.training.callbacks.checkpoints import Checkpoints, best_mode
from inceptionnext_lit.wording import did_you_mean

_SMALLEST_BATCH = 4
_TRIAL_STEPS = 100
_FEWEST_STEPS = 2 * _TRIAL_STEPS  # with fewer, images repeat and the loss falls by memorization


def resolve_checkpoints(kept: Checkpoints, config: Any, model: LightningModule) -> Checkpoints:
    """Replace ``auto`` by the monitored metric and its direction.

    Args:
        kept: Which checkpoints to keep.
        config: Their parsed arguments, changed in place so that the saved config names the metric.
        model: The task.

    Returns:
        The checkpoint options with both values.

    Raises:
        UserError: As :func:`choose_monitor`, or if the direction is unknown.
    """
    config.monitor = choose_monitor(kept.monitor, model)
    config.mode = best_mode(model, config.monitor, kept.mode)
    return replace(kept, monitor=config.monitor, mode=config.mode)


def choose_monitor(monitor: str, model: LightningModule) -> str:
    """Return the metric that selects the best epoch.

    Args:
        monitor: Its name, or ``auto`` for the task's main metric, of the averaged weights if there are any.
        model: The task, whose ``directions`` lists the metrics; for other modules they are unknown.

    Raises:
        UserError: If the metric is never logged.
    """
    metrics: list[str] = list(getattr(model, "directions", ()))
    if monitor == "auto":
        if not metrics:
            raise UserError(
                f"{type(model).__name__} does not define a main metric; name one with --checkpoint.monitor."
            )
        return next((name for name in metrics if name.startswith("val_ema/")), metrics[0])
    if metrics and monitor not in metrics:
        raise UserError(f"checkpoint.monitor is {monitor!r}, which is not logged; {did_you_mean(monitor, metrics)}")
    return monitor


def derive(config: Any, model: LightningModule, data: Any, trainer: Trainer) -> list[str]:
    """Replace ``auto`` by numbers, in the objects and in the saved config.

    The batch size follows from the number of training images, limited on a GPU by its memory. The learning rate follows
    from the images per step. For segmentation, the crop follows from the sizes of the training images, and the class
    weights from their masks.

    Args:
        config: The command's parsed arguments, changed in place.
        model: The task.
        data: The data module, whose fit stage is set up.
        trainer: The trainer of the run.

    Returns:
        What was derived, as ``key value``.
    """
    derived = []
    if config.data.init_args.get("crop_size") == "auto":
        config.data.init_args.crop_size = data.preprocessing["image_size"]
        derived.append(f"data.crop_size {config.data.init_args.crop_size}")
    if config.data.init_args.get("batch_size") == "auto":
        if trainer.strategy.root_device.type == "cuda" and trainer.world_size == 1:
            fit_memory(model, data, trainer)
        config.data.init_args.batch_size = data.batch_size
        derived.append(f"data.batch_size {data.batch_size}")
    if config.model.init_args.get("lr") == "auto" and isinstance(model, BaseTask):
        model.derive_lr(data)
        _set_lr(config, model, model.hparams["lr"])
        derived.append(f"model.lr {model.hparams['lr']:g}")
    if isinstance(model, SegmentationTask) and (weights := model.derive_class_weights(data)) is not None:
        config.model.init_args.segmentation.loss.class_weights = weights
        derived.append(f"model.segmentation.loss.class_weights {weights}")
    return derived


def fit_memory(model: LightningModule, data: Any, trainer: Trainer) -> None:
    """Reduce the batch size to what fits in memory, found by Lightning's batch size finder.

    Args:
        model: The task; the trial uses a copy.
        data: The data module, whose ``batch_size`` is the upper limit, changed in place.
        trainer: The trainer of the run; the trial uses its device and precision.
    """
    wanted = data.batch_size
    with _trial(trainer) as trial, _one_batch_a_step(data):
        found = Tuner(trial).scale_batch_size(
            _without_callbacks(model),
            datamodule=data,
            init_val=min(_SMALLEST_BATCH, wanted),
            max_val=wanted + 1,  # exclusive
            steps_per_trial=2,
        )
    data.batch_size = min(wanted, found or wanted)
    data.trainer = trainer


def find_lr(model: LightningModule, data: Any, trainer: Trainer) -> float:
    """Find a peak learning rate by Lightning's range test: the one at which the loss falls most steeply.

    Args:
        model: The task; the trial uses a copy.
        data: The data module, whose fit stage is set up.
        trainer: The trainer of the run; the trial uses its device and precision.

    Raises:
        UserError: If there are several devices, too few images, or no learning rate stands out.
    """
    if trainer.world_size > 1:
        raise UserError("--find_lr runs on one device; find it with --trainer.devices 1, then give it as model.lr.")
    images, needed = len(data.train_set), _FEWEST_STEPS * data.step_size
    if images < needed:
        raise UserError(
            f"--find_lr needs images for {_FEWEST_STEPS} steps, {needed:,} at {data.step_size} a step, to compare "
            f"learning rates; there are {images:,}. Leave it out and keep the recipe's model.lr, or give a smaller "
            "--data.batch_size."
        )
    with _trial(trainer) as trial, _without_bar():
        copy = _without_callbacks(model)
        finder = Tuner(trial).lr_find(
            copy, datamodule=data, min_lr=1e-5, num_training=_TRIAL_STEPS, update_attr=False, attr_name="lr"
        )
    data.trainer = trainer
    found = None if finder is None else finder.suggestion()
    if found is None:
        raise UserError("--find_lr found no learning rate at which the loss falls; set model.lr to a number.")
    return float(f"{found:.2g}")


def take_found_lr(
    config: Any, model: LightningModule, data: Any, trainer: Trainer, checkpoint: dict[str, Any] | None
) -> list[str]:
    """Find a peak learning rate, and set it in the task and in the saved config.

    Args:
        config: The command's parsed arguments, changed in place so that they repeat this run without another trial.
        model: The task.
        data: The data module, whose fit stage is set up.
        trainer: The trainer of the run.
        checkpoint: Checkpoint of a continued run, whose learning rate is used; None for a new run.

    Returns:
        What was found, as ``key value``.
    """
    if checkpoint is not None:
        _set_lr(config, model, checkpoint["hyper_parameters"]["lr"])
        return []
    lr = find_lr(model, data, trainer)
    _set_lr(config, model, lr)
    config.find_lr = False
    return [f"model.lr {lr:g} (by a range test)"]


def _set_lr(config: Any, model: LightningModule, lr: float) -> None:
    """Set the peak learning rate in the task and in the saved config."""
    model.hparams["lr"] = config.model.init_args.lr = lr


@contextmanager
def _trial(trainer: Trainer) -> Iterator[Trainer]:
    """Yield a trainer with the same device and precision that leaves no files."""
    with tempfile.TemporaryDirectory() as folder:
        yield Trainer(
            accelerator=trainer.strategy.root_device.type if trainer.strategy.root_device.type != "cuda" else "gpu",
            devices=1,
            precision=trainer.precision,
            max_epochs=_TRIAL_STEPS,  # enough for the range test with any number of steps per epoch
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )


@contextmanager
def _one_batch_a_step(data: Any) -> Iterator[None]:
    """Do not accumulate batches, nor train on smaller images than those of the evaluation."""
    before = data.global_batch_size, data.sizes
    data.global_batch_size, data.sizes = None, ()
    try:
        yield
    finally:
        data.global_batch_size, data.sizes = before


@contextmanager
def _without_bar() -> Iterator[None]:
    """Hide the range test's log messages, and its progress bar if the output is not a terminal."""
    logger, module = logging.getLogger(lr_finder.__name__), cast(Any, lr_finder)
    bar = module.tqdm
    level = logger.level
    logger.setLevel(logging.ERROR)
    module.tqdm = partial(bar, disable=None)
    try:
        yield
    finally:
        module.tqdm = bar
        logger.setLevel(level)


def _without_callbacks(model: LightningModule) -> LightningModule:
    """Return a copy without the task's own callbacks: exact resumption and the NaN guard."""
    copy = deepcopy(model)
    cast(Any, copy).configure_callbacks = list
    return copy
