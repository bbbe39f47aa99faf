"""iFormer: against a small model with the authors' names, against birder's, and its own arguments."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.iformer import LowMixer
from inceptionnext_lit.models.formats import to_public
from inceptionnext_lit.models.weights import load_weights

Randomise = Callable[[nn.Module], nn.Module]

DEPTHS, DIMS, HEADS, HEAD = (1, 1, 2, 1), (16, 24, 32, 40), (1, 1, 2, 2, 4), 8
SMALL: dict[str, Any] = dict(depths=DEPTHS, dims=DIMS, attention_heads=HEADS, head_dim=HEAD, img_size=64, num_classes=5)


class HighMixer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim // 2, dim, 1, bias=False)
        self.proj1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.proj2 = nn.Conv2d(dim // 2, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        pooled = functional.max_pool2d(second, 3, 1, 1)
        return functional.gelu(torch.cat((self.proj1(self.conv1(first)), self.proj2(pooled)), 1))


class Attention(nn.Module):
    """Attention of whole maps, head by head."""

    def __init__(self, dim: int, heads: int, pool: int) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(x, self.pool)
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = (part.split(HEAD, 2) for part in self.qkv(tokens).chunk(3, 2))
        heads = [
            (query[i] @ key[i].transpose(1, 2) / HEAD**0.5).softmax(2) @ value[i] for i in range(self.heads)
        ]  # fmt: skip
        out = torch.cat(heads, 2).transpose(1, 2).reshape(x.shape)
        return out.repeat_interleave(self.pool, 2).repeat_interleave(self.pool, 3)


class Mixer(nn.Module):
    def __init__(self, dim: int, heads: int, pool: int) -> None:
        super().__init__()
        low = heads * HEAD
        self.high = dim - low
        wide = 2 * self.high + low
        self.high_mixer, self.low_mixer = HighMixer(self.high), Attention(low, heads, pool)
        self.conv_fuse = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.proj = nn.Conv2d(wide, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.high_mixer(x[:, : self.high]), self.low_mixer(x[:, self.high :])), 1)
        return self.proj(x + self.conv_fuse(x))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, stage: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=1e-6) for _ in range(2))
        self.attn = Mixer(dim, heads, 2 if stage < 2 else 1)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.scales = stage > 1
        if self.scales:
            self.layer_scale_1, self.layer_scale_2 = (nn.Parameter(torch.ones(dim)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:  # (N, H, W, C)
        mixed = self.attn(self.norm1(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + (self.layer_scale_1 * mixed if self.scales else mixed)
        mixed = self.mlp.fc2(functional.gelu(self.mlp.fc1(self.norm2(x))))
        return x + (self.layer_scale_2 * mixed if self.scales else mixed)


class Reference(nn.Module):
    """iFormer of SMALL's sizes with its authors' names, for images of even maps in the first two stages."""

    def __init__(self) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, kernel_size=3, stride=2, padding=1)
        heads = iter(HEADS)
        self.patch_embed = nn.Module()
        self.patch_embed.proj1, self.patch_embed.norm1 = conv(3, 8), nn.BatchNorm2d(8)
        self.patch_embed.proj2, self.patch_embed.norm2 = conv(8, DIMS[0]), nn.BatchNorm2d(DIMS[0])
        for i, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
            if i:
                embed = nn.Module()
                embed.proj, embed.norm = conv(DIMS[i - 1], dim), nn.BatchNorm2d(dim)
                setattr(self, f"patch_embed{i + 1}", embed)
            side = 64 // 4 // 2**i
            setattr(self, f"pos_embed{i + 1}", nn.Parameter(torch.randn(1, side, side, dim)))
            setattr(self, f"blocks{i + 1}", nn.Sequential(*[Block(dim, next(heads), i) for _ in range(depth)]))
        self.norm = nn.LayerNorm(DIMS[-1], eps=1e-6)
        self.head = nn.Linear(DIMS[-1], 5)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(4):
            embed = getattr(self, f"patch_embed{i + 1}" if i else "patch_embed")
            if i:
                x = embed.norm(embed.proj(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
            else:
                x = functional.gelu(embed.norm1(embed.proj1(x)))
                x = embed.norm2(embed.proj2(x)).permute(0, 2, 3, 1)
            grid = getattr(self, f"pos_embed{i + 1}").permute(0, 3, 1, 2)
            grid = functional.interpolate(grid, x.shape[1:3], mode="bilinear").permute(0, 2, 3, 1)
            x = getattr(self, f"blocks{i + 1}")(x + grid)
        return self.head(self.norm(x).mean((1, 2)))


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


@pytest.fixture
def theirs(randomise: Randomise) -> nn.Module:
    """A model with the authors' names."""
    return randomise(Reference()).eval()


