"""Inference with a compiled model whose weights are frozen into it as constants."""

import threading

import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import first_line


class Compiled:
    """A model for inference, compiled for the first batch shape that occurs twice.

    Batches of other shapes run uncompiled: compiling takes ten seconds to minutes, too long for the last batch of a
    data set or for a batch with an unreadable image. Several threads may call it at once.

    Args:
        model: Model in evaluation mode; it must not be changed afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._compiled = torch.compile(model, dynamic=False)
        self._shape: torch.Size | None = None
        self._seen: set[torch.Size] = set()
        self._compiling = threading.Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """Run the model without gradients, ``(N, C, H, W)`` to its output.

        Raises:
            UserError: If the model cannot be compiled here.
        """
        with torch.inference_mode():
            with self._compiling:
                if self._shape is None:
                    if images.shape in self._seen:
                        self._compile(images)
                    self._seen.add(images.shape)
            out: Tensor = (self._compiled if images.shape == self._shape else self._model)(images)
            return out

    def _compile(self, images: Tensor) -> None:
        try:
            with torch._inductor.config.patch(freezing=True):
                self._compiled(images)
        except torch._dynamo.exc.TorchDynamoException as error:  # includes the compilers' own errors
            cause = getattr(error, "inner_exception", error)
            raise UserError(f"The model cannot be compiled here, so leave that out: {first_line(cause)}.") from error
        self._shape = images.shape
