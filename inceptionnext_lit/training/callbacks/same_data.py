"""The data of all processes of a run are the same, and those of a continued run are what they were."""

import socket
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.training.callbacks.settings import KEY as RUN

KEY = "data_fingerprint"
_SHOWN = 5
_RULES = ("val_fraction", "seed", "num_folds", "fold")  # which decide on what is held back
_OF_BEST = ("BestCheckpoint", "StopEarly")  # callbacks that compare validations
Splits = Mapping[str, Mapping[str, tuple[int, int]]]
"""Of each split, the fingerprint: of each class the number of its images, and a number that tells which they are."""


class SameData(Callback):
    """Compares the data of all processes before the first step, and with those of the checkpoint that is continued.

    The data module's ``fingerprint()`` tells what to compare; without one, nothing is compared.
    """

    def __init__(self) -> None:
        self._splits: Splits = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare with the other processes, before the model is spread over them.

        Raises:
            SharedError: If they have other classes or images.
        """
        tell = getattr(getattr(trainer, "datamodule", None), "fingerprint", None)
        if stage != "fit" or tell is None:
            return
        self._splits = tell()
        if trainer.world_size > 1:
            classes = getattr(pl_module, "class_names", [])
            told: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(told, (socket.gethostname(), list(classes), self._splits))
            if (problem := compare_processes(told)) is not None:
                raise SharedError(problem)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the fingerprint."""
        checkpoint[KEY] = {split: dict(classes) for split, classes in self._splits.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say what has changed; of another validation split, the best epoch begins anew.

        Raises:
            SharedError: If a class has no training images any more, or images that were trained on are held back now.
        """
        before: Splits = checkpoint.get(KEY, {})
        if not before or not self._splits:
            return
        for split, classes in before.items():
            now = self._splits.get(split, {})
            gone = [name for name in classes if name not in now]
            if split == "train" and gone:
                raise SharedError(
                    f"The data have no training images of {_list(gone)} any more, of which the checkpoint's run had "
                    f"{sum(classes[name][0] for name in gone)}. Put them back, or start a new run from the weights: "
                    "--model.pretrained CHECKPOINT in the place of --ckpt_path."
                )
            if changes := differences(classes, now):
                _say(f"Data:       changed since the checkpoint, {split}: {_list(changes)}")
        if before.get("val") != self._splits.get("val"):
            _check_held_back(checkpoint.get(RUN, {}), getattr(trainer, "datamodule", None))
            states = checkpoint.get("callbacks", {})
            checkpoint["callbacks"] = {key: state for key, state in states.items() if not key.startswith(_OF_BEST)}
            _say("Best:       chosen anew, since the validation images are not those of before")


def _check_held_back(run: Mapping[str, Any], data: Any) -> None:
    """Look for validation images that a continued run has trained on.

    Args:
        run: The settings of the checkpoint's run.
        data: The data module.

    Raises:
        SharedError: If other rules hold back others of the same images.
    """
    if not getattr(data, "holds_back", False):
        return
    for name in _RULES if run.get("data.root") == data.settings["root"] else ():
        now, before = data.settings["split"][name], run.get(f"data.split.{name}")
        if now != before:
            raise SharedError(
                f"data.split.{name} is {now} and was {before} in the checkpoint's run: images that it has trained on "
                "would be held back for validation. Leave it as it was, or start a new run without the checkpoint."
            )
    rank_zero_warn(
        "The validation split has changed and may now contain images that this run was trained on, so its metrics may "
        "be too high. Put the validation images into a folder of their own, val/, to avoid this."
    )


def compare_processes(told: list[tuple[str, list[str], Splits]]) -> str | None:
    """Say how the data of processes differ.

    Args:
        told: Of each process, in order: its machine, its class names in order, and its splits.

    Returns:
        A sentence; None if all are the same.
    """
    host, classes, splits = told[0]
    for rank, (other_host, other_classes, others) in enumerate(told):
        if other_classes == classes and others == splits:
            continue
        changes = [f"the class {name} only on process 0" for name in classes if name not in other_classes]
        changes += [f"the class {name} only on process {rank}" for name in other_classes if name not in classes]
        if not changes and other_classes != classes:
            changes.append("the classes in another order")
        for split in splits:
            changes += [f"{split}: {change}" for change in differences(splits[split], others.get(split, {}))]
        sizes = [_sizes(names, of) for names, of in ((classes, splits), (other_classes, others))]
        return (
            f"The processes do not have the same data: process 0 on {host} has {sizes[0]}; process {rank} on "
            f"{other_host} has {sizes[1]}. From the first to the second: {_list(changes)}. Give all machines the same "
            "files under data.root."
        )
    return None


def differences(before: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]]) -> list[str]:
    """What has changed in the classes of a split, class by class."""
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
