"""Check an evaluation's logits: a metric that silently counts NaN as a class would be wrong."""

from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.training.callbacks.nan_guard import evaluated_files

_NAMED = 3


class LogitGuard:
    """Record the images of an evaluation whose logits are NaN or infinite.

    The record stays on the device; the host reads it once, at the end of the evaluation.
    """

    def __init__(self) -> None:
        self._lost: dict[str, list[Tensor]] = {}

    def begin(self, *stages: str) -> None:
        """Reset some stages."""
        for stage in stages:
            self._lost[stage] = []

    def note(self, stage: str, logits: Tensor, counted: Tensor) -> None:
        """Add a batch.

        Args:
            stage: Prefix of the metrics, such as ``val`` or ``val_ema``.
            logits: Shape (N, K).
            counted: Whether each image counts, shape (N,).
        """
        self._lost.setdefault(stage, []).append(~logits.isfinite().all(dim=1) & counted)

    def check(self, task: LightningModule, stage: str) -> None:
        """Check the whole evaluation, over all ranks.

        Args:
            task: The evaluated task.
            stage: ``val`` or ``test``, including the averaged weights.

        Raises:
            SharedError: If logits are NaN or infinite; names the first images.
        """
        for name in (stage, f"{stage}_ema"):
            if batches := self._lost.pop(name, []):
                self._check(task.trainer, stage, batches, " with averaged weights" * (name != stage))

    def _check(self, trainer: Trainer, stage: str, batches: list[Tensor], weights: str) -> None:
        lost = torch.cat(batches)
        places = lost.nonzero()[:, 0].tolist() if lost.any() else []  # a single synchronization if all are finite
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
            f"{', '.join(first)}. Check these images, try --trainer.precision 32-true, or use an earlier checkpoint."
        )


def _where(trainer: Trainer, stage: str, batches: list[Tensor], places: list[int]) -> list[str]:
    """Return the files at some positions in this rank's order, or the names of their batches."""
    loaders = trainer.test_dataloaders if stage == "test" else trainer.val_dataloaders
    loader = loaders[0] if isinstance(loaders, list) else loaders
    if files := evaluated_files(cast(Any, loader), places):
        return files
    ends = torch.tensor([len(batch) for batch in batches]).cumsum(0)
    numbers = torch.searchsorted(ends, torch.tensor(places, dtype=torch.int64), right=True)
    return [f"batch {number + 1}" for number in dict.fromkeys(numbers.tolist())]
