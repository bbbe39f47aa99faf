"""A device without double precision, such as an Apple GPU, simulated on the CPU."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class WithoutFloat64(TorchDispatchMode):
    """Raise, like torch on Apple's GPUs, if an operator creates a float64 tensor on the device.

    All tensors stand for tensors on the device, but for what ``Tensor.cpu`` gives and what is computed from that alone.
    """

    def __enter__(self) -> Self:
        self._cpu = Tensor.cpu

        def to_host(tensor: Tensor) -> Tensor:
            copy: Any = tensor.clone()
            copy.on_host = True
            return copy

        Tensor.cpu = to_host  # type: ignore[method-assign,assignment]
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        Tensor.cpu = self._cpu  # type: ignore[method-assign]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_host = bool(given) and all(getattr(tensor, "on_host", False) for tensor in given)
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if not isinstance(leaf, Tensor):
                continue
            if on_host:
                leaf.on_host = True  # type: ignore[attr-defined]
            elif leaf.dtype == torch.float64 and not getattr(leaf, "on_host", False):
                raise TypeError(f"{func} made a float64 tensor on a device that has no float64.")
        return out
