"""Read numbers from a GPU without waiting for newer work."""

import torch
from torch import Tensor


class Pending:
    """A number on its way from its device to the host.

    ``Tensor.item`` waits for all work queued on the GPU, which is then idle until it gets more. Read one step later,
    the number has already arrived, or is waited for while the GPU works on the newer step.

    Args:
        value: A tensor with one element, on any device.

    Attributes:
        is_late: Whether to read it one step later; on a CPU it is available at once.
    """

    def __init__(self, value: Tensor) -> None:
        value = value.detach()
        self.is_late = value.is_cuda
        # torch copies into pinned memory if the copy is non-blocking
        self._value = value.to("cpu", non_blocking=True) if value.is_cuda else value
        self._arrived = torch.cuda.current_stream(value.device).record_event() if value.is_cuda else None

    def read(self) -> float:
        """Return the number, waiting for it but not for newer work."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._value)
