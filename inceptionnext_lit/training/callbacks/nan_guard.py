"""Stop training on a NaN or Inf loss, before a checkpoint is written."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.training.pending import Pending

LIST_NAME = "not_finite.txt"
_NAMED = 3


@dataclass(frozen=True)
class _Step:
    """A step whose loss has not been checked yet; ``is_bad`` is 1 or 0 for all ranks together."""

    epoch: int
    batch_idx: int
    number: int
    lr: float
    loss: Tensor
    is_bad: Pending


class NanGuard(Callback):
    """End a run on all ranks when the training loss of any rank is NaN or infinite.

    On a GPU the loss is checked one batch later, when it is available without waiting for the newest batch, but always
    before a checkpoint is written.
    """

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque()
        self._number = 0
        self._lr = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the step of this batch and its learning rate, before the schedule changes it."""
        self._number = trainer.global_step + 1
        self._lr = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check this batch's loss, or on a GPU the previous one's.

        Raises:
            SharedError: If it is NaN or infinite.
        """
        loss = outputs["loss"].detach() if isinstance(outputs, dict) else outputs.detach()
        is_bad = (~loss.isfinite()).any().to(torch.int32)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(is_bad, op=torch.distributed.ReduceOp.MAX)
        self._steps.append(_Step(trainer.current_epoch, batch_idx, self._number, self._lr, loss, Pending(is_bad)))
        self._check(trainer, keep=int(self._steps[-1].is_bad.is_late))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the remaining losses of the epoch; raises as above."""
        self._check(trainer, keep=0)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the newest loss before its weights overwrite good ones; raises as above."""
        self._check(trainer, keep=0)

    def _check(self, trainer: Trainer, keep: int) -> None:
        while len(self._steps) > keep:
            step = self._steps.popleft()
            if step.is_bad.read():
                self._steps.clear()
                raise SharedError(_report(trainer, step))


def _report(trainer: Trainer, step: _Step) -> str:
    """Describe what happened where; ranks exchange whose loss it was and which files it had."""
    loss = float(step.loss)
    teacher = _bad_teacher(trainer)
    mine = None if math.isfinite(loss) else (trainer.global_rank, loss, batch_files(trainer, step), teacher)
    told: list[Any] = [mine]
    if trainer.world_size > 1:
        told = [None] * trainer.world_size
        torch.distributed.all_gather_object(told, mine)
    rank, loss, _, teacher = next(found for found in told if found is not None)
    files = [path for found in told if found is not None for path in found[2]]
    where = f" on rank {rank}" if trainer.world_size > 1 else ""
    place = f"step {step.number} (epoch {step.epoch + 1}, batch {step.batch_idx + 1}, lr {step.lr:.3g})"
    told_files = _list_files(trainer, files)
    if teacher is not None:
        return (
            f"The teacher {teacher} gives NaN or infinite outputs{where} in {place}{told_files}. The checkpoints were "
            "written before and are good. Try --trainer.precision 32-true, or give another --model.distill.teacher."
        )
    return (
        f"The training loss is {loss}{where} in {place}{told_files}. The checkpoints were written before and are good. "
        "Inspect these images, or try a lower --model.lr, --trainer.gradient_clip_val 1.0 or "
        "--trainer.precision 32-true."
    )


def _bad_teacher(trainer: Trainer) -> str | None:
    """Return the title of the teacher of a distilled run if its outputs are not finite."""
    teacher = getattr(trainer.lightning_module, "teacher", None)
    if teacher is None or teacher.was_finite is None or bool(teacher.was_finite):
        return None
    return str(teacher.title)


def _list_files(trainer: Trainer, files: Sequence[str]) -> str:
    if not files:
        return ""
    named = ", ".join(files[:_NAMED])
    if len(files) <= _NAMED:
        return f", with the images {named}"
    if trainer.log_dir is None:
        return f", with the images {named} and {len(files) - _NAMED} more"
    target = Path(trainer.log_dir) / LIST_NAME
    if trainer.is_global_zero:
        with replacing(target) as partial:
            partial.write_text("\n".join(files) + "\n", encoding="utf-8", errors="surrogateescape")
    return f", with the images {named} and {len(files) - _NAMED} more, all listed in {target}"


def evaluated_files(loader: Any, places: Sequence[int]) -> list[str]:
    """Return the image files at some positions of an evaluation on this rank; empty if the loader does not know them.

    Args:
        loader: The evaluation's loader.
        places: Positions counted from 0 over all batches.
    """
    samples, order = getattr(loader.dataset, "samples", None), list(loader.sampler) if places else []
    if samples is None or not all(hasattr(draw, "image") for draw in order):
        return []
    return [str(samples[order[place].image][0]) for place in places]


def batch_files(trainer: Trainer, step: Any) -> list[str]:
    """Return the image files of this rank's part of a batch; empty if the loader does not know them."""
    loader = cast(Any, trainer.train_dataloader)
    samples, draws = getattr(loader.dataset, "samples", None), getattr(loader.sampler, "draws", None)
    if samples is None or draws is None:
        return []
    start = step.batch_idx * loader.batch_size
    return [str(samples[draw.image][0]) for draw in islice(draws(step.epoch), start, start + loader.batch_size)]
