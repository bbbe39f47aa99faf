"""How a model is executed: speed, memory, BatchNorm on several ranks, and test-time flipping."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.batchnorm import DistBN

Kernels = Literal["auto", "triton", "torch"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


@dataclass(frozen=True)
class Execution:
    """How a model is executed.

    Args:
        channels_last: Use the channels-last memory format for images and activations, the fastest for convolutions on
            CPUs and GPUs. Parameters stay contiguous, as tools such as ``parameters_to_vector`` and Lightning's
            ``ModelPruning`` expect.
        compile: Compile the model with ``torch.compile`` when training starts.
        compile_mode: The mode of ``torch.compile``. The others than ``default`` use CUDA graphs, for small batches on a
            GPU: training steps are replayed with little work of the CPU, validations run uncompiled, and batches
            cannot be accumulated.
        kernels: How the depthwise token mixers of this family are computed in training: by ``torch``, or by one
            ``triton`` kernel each on a GPU. ``auto`` times both for each shape before the first step, takes the faster
            one, and remembers it. The kernels are experimental: they were tested with Triton's interpreter on a CPU
            and never timed on a GPU, so that ``torch`` is the default.
        grad_checkpointing: Recompute activations in the backward pass instead of storing them: less memory, about a
            third more time.
        dist_bn: BatchNorm's running statistics for validation on several ranks: their mean (``reduce``, timm's
            default), or those of the first rank (``broadcast``).
        test_time_flip: Whether the commands validate, test and predict average the probabilities of each image and its
            mirror image; validations during training do not. For classifiers.

    Raises:
        UserError: If ``compile_mode`` is given without ``compile``.
    """

    channels_last: bool = True
    compile: bool = False
    compile_mode: CompileMode = "default"
    kernels: Kernels = "torch"
    grad_checkpointing: bool = False
    dist_bn: DistBN = "reduce"
    test_time_flip: bool = False

    def __post_init__(self) -> None:
        check_choices(self, "model.execution")
        if self.compile_mode != "default" and not self.compile:
            raise UserError(
                f"model.execution.compile_mode is {self.compile_mode}, but the model is not compiled; add "
                "--model.execution.compile true, or leave it out."
            )

    @property
    def uses_cuda_graphs(self) -> bool:
        """Whether training steps are recorded as CUDA graphs on a GPU."""
        return self.compile_mode != "default"

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def prepare(self, model: nn.Module, name: str) -> None:
        """Enable gradient checkpointing if requested.

        Args:
            model: Any timm model.
            name: Its name, for messages.

        Raises:
            UserError: If the model does not support it.
        """
        if self.grad_checkpointing:
            try:
                model.set_grad_checkpointing(True)  # type: ignore[operator]
            except (AssertionError, AttributeError) as error:
                raise UserError(
                    f"The model {name!r} does not support gradient checkpointing; leave out "
                    "model.execution.grad_checkpointing."
                ) from error

    def start(self, model: nn.Module) -> None:
        """Compile the model if requested, in place, so that names in checkpoints stay the same."""
        if self.compile:
            model.compile(mode=self.compile_mode)
