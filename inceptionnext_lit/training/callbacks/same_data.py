"""Check that all ranks of a run have the same data, and that a resumed run has the data of its checkpoint."""

import socket
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.training.callbacks.settings import KEY as RUN

KEY = "data_fingerprint"
_SHOWN = 5
_RULES = ("val_fraction", "seed", "num_folds", "fold")  # settings that decide which images are held back
_BEST_CALLBACKS = ("BestCheckpoint", "StopEarly")  # callbacks that compare validations
Splits = Mapping[str, Mapping[str, tuple[int, int]]]
"""Fingerprint of each split: for each class, its number of images and a number that identifies them."""


class SameData(Callback):
    """Compare the data of all ranks before the first step, and with the data of the checkpoint to resume.

    The data module's ``fingerprint()`` defines what is compared; without it, nothing is.
    """

    def __init__(self) -> None:
        self._splits: Splits = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the data with the other ranks, before the model is wrapped.

        Raises:
            SharedError: If they have other classes or images.
        """
        tell = getattr(datamodule_of(trainer), "fingerprint", None)
        if stage != "fit" or tell is None:
            return
        self._splits = tell()
        if trainer.world_size > 1:
            classes = getattr(pl_module, "class_names", [])
            told: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(told, (socket.gethostname(), list(classes), self._splits))
            if (problem := compare_ranks(told)) is not None:
                raise SharedError(problem)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the fingerprint."""
        checkpoint[KEY] = {split: dict(classes) for split, classes in self._splits.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Report what has changed; if the validation split is another one, restart the choice of the best epoch.

        Raises:
            SharedError: If a class has lost its training images, or images that were trained on are now held back.
        """
        before: Splits = checkpoint.get(KEY, {})
        if not before or not self._splits:
            return
        for split, classes in before.items():
            now = self._splits.get(split, {})
            gone = [name for name in classes if name not in now]
            if split == "train" and gone:
                raise SharedError(
                    f"The data no longer have training images of {_list(gone)}; the checkpoint's run had "
                    f"{sum(classes[name][0] for name in gone)}. Put them back, or start a new run from the weights: "
                    "--model.pretrained CHECKPOINT instead of --ckpt_path."
                )
            if changes := differences(classes, now):
                _say(f"Data:       changed since the checkpoint, {split}: {_list(changes)}")
        if before.get("val") != self._splits.get("val"):
            _check_held_back(checkpoint.get(RUN, {}), datamodule_of(trainer))
            states = checkpoint.get("callbacks", {})
            checkpoint["callbacks"] = {
                key: state for key, state in states.items() if not key.startswith(_BEST_CALLBACKS)
            }
            _say("Best:       chosen again, since the validation images have changed")


def _check_held_back(run: Mapping[str, Any], data: Any) -> None:
    """Check whether a resumed run has trained on validation images.

    Args:
        run: Settings of the checkpoint's run.
        data: The data module.

    Raises:
        SharedError: If other rules hold back other images of the same data.
    """
    if not getattr(data, "holds_back", False):
        return
    for name in _RULES if run.get("data.root") == data.settings["root"] else ():
        now, before = data.settings["split"][name], run.get(f"data.split.{name}")
        if now != before:
            raise SharedError(
                f"data.split.{name} is {now} and was {before} in the checkpoint's run, so images it was trained on "
                "would be held back for validation. Restore the old value, or start a new run without the checkpoint."
            )
    rank_zero_warn(
        "The validation split has changed and may now contain images that this run was trained on, so its metrics may "
        "be too high. Put the validation images into a folder of their own, val/, to avoid this."
    )


def compare_ranks(told: list[tuple[str, list[str], Splits]]) -> str | None:
    """Describe how the data differ between ranks.

    Args:
        told: For each rank, in order: its host, its class names in order, and its splits.

    Returns:
        A sentence, or None if all are the same.
    """
    host, classes, splits = told[0]
    for rank, (other_host, other_classes, others) in enumerate(told):
        if other_classes == classes and others == splits:
            continue
        changes = [f"the class {name} only on rank 0" for name in classes if name not in other_classes]
        changes += [f"the class {name} only on rank {rank}" for name in other_classes if name not in classes]
        if not changes and other_classes != classes:
            changes.append("the classes in another order")
        for split in splits:
            changes += [f"{split}: {change}" for change in differences(splits[split], others.get(split, {}))]
        sizes = [_sizes(names, of) for names, of in ((classes, splits), (other_classes, others))]
        return (
            f"The ranks do not have the same data: rank 0 on {host} has {sizes[0]}; rank {rank} on "
            f"{other_host} has {sizes[1]}. From the first to the second: {_list(changes)}. Give all machines the same "
            "files under data.root."
        )
    return None


def differences(before: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return what has changed in the classes of a split, class by class."""
    changes = []
    for name in sorted({*before, *now}):
        (count, mark), (new_count, new_mark) = before.get(name, (0, 0)), now.get(name, (0, 0))
        if count != new_count:
            changes.append(f"{name or 'no label'} {count} → {new_count} images")
        elif mark != new_mark:
            changes.append(f"{name or 'no label'} {count} images, but other ones")
    return changes


def _sizes(classes: list[str], splits: Splits) -> str:
    counts = [f"{sum(count for count, _ in of.values())} {split} images" for split, of in splits.items()]
    return ", ".join([f"{len(classes)} classes", *counts])


def _list(items: list[str]) -> str:
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + rest


@rank_zero_only
def _say(text: str) -> None:
    print(text, flush=True)
