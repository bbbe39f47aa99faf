"""Keep training within what CUDA graphs allow, if the model is compiled to them (``model.execution.compile_mode``)."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.training.execution import CompileMode


class CudaGraphs(Callback):
    """Mark the beginning of each step, validate uncompiled, and refuse to accumulate batches.

    A graph writes its outputs into the same memory each time, gradients included, so that those of the last step are
    lost when the next one begins. A graph is for one shape, and would be recorded again for each one in a validation.

    Args:
        mode: The mode of compilation, for messages.
    """

    def __init__(self, mode: CompileMode) -> None:
        self._mode = mode

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to accumulate batches.

        Raises:
            SharedError: If a step has several batches.
        """
        batches = getattr(datamodule_of(trainer), "accumulated", trainer.accumulate_grad_batches)
        if stage == "fit" and batches > 1:
            raise SharedError(
                f"model.execution.compile_mode {self._mode} uses CUDA graphs, which cannot accumulate the gradients of "
                f"{batches} batches; raise --data.batch_size until a step is one batch, or leave the mode out."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Mark the beginning of a step."""
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate uncompiled."""
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue compiled."""
        torch.compiler.set_stance("default")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the process as it was."""
        torch.compiler.set_stance("default")
