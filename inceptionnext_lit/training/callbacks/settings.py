"""Store a run's settings in its checkpoints, so that a resumed run can print what has changed."""

from typing import Any, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.console import LineConsole
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.seeding import run_seed

KEY = "run"
_TRAINER = ("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches", "world_size")
_NOT_SETTINGS = ("data_spec", "pretrained")  # from the data, or used once
# what runs did before these options existed
_BEFORE = {"model.execution.kernels": "torch", "model.execution.compile_mode": "default"}


class RunRecord(Callback):
    """Store a run's settings in its checkpoints, and print how those of a resumed run differ."""

    def __init__(self) -> None:
        self._stored: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings as plain data."""
        checkpoint[KEY] = settings(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the settings of the run to resume."""
        self._stored = checkpoint.get(KEY)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what has changed, on the first rank."""
        if self._stored is None or not trainer.is_global_zero:
            return
        changes = differences(self._stored, settings(trainer, pl_module))
        if changes:
            text = "Changed:    " + "; ".join(changes) + " (from the checkpoint's run to this one)"
            LineConsole().print(text)


def settings(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Return the settings of a run as plain values under the command line's keys."""
    data_module = datamodule_of(trainer)
    data = getattr(data_module, "settings", None)
    data = data if isinstance(data, dict) else {}
    plain: dict[str, Any] = cast(Any, pl_module).plain_hparams() if hasattr(pl_module, "plain_hparams") else {}
    model = {key: value for key, value in plain.items() if key not in _NOT_SETTINGS}
    limits = {key: getattr(trainer, key) for key in _TRAINER}
    # of a whole step: progressive image sizes join accumulated batches in some epochs
    limits["accumulate_grad_batches"] = getattr(data_module, "accumulated", trainer.accumulate_grad_batches)
    return flatten({"seed_everything": run_seed(), "data": data, "model": model, "trainer": limits})


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries into one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: _storable(value)}
    return flat


def _storable(value: Any) -> Any:
    """Return a value that a checkpoint can hold, the value itself if it is one."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return each key whose value differs, as ``key before → now``; an option that did not exist was off, like None."""
    before = {key: value for key, value in _BEFORE.items() if key in now} | before
    keys = [*before, *(key for key in now if key not in before)]
    changed = [key for key in keys if _plain(before.get(key)) != _plain(now.get(key))]
    return [f"{key} {before.get(key, '–')} → {now.get(key, '–')}" for key in changed]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
