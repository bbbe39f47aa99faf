"""What transformers over a sequence of tokens have in common: block, norm, and pooling with a class token."""

from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.layers import POOLS, make_pool

TOKEN = "token"  # the pooling that takes the class token


class TransformerBlock(nn.Module):
    """Attention, then an MLP, each after a LayerNorm and with a residual (ViT, arXiv 2010.11929, section 3.1).

    Args:
        attention: Module over ``(N, L, C)``.
        dim: Channels C.
        mlp_ratio: Hidden channels of the MLP over C.
        drop_path: Probability of dropping a sample's branch in training.
        eps: Term that keeps the norms' denominators above zero.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``.
    """

    def __init__(self, attention: nn.Module, dim: int, mlp_ratio: float, drop_path: float, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(mlp_ratio * dim))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, *grid: int) -> Tensor:
        """Mix positions, then channels; an attention that needs it is given the map's height and width."""
        x = x + self.drop_path(self.attn(self.norm1(x), *grid))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class LastNorm(nn.LayerNorm):
    """LayerNorm over the channels of tokens ``(N, L, C)`` or of a map ``(N, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each position."""
        if x.ndim == 3:
            return super().forward(x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ClassToken(nn.Module):
    """Pooling that takes the class token, ``(N, 1 + L, C)`` to ``(N, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the first token."""
        return x[:, 0]


def make_token_pool(pool_type: str) -> nn.Module:
    """Create a pooling for a model with a class token.

    Args:
        pool_type: ``"token"``, or a pooling over all positions as for ``layers.make_pool``.

    Raises:
        UserError: If it is none of these.
    """
    if pool_type == TOKEN:
        return ClassToken()
    if pool_type not in POOLS:
        raise UserError(
            f"global_pool is {pool_type!r}, but it must be token, avg, max, avgmax or '' (each position separately)."
        )
    return make_pool(pool_type)


def to_tokens(x: Tensor) -> Tensor:
    """Turn a map into tokens, row by row: ``(N, C, H, W)`` to ``(N, H * W, C)``."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn the last H * W tokens into a map: ``(N, L, C)`` to ``(N, C, H, W)``."""
    positions = tokens[:, tokens.shape[1] - height * width :]
    return positions.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def init_linear(module: nn.Module) -> None:
    """Initialize a Linear for ``Module.apply``: truncated normal weights (std 0.02), zero bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
