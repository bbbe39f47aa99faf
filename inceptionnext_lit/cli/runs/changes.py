"""Check which options may change between a checkpoint's run and the run that continues it.

An option either takes effect or is rejected here, before training starts. Rejected are changes that are incompatible
with the optimizer's state or the shapes of the weights.
"""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule

from inceptionnext_lit.cli.runs.latest_run import say
from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.tasks.classification.distilled import KEY as DISTILLATION

# a continued run may add or drop the averaged weights; check_options compares what a distilled run trains besides
_NOT_COMPARED = ("model_ema.", f"{DISTILLATION}.")


def leave_out_pretrained(arguments: Any, checkpoint: Mapping[str, Any] | None) -> Any:
    """Skip pretrained weights that a checkpoint's weights would replace, and report it.

    Args:
        arguments: The model's parsed arguments, changed in place.
        checkpoint: What :func:`read_checkpoint` returns, if there is one.

    Returns:
        The given ``pretrained``.
    """
    pretrained = arguments.get("pretrained")
    if pretrained and checkpoint is not None:
        say(f"Not used:   model.pretrained {pretrained}; the weights are loaded from the checkpoint")
        arguments.pretrained = False
    return pretrained


def check_fit(
    checkpoint: Mapping[str, Any] | None, model: LightningModule, path: str | None, *, is_training: bool
) -> None:
    """Check that a checkpoint fits the model and, for training, its optimizer.

    Args:
        checkpoint: What :func:`read_checkpoint` returns, if there is one.
        model: The model.
        path: The file.
        is_training: Whether training continues from it.

    Raises:
        SharedError: As :func:`check_weights` and :func:`check_options`.
    """
    if checkpoint is not None:
        check_weights(checkpoint, model, str(path))
        if is_training:
            check_options(checkpoint, model, str(path))


def check_weights(checkpoint: Mapping[str, Any], model: LightningModule, path: str) -> None:
    """Check that a checkpoint's classes and weights fit the model.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        model: The model that will load its weights.
        path: The file, for the message.

    Raises:
        SharedError: If they do not fit.
    """
    stored, own = checkpoint["state_dict"], model.state_dict()
    if isinstance(model, BaseTask):
        model.check_checkpoint(checkpoint)
    keys = [key for key in (*own, *(key for key in stored if key not in own)) if not key.startswith(_NOT_COMPARED)]
    for key in keys:
        shapes = [tuple(state[key].shape) if key in state else None for state in (stored, own)]
        if shapes[0] != shapes[1]:
            there, here = (f"of shape {shape}" if shape is not None else "missing" for shape in shapes)
            raise SharedError(
                f"The weights of {path} do not fit the model: {key} is {there} in the checkpoint and {here} in the "
                f"model. {_causes(checkpoint, model)}{_alternative(path)}"
            )


def check_options(checkpoint: Mapping[str, Any], model: LightningModule, path: str) -> None:
    """Check that the options fit the optimizer's state in a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` returns, with the state of an optimizer.
        model: The model that continues training.
        path: The file, for the message.

    Raises:
        SharedError: If an option has changed that must stay.
    """
    if not isinstance(model, BaseTask):
        return
    before, now = dict(checkpoint["hyper_parameters"]), model.plain_hparams()
    for key, reason in _refused(before, now).items():
        group, _, name = key.removeprefix("model.").partition(".")
        raise SharedError(
            f"{key} is {_option(now, group, name)} and was {_option(before, group, name)} in the checkpoint's run, but "
            f"{reason}. Leave it as it was.{_alternative(path)}"
        )
    was, given = (_option(options, "optimizer", "kwargs") or {} for options in (before, now))
    problem = model.try_state(checkpoint["optimizer_states"][0], with_step=was != given)
    if problem is not None:
        raise SharedError(
            f"The optimizer's state in {path} does not fit this run ({problem}); model.optimizer.kwargs is {given} "
            f"and was {was}. Leave it as it was.{_alternative(path)}"
        )


def _refused(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that have changed but must not, each with the reason."""
    if _changed(before, now, "optimizer", "name"):
        return {"model.optimizer.name": "an optimizer cannot load the state of another one"}
    for key in ("name", "interval", "kwargs"):
        if _changed(before, now, "schedule", key):
            return {f"model.schedule.{key}": "the schedule's state belongs to the earlier one"}
    reason = "the optimizer's state belongs to other parameter groups"
    projects = [_option(options, "distill", "kind") == "features" for options in (before, now)]
    if projects[0] != projects[1]:
        hint = " (model.distill.weight 0 ends the distillation and keeps them)"
        return {"model.distill.kind": reason + hint * (projects[0] and not now.get("distill"))}
    if _changed(before, now, "finetuning", "freeze"):
        return {"model.finetuning.freeze": reason}
    by_layer = [_option(options, "optimizer", "layer_decay") not in (None, 1) for options in (before, now)]
    if by_layer[0] != by_layer[1]:
        return {"model.optimizer.layer_decay": reason}
    probes = [bool(_option(options, "finetuning", "probe_epochs")) for options in (before, now)]
    separate_head = [
        probe or _option(options, "optimizer", "head_lr_factor") not in (None, 1)
        for probe, options in zip(probes, (before, now), strict=True)
    ]
    if separate_head[0] != separate_head[1]:
        key = "model.finetuning.probe_epochs" if probes[0] != probes[1] else "model.optimizer.head_lr_factor"
        return {key: reason}
    return {}


def _option(options: Mapping[str, Any], group: str, name: str) -> Any:
    """Return an option of a task; None if the task does not have it."""
    return (options.get(group) or {}).get(name)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], group: str, name: str) -> bool:
    return bool(_option(before, group, name) != _option(now, group, name))


def _causes(checkpoint: Mapping[str, Any], model: LightningModule) -> str:
    """Name the changed options that determine shapes."""
    before = checkpoint.get("hyper_parameters", {})
    now = model.plain_hparams() if isinstance(model, BaseTask) else {}
    causes = []
    if (before.get("kwargs") or {}) != (now.get("kwargs") or {}):
        causes.append(f"model.kwargs is {now.get('kwargs')} and was {before.get('kwargs')}")
    specs = [options.get("data_spec") or {} for options in (before, now)]
    formats = [spec.get("preprocessing") or {"mean": [], "image_size": 0} for spec in specs]
    for key, numbers in {
        "data.in_chans": [len(of["mean"]) for of in formats],
        "data.image_size": [of["image_size"] for of in formats],
    }.items():
        if numbers[0] != numbers[1]:
            causes.append(f"{key} is {numbers[1]} and was {numbers[0]}")
    return f"{'; '.join(causes)}. Leave it as it was." if causes else ""


def _alternative(path: str) -> str:
    return f" Or start a new run from these weights: --model.pretrained {path} instead of --ckpt_path."
