"""How a model is run: speed and memory, BatchNorm on several processes, and mirrored images in evaluation."""

from dataclasses import dataclass

import torch
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.batchnorm import DistBN


@dataclass(frozen=True)
class Execution:
    """How a model is run.

    Args:
        channels_last: Keep a pixel's channels together in images and activations, for convolutions the fastest layout
            on CPUs and GPUs. Parameters stay contiguous, as tools such as ``parameters_to_vector`` and Lightning's
            ``ModelPruning`` expect them.
        compile: Compile the model with ``torch.compile`` when training starts.
        grad_checkpointing: Compute activations again in the backward pass instead of keeping them: less memory, a third
            more time.
        dist_bn: Whose running statistics of BatchNorm several processes validate with: their mean (``reduce``, timm's
            default), or those of the first process (``broadcast``).
        test_time_flip: Whether the commands validate, test and predict average each image's probabilities with its
            mirror image's; the validations of a training do not. For classifiers.
    """

    channels_last: bool = True
    compile: bool = False
    grad_checkpointing: bool = False
    dist_bn: DistBN = "reduce"
    test_time_flip: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def prepare(self, model: nn.Module, name: str) -> None:
        """Switch checkpointing on, if asked for.

        Args:
            model: Any timm model.
            name: Its name, for messages.

        Raises:
            UserError: If it cannot be checkpointed.
        """
        if self.grad_checkpointing:
            try:
                model.set_grad_checkpointing(True)  # type: ignore[operator]
            except (AssertionError, AttributeError) as error:
                raise UserError(
                    f"The model {name!r} has no gradient checkpointing; leave out model.execution.grad_checkpointing."
                ) from error

    def start(self, model: nn.Module) -> None:
        """Compile, if asked for; in place, so that names in checkpoints stay as they are."""
        if self.compile:
            model.compile()
