"""The tokens-to-token module of T2T-ViT (arXiv 2101.11986, section 3.1), with Performer attention."""

import math

import torch
from timm.layers import Mlp
from torch import Tensor, fx, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.tokens import to_map
from inceptionnext_lit.models.convolutions import check_images, has_autocast_on

fx.wrap("check_images")  # torch.fx cannot trace a choice by shape

_SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))  # kernel, stride and padding of the three soft splits
STRIDE = math.prod(stride for _, stride, _ in _SPLITS)


class TokenPerformer(nn.Module):
    """Performer attention and an MLP that reduce long tokens to C channels (arXiv 2101.11986, section 3.1).

    There is one head. The residual of the attention starts from its values, since the input has other channels.

    Args:
        in_dim: Channels of the input.
        dim: Channels C of the output.
        features_ratio: Number of random features over C.
        drop_rate: Dropout rate after the attention and after the MLP.

    Attributes:
        w: The random features' directions, orthogonal and constant: a buffer that is saved with the weights.

    Shape:
        ``(N, L, in_dim)`` to ``(N, L, C)``.
    """

    w: Tensor

    def __init__(self, in_dim: int, dim: int, features_ratio: float = 0.5, drop_rate: float = 0.1) -> None:
        super().__init__()
        count = int(features_ratio * dim)
        self.norm1 = nn.LayerNorm(in_dim)
        self.kqv = nn.Linear(in_dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(drop_rate)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim, drop=(0.0, drop_rate))
        self.register_buffer("w", nn.init.orthogonal_(torch.empty(count, dim), gain=math.sqrt(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions, then channels."""
        key, query, value = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        x = value + self.drop(self.proj(performer_attention(query, key, value, self.w)))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


@fx.wrap  # torch.fx cannot trace a choice by dtype
def performer_attention(query: Tensor, key: Tensor, value: Tensor, w: Tensor) -> Tensor:
    """Approximate softmax attention with positive random features, in time linear in L (arXiv 2009.14794, section 2).

    It is computed in float32 or better, since the features may exceed the range of float16.

    Args:
        query: Queries ``(N, L, C)``.
        key: Keys, of the same shape.
        value: Values, of the same shape.
        w: Directions of the features, ``(M, C)``.

    Returns:
        ``(N, L, C)`` in the dtype of the values.
    """
    if has_autocast_on(value.device.type):
        with torch.autocast(value.device.type, enabled=False):
            return performer_attention(query, key, value, w)
    exact = torch.promote_types(value.dtype, torch.float32)
    queries, keys = (_positive_features(x.to(exact), w.to(exact)) for x in (query, key))  # each (N, L, M)
    summary = keys.transpose(1, 2) @ value.to(exact)  # (N, M, C)
    total = queries @ keys.sum(1).unsqueeze(2)  # (N, L, 1)
    return (queries @ summary / (total + 1e-8)).to(value.dtype)


def _positive_features(x: Tensor, w: Tensor) -> Tensor:
    """Return features whose inner products approximate ``exp(x · y)``, ``(N, L, C)`` to ``(N, L, M)``."""
    return torch.exp(x @ w.transpose(0, 1) - x.square().sum(-1, keepdim=True) / 2) / math.sqrt(len(w))


class TokensToToken(nn.Module):
    """Three soft splits into overlapping patches, with a Performer after the first two (arXiv 2101.11986, section 3.1).

    Args:
        in_chans: Channels of the image.
        token_dim: Channels of the Performers' tokens.
        dim: Channels C of the result.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, C, H / 16, W / 16)``, rounded up or down.

    Raises:
        UserError: If (in ``forward``) an image is too small or has another number of channels.
    """

    def __init__(self, in_chans: int, token_dim: int, dim: int) -> None:
        super().__init__()
        self.in_chans = in_chans
        areas = [kernel**2 for kernel, _, _ in _SPLITS]
        self.attention1 = TokenPerformer(areas[0] * in_chans, token_dim)
        self.attention2 = TokenPerformer(areas[1] * token_dim, token_dim)
        self.project = nn.Linear(areas[2] * token_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map of tokens."""
        x = check_images(x, self.in_chans, STRIDE)
        for layer, (kernel, stride, padding) in zip(
            (self.attention1, self.attention2, self.project), _SPLITS, strict=True
        ):
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[-2:])
            patches = functional.unfold(x, kernel, padding=padding, stride=stride)  # (N, C * kernel², H * W)
            x = to_map(layer(patches.transpose(1, 2)), height, width)
        return x
