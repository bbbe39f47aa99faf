"""Numbers that a GPU is still computing, read without waiting for what it was asked since."""

import torch
from torch import Tensor


class Pending:
    """A number on its way from its device to the host.

    ``Tensor.item`` waits for all that the GPU was asked up to now, and leaves it idle until it is asked for more. Read
    from here a step later, the number is there already, or is waited for while the GPU has the newer step to work on.

    Args:
        value: A tensor of one element, on any device.

    Attributes:
        is_late: Whether to read it a step later; on a CPU it is there at once.
    """

    def __init__(self, value: Tensor) -> None:
        value = value.detach()
        self.is_late = value.is_cuda
        # torch puts a copy that need not be waited for into pinned memory
        self._value = value.to("cpu", non_blocking=True) if value.is_cuda else value
        self._arrived = torch.cuda.current_stream(value.device).record_event() if value.is_cuda else None

    def read(self) -> float:
        """The number; waits for it, not for newer work."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._value)
