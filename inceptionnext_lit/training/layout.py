"""Give gradients the strides of their parameters, on which torch's fast paths rely."""

from functools import partial

from torch import Tensor, nn


def match_gradients(model: nn.Module) -> None:
    """Give gradients the strides of their parameters.

    Any stride is valid along a dimension of size 1. Convolutions choose theirs by the layout of the images, and
    ``DistributedDataParallel``, which compares all strides, would then copy in each step and warn.

    Args:
        model: The model, before ``DistributedDataParallel`` wraps it.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and 1 in parameter.shape:
            parameter.register_hook(partial(_restride, parameter.stride()))  # type: ignore[no-untyped-call]


def _restride(strides: tuple[int, ...], grad: Tensor) -> Tensor:
    same = all(a == b or size == 1 for a, b, size in zip(grad.stride(), strides, grad.shape, strict=True))
    return grad.as_strided(grad.shape, strides) if same else grad