def test_a_file_of_the_authors(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "iformer.pth"
    torch.save({"state_dict": theirs.state_dict(), "epoch": 300}, path)
    ours = timm.create_model("iformer_small", **SMALL).eval()
    report = load_weights(ours, path)
    count = len(ours.state_dict())
    assert str(report) == f"{path} (official iFormer): {count} tensors loaded, 0 reinitialized, 0 skipped"
    with torch.no_grad():
        for size in ((64, 64), (32, 96), (128, 64)):
            image = torch.randn(2, 3, *size)
            assert_close(ours(image), theirs(image))
    public = to_public(ours.state_dict(), ours)
    assert {name: one.shape for name, one in public.items()} == {n: one.shape for n, one in theirs.state_dict().items()}
    theirs.load_state_dict(public)


def test_positions_of_other_sizes_are_resampled_and_reported(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "iformer.pth"
    torch.save(theirs.state_dict(), path)
    ours = timm.create_model("iformer_small", **SMALL | dict(img_size=(96, 128))).eval()
    report = load_weights(ours, path)
    assert report.adapted == tuple(f"stages.{i}.pos_embed" for i in range(4))
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        assert_close(ours(image), theirs(image))


def test_a_row_or_column_that_pooling_leaves_over_is_averaged_alone() -> None:
    mixer = LowMixer(4, 1, 2)
    nn.init.zeros_(mixer.qkv.weight)  # all positions get the same weight, and all values are 0
    nn.init.zeros_(mixer.qkv.bias)
    with torch.no_grad():
        mixer.qkv.weight[8:] = torch.eye(4)  # now the values are the averages
    x = torch.arange(3.0).reshape(1, 1, 3, 1).expand(1, 4, 3, 5)  # rows of 0, 1 and 2
    pooled = torch.tensor([0.5, 2.0])  # of rows 0 and 1, and of row 2
    torch.testing.assert_close(mixer(x), pooled.mean().expand(1, 4, 3, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(attention_heads=(1, 1, 2, 2)), "attention_heads has 4 numbers for 5 blocks"),
        (dict(attention_heads=(1, 1, 2, 2, 5)), "5 heads of 8 leave 0 of 40 channels"),
        (dict(dims=(17, 24, 32, 40)), "1 heads of 8 leave 9 of 17 channels"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("iformer_small", **SMALL | changes)


def from_birder(name: str) -> str:
    """Translate a name of birder's."""
    parts = name.split(".")
    if parts[0] == "stem":  # convolution, BatchNorm and GELU; convolution and BatchNorm
        return ".".join(["stages.0.embed", "2" if parts[1] == "1" else "0", *parts[2:]])
    if parts[0] == "body":
        stage = f"stages.{int(parts[1].removeprefix('stage')) - 1}"
        rest = ".".join(parts[2:]).replace("downsample.proj", "embed.0").replace("downsample.norm", "embed.1")
        rest = rest.replace("high_mixer.conv.", "high_mixer.conv1.").replace("mlp.0", "mlp.fc1")
        return f"{stage}.{rest.replace('mlp.3', 'mlp.fc2').replace('.gamma', '')}"
    return name.replace("features.1.", "norm.").replace("classifier.", "head.")


@pytest.mark.slow
@pytest.mark.parity
def test_outputs_equal_birders(randomise: Randomise) -> None:
    from birder.model_registry import registry

    theirs = randomise(registry.net_factory("iformer_s", 1000, size=(224, 224))).eval()
    ours = timm.create_model("iformer_small").eval()
    state = {from_birder(name): tensor for name, tensor in theirs.state_dict().items()}
    own = ours.state_dict()
    state = {name: tensor.reshape(own[name].shape) for name, tensor in state.items()}
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert unexpected == []
    # birder leaves out the biases before a BatchNorm
    assert missing == [
        f"stages.{name}.bias" for name in ("0.embed.0.0", "0.embed.2.0", "1.embed.0", "2.embed.0", "3.embed.0")
    ]
    for name in missing:
        nn.init.zeros_(ours.get_parameter(name))
    with torch.no_grad():
        image = torch.randn(1, 3, 224, 224)
        assert_close(ours(image), theirs(image))
        theirs.set_dynamic_size()
        image = torch.randn(1, 3, 192, 160)
        assert_close(ours(image), theirs(image))
        maps = ours.forward_intermediates(image, intermediates_only=True)
        for one, other in zip(maps, theirs.detection_features(image).values(), strict=True):
            assert_close(one, other)
