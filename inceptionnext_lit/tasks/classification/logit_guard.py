"""Watching an evaluation's logits: a metric that counts NaN as a class would be a wrong number without a word."""

from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.training.callbacks.nan_guard import evaluated_files

_NAMED = 3


class LogitWatch:
    """Notes for which images of an evaluation the logits are NaN or infinite.

    The notes stay on the device; the host looks at them once, when the evaluation ends.
    """

    def __init__(self) -> None:
        self._lost: dict[str, list[Tensor]] = {}

    def begin(self, *stages: str) -> None:
        """Forget an earlier evaluation of some stages."""
        for stage in stages:
            self._lost[stage] = []

    def note(self, stage: str, logits: Tensor, counted: Tensor) -> None:
        """Add a batch.

        Args:
            stage: Under which name it is evaluated, such as ``val`` or ``val_ema``.
            logits: Of shape (N, K).
            counted: Which images count, as booleans of shape (N,).
        """
        self._lost.setdefault(stage, []).append(~logits.isfinite().all(dim=1) & counted)

    def check(self, task: LightningModule, stage: str) -> None:
        """Look at the whole evaluation, on all processes together.

        Args:
            task: What is evaluated.
            stage: ``val`` or ``test``, also for the averaged weights.

        Raises:
            SharedError: If an image has logits that are not finite; it names the first ones.
        """
        for name in (stage, f"{stage}_ema"):
            if batches := self._lost.pop(name, []):
                self._check(task.trainer, stage, batches, " with averaged weights" * (name != stage))

    def _check(self, trainer: Trainer, stage: str, batches: list[Tensor], weights: str) -> None:
        lost = torch.cat(batches)
        places = lost.nonzero()[:, 0].tolist() if lost.any() else []  # one wait, where nothing is lost
        mine = len(places), len(lost), _where(trainer, stage, batches, places[:_NAMED])
        told: list[Any] = [mine]
        if trainer.world_size > 1:
            told = [None] * trainer.world_size
            torch.distributed.all_gather_object(told, mine)
        if not (count := sum(found[0] for found in told)):
            return
        first = [name for found in told for name in found[2]][:_NAMED]
        total = sum(found[1] for found in told)
        raise SharedError(
            f"The model's outputs{weights} are NaN or infinite for {count} of {total} images ({stage}), first "
            f"{', '.join(first)}. Look at these images, try --trainer.precision 32-true, or use an earlier checkpoint."
        )


def _where(trainer: Trainer, stage: str, batches: list[Tensor], places: list[int]) -> list[str]:
    """Names of the files at some places of this process's order, or of their batches."""
    loaders = trainer.test_dataloaders if stage == "test" else trainer.val_dataloaders
    loader = loaders[0] if isinstance(loaders, list) else loaders
    if files := evaluated_files(cast(Any, loader), places):
        return files
    ends = torch.tensor([len(batch) for batch in batches]).cumsum(0)
    numbers = torch.searchsorted(ends, torch.tensor(places, dtype=torch.int64), right=True)
    return [f"batch {number + 1}" for number in dict.fromkeys(numbers.tolist())]
