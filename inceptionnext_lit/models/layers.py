"""Layers besides mixers and blocks: GELU, MLP, head, initialization and activation checkpointing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from timm.layers import SelectAdaptivePool2d
from timm.models import register_notrace_module
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.convolutions import ScaledConv2d, autocast_dtype, is_symbolic
from inceptionnext_lit.models.kernels.operators import can_run
from inceptionnext_lit.models.kernels.pointwise import is_product, multiply

POOLS = ("avg", "max", "avgmax", "")  # the last one disables pooling
FeatureInfo = list[dict[str, int | str]]  # per level: num_chs, reduction (stride in pixels), module


def check_heads(dim: int, num_heads: int) -> None:
    """Refuse attention heads of different widths.

    Args:
        dim: Channels.
        num_heads: Number of attention heads.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """
    if dim % num_heads:
        raise ValueError(f"{num_heads} heads do not divide {dim} channels")


class Gelu2d(nn.GELU):
    """GELU of feature maps, ``(N, C, H, W)`` to ``(N, C, H, W)``.

    For bfloat16 on CPUs, torch has a kernel (oneDNN's) that takes half the time of its other one, but only for
    contiguous tensors; a channels-last map is therefore passed to it as ``(N, H, W, C)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply GELU elementwise."""
        if torch.jit.is_scripting():
            return functional.gelu(x)
        if is_symbolic(x) or x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


register_notrace_module(Gelu2d)  # timm's feature extraction keeps the faster path


class ConvMlp(nn.Module):
    """Two 1×1 convolutions with GELU between them, ``(N, C, H, W)`` to ``(N, C, H, W)``.

    A subclass may change what is between the two convolutions, but not that ``fc1`` is the first operation and ``fc2``
    the last: ``deploy`` folds a norm into the one and LayerScale into the other.

    Args:
        dim: Channels C.
        hidden: Input channels of the second convolution.
        expanded: Output channels of the first convolution; ``hidden`` by default.

    Attributes:
        kernels: ``"triton"`` to compute the convolutions as matrix products on a GPU in half precision, or ``"torch"``.
    """

    kernels: str = "torch"

    def __init__(self, dim: int, hidden: int, expanded: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden if expanded is None else expanded, 1)
        self.act: nn.Module = Gelu2d()
        self.fc2 = ScaledConv2d(hidden, dim, 1)

    def between(self, x: Tensor) -> Tensor:
        """Compute the input of ``fc2`` from the output of ``fc1``."""
        activated: Tensor = self.act(x)
        return activated

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Mix the channels of each position, and multiply each channel by its element of ``scale`` (C,), if given."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript would compile both conditions
            if self._multiplies(x):
                return multiply(self.fc2, self.between(multiply(self.fc1, x)), scale)
        hidden = self.between(self.fc1(x))
        # LoRA replaces fc2 by another module; TorchScript does not support the check
        if not torch.jit.is_scripting() and isinstance(self.fc2, ScaledConv2d):
            scaled: Tensor = self.fc2(hidden, scale)
            return scaled
        out: Tensor = self.fc2(hidden)
        return out if scale is None else out * scale.reshape(1, -1, 1, 1)

    def _multiplies(self, x: Tensor) -> bool:
        # in float32, torch has separate settings of the precision (TF32) for convolutions and for products
        if self.kernels != "triton" or not can_run(x) or autocast_dtype(x) not in (torch.float16, torch.bfloat16):
            return False
        return is_product(self.fc1) and is_product(self.fc2)


class MlpHead(nn.Module):
    """Pool → Linear(C·ratio) → GELU → LayerNorm → Dropout → Linear, ``(N, C, H, W)`` to ``(N, num_classes)``.

    Args:
        dim: Channels C.
        ratio: Hidden features over C; None omits the first Linear and GELU, as in ConvNeXt's head.
        num_classes: Number of logits; 0 omits the last Linear.
        pool_type: ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately, with outputs ``(N,
            num_classes, H, W)``.
        drop_rate: Dropout rate.
    """

    def __init__(self, dim: int, ratio: int | None, num_classes: int, pool_type: str, drop_rate: float) -> None:
        super().__init__()
        self.num_features = dim if ratio is None else ratio * dim
        self.set_pool(pool_type)
        self.fc1: nn.Module = nn.Identity() if ratio is None else nn.Linear(dim, self.num_features)
        self.act: nn.Module = nn.Identity() if ratio is None else nn.GELU()
        self.norm: nn.Module = nn.LayerNorm(self.num_features, eps=1e-6)
        self.drop = nn.Dropout(drop_rate)
        self.fc2 = make_classifier(self.num_features, num_classes)

    def set_pool(self, pool_type: str) -> None:
        """Replace the pooling.

        Raises:
            UserError: If ``pool_type`` is unknown.
        """
        self.global_pool = make_pool(pool_type).train(self.training)
        self.pools = pool_type != ""

    def remove_mlp(self, dim: int) -> None:
        """Keep only pooling and dropout, for features of ``dim`` channels."""
        self.num_features = dim
        self.fc1, self.act, self.norm, self.fc2 = (nn.Identity() for _ in range(4))
        self.train(self.training)  # the new layers follow the head's mode

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify, or return the last Linear's input with ``pre_logits``."""
        x = self.global_pool(x)  # (N, C, H, W) -> (N, C), or unchanged
        if not self.pools:
            x = x.permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        x = self.drop(self.norm(self.act(self.fc1(x))))  # (N, C) -> (N, num_features)
        if not pre_logits:
            x = self.fc2(x)
        return x if self.pools else x.permute(0, 3, 1, 2)  # (N, H, W, num_classes) -> (N, num_classes, H, W)


def make_pool(pool_type: str) -> nn.Module:
    """Create a pooling over all positions, ``(N, C, H, W)`` to ``(N, C)``.

    Args:
        pool_type: ``"avg"``, ``"max"`` or ``"avgmax"`` (the mean of both), or ``""`` to leave the map unchanged.

    Raises:
        UserError: If ``pool_type`` is unknown.
    """
    if pool_type not in POOLS:
        raise UserError(f"global_pool is {pool_type!r}, but it must be avg, max, avgmax or '' (no pooling).")
    return cast(nn.Module, SelectAdaptivePool2d(pool_type=pool_type, flatten=pool_type != ""))


def make_classifier(dim: int, num_classes: int, like: Tensor | None = None) -> nn.Module:
    """Create a model's last layer: a Linear, or an Identity for ``num_classes=0``.

    Args:
        dim: Input features.
        num_classes: Number of logits.
        like: Parameter whose device and dtype to use; None for torch's defaults.
    """
    if num_classes == 0:
        return nn.Identity()
    layer = nn.Linear(dim, num_classes)
    init_weights(layer)
    return layer if like is None else layer.to(like)


def init_weights(module: nn.Module) -> None:
    """Initialize a layer for ``Module.apply``: truncated normal weights (std 0.02), zero bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def linear_rates(last: float, count: int) -> list[float]:
    """Return the stochastic-depth rates of ``count`` blocks, rising linearly from 0 to ``last``."""
    return [last * i / max(count - 1, 1) for i in range(count)]


def checkpoint_blocks(blocks: nn.Sequential, x: Tensor) -> Tensor:
    """Run blocks in sequence, and recompute their activations in the backward pass."""
    for block in blocks:
        x = checkpoint_block(block, x)
    return x


def checkpoint_block(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block and recompute it in the backward pass, where running statistics are not updated again."""
    if torch.compiler.is_compiling():  # the compiler does not repeat buffer updates, nor does it support a context_fn
        return cast(Tensor, checkpoint(block, x, use_reentrant=False))

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    return cast(Tensor, checkpoint(block, x, use_reentrant=False, context_fn=contexts))


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    # A momentum of 0 instead of no tracking, since the second run must save the same tensors as the first.
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
