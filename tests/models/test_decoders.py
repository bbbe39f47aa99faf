from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.decoders import SemanticFPN, UperNet

WIDTHS = (96, 192, 384, 768)
TINY = (3, 4, 5, 6)
SIZES = ((19, 27), (10, 14), (5, 7), (3, 4))  # an image of 75×107


def make_upernet() -> UperNet:
    return UperNet(TINY, num_classes=2, width=6, aux_width=4)


def make_fpn() -> SemanticFPN:
    return SemanticFPN(TINY, num_classes=2, width=6, head_width=4)


BUILDERS = pytest.mark.parametrize("build", [make_upernet, make_fpn])


def make_maps(sizes: Sequence[tuple[int, int]] = SIZES, channels: Sequence[int] = TINY) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, dim, *size, generator=generator) for dim, size in zip(channels, sizes, strict=True)]


def randomise(model: nn.Module) -> nn.Module:
    """Set all weights and statistics to random values, so that a swapped or missing one is noticed."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return model.eval()


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def block(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Compute convolution, normalization and ReLU explicitly, with the weights under ``name``."""
    weight = state[f"{name}.0.weight"]
    x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    gain, shift, mean, var = (
        state[f"{name}.1.{key}"].reshape(1, -1, 1, 1) for key in ("weight", "bias", "running_mean", "running_var")
    )
    return ((x - mean) / (var + 1e-5).sqrt() * gain + shift).clamp(min=0)


def conv(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="nearest")


def test_upernet_parameters() -> None:
    width, aux, classes = 512, 256, 150
    norm = 2 * width
    pool = 4 * (768 * width + norm) + 9 * (768 + 4 * width) * width + norm
    pyramid = (96 + 192 + 384) * width + 3 * norm + 3 * (9 * width * width + norm)
    head = 9 * 4 * width * width + norm + width * classes + classes
    auxiliary = 9 * 384 * aux + 2 * aux + aux * classes + classes
    model = UperNet(WIDTHS)
    assert count(model) == pool + pyramid + head + auxiliary == 32_421_164
    assert count(model.aux_head) == auxiliary


def test_semantic_fpn_parameters() -> None:
    width, inner, classes = 256, 128, 150
    neck = sum(dim * width + width for dim in WIDTHS) + 4 * (9 * width * width + width)
    first = 9 * width * inner + 2 * inner  # one per level
    further = 9 * inner * inner + 2 * inner  # one more at stride 16, two more at stride 32
    head = 4 * first + 3 * further + inner * classes + classes
    assert count(SemanticFPN(WIDTHS)) == neck + head == 4_373_142


@pytest.mark.parametrize("sizes", [SIZES, ((16, 8), (8, 4), (4, 2), (2, 1))])
def test_sizes(sizes: tuple[tuple[int, int], ...]) -> None:
    maps = make_maps(sizes)
    logits, auxiliary = make_upernet().train()(maps)
    assert logits.shape == (2, 2, *sizes[0])
    assert auxiliary.shape == (2, 2, *sizes[2])
    assert make_upernet().eval()(maps).shape == (2, 2, *sizes[0])
    assert make_fpn().train()(maps).shape == make_fpn().eval()(maps).shape == (2, 2, *sizes[0])


@torch.no_grad()
def test_upernet_values() -> None:
    model, maps = randomise(make_upernet()), make_maps()
    state = model.state_dict()
    pooled = [
        bilinear(block(state, f"pyramid_pool.branches.{i}.1", F.adaptive_avg_pool2d(maps[3], bins)), SIZES[3])
        for i, bins in enumerate((1, 2, 3, 6))
    ]
    p3 = block(state, "pyramid_pool.fuse", torch.cat([maps[3], *pooled], 1))
    p2 = block(state, "laterals.2", maps[2]) + bilinear(p3, SIZES[2])
    p1 = block(state, "laterals.1", maps[1]) + bilinear(p2, SIZES[1])
    p0 = block(state, "laterals.0", maps[0]) + bilinear(p1, SIZES[0])
    smooth = [block(state, f"smooth.{i}", x) for i, x in enumerate((p0, p1, p2))]
    fused = block(state, "fuse", torch.cat([bilinear(x, SIZES[0]) for x in (*smooth, p3)], 1))
    torch.testing.assert_close(model(maps), conv(state, "classifier.1", fused), rtol=1e-4, atol=1e-4)
    auxiliary = conv(state, "aux_head.1.1", block(state, "aux_head.0", maps[2]))
    torch.testing.assert_close(model.aux_head(maps[2]), auxiliary, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_semantic_fpn_values() -> None:
    model, maps = randomise(make_fpn()), make_maps()
    state = model.state_dict()
    p3 = conv(state, "laterals.3", maps[3])
    p2 = conv(state, "laterals.2", maps[2]) + nearest(p3, SIZES[2])
    p1 = conv(state, "laterals.1", maps[1]) + nearest(p2, SIZES[1])
    p0 = conv(state, "laterals.0", maps[0]) + nearest(p1, SIZES[0])
    q0, q1, q2, q3 = (conv(state, f"smooth.{i}", x) for i, x in enumerate((p0, p1, p2, p3)))
    total = block(state, "finest", q0) + bilinear(block(state, "climbs.0.0", q1), SIZES[0])
    q2 = bilinear(block(state, "climbs.1.0", q2), SIZES[1])
    total += bilinear(block(state, "climbs.1.1", q2), SIZES[0])
    q3 = bilinear(block(state, "climbs.2.0", q3), SIZES[2])
    q3 = bilinear(block(state, "climbs.2.1", q3), SIZES[1])
    total += bilinear(block(state, "climbs.2.2", q3), SIZES[0])
    torch.testing.assert_close(model(maps), conv(state, "classifier.1", total), rtol=1e-4, atol=1e-4)


@BUILDERS
def test_dropout_takes_whole_channels(build: Callable[[], nn.Module]) -> None:
    drops = [module for module in build().modules() if isinstance(module, nn.Dropout2d)]
    assert [drop.p for drop in drops] == [0.1] * (2 if build is make_upernet else 1)


@BUILDERS
def test_gradient_reaches_every_parameter(build: Callable[[], nn.Module]) -> None:
    model = build()
    torch.manual_seed(0)
    out = model.train()(make_maps())
    sum(logits.square().sum() for logits in (out if isinstance(out, tuple) else (out,))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("build", [pytest.param(make_upernet, marks=pytest.mark.slow), make_fpn])
def test_compiles_in_one_graph(build: Callable[[], nn.Module]) -> None:
    model, maps = randomise(build()), make_maps()
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(maps), model(maps))


@pytest.mark.parametrize("decoder", [UperNet, SemanticFPN])
def test_three_widths_are_refused(decoder: type[nn.Module]) -> None:
    with pytest.raises(UserError, match=r"^A segmentation decoder takes 4 maps, but channels has 3 values\.$"):
        decoder((96, 192, 384))


@BUILDERS
def test_wrong_maps_are_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(
        UserError, match=r"^The maps have 3, 4, 5 channels, but this decoder was built for 3, 4, 5, 6\.$"
    ):
        build()(make_maps()[:3])
    with pytest.raises(UserError, match=r"^The maps have 3, 4, 5, 7 channels, but .* for 3, 4, 5, 6\.$"):
        build()(make_maps(channels=(3, 4, 5, 7)))
