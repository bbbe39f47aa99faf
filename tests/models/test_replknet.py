"""RepLKNet: the names of its authors' files, birder's implementation, and the merged form."""

from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.replknet import LargeKernelConv2d, RepLKNet
from inceptionnext_lit.models.cost import build_model, count, count_model
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.formats import to_public
from inceptionnext_lit.models.weights import load_weights

DEPTHS, DIMS, KERNELS = (1, 2, 3, 1), (8, 16, 24, 32), (13, 11, 9, 7)
SMALL = {"depths": DEPTHS, "dims": DIMS, "kernel_sizes": KERNELS}


def conv_bn(in_dim: int, dim: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = False) -> nn.Sequential:
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(in_dim, dim, kernel, stride, kernel // 2, groups=groups, bias=False))
    layers.add_module("bn", nn.BatchNorm2d(dim))
    if relu:
        layers.add_module("nonlinear", nn.ReLU())
    return layers


class Large(nn.Module):
    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.lkb_origin = conv_bn(dim, dim, kernel, groups=dim)
        self.small_conv = conv_bn(dim, dim, 5, groups=dim)


class Block(nn.Module):
    """A block of the authors' files: for large kernels, or a ConvFFN without a kernel."""

    def __init__(self, dim: int, kernel: int | None) -> None:
        super().__init__()
        hidden = dim if kernel else 4 * dim
        self.pw1 = conv_bn(dim, hidden, 1, relu=kernel is not None)
        self.pw2 = conv_bn(hidden, dim, 1)
        if kernel:
            self.large_kernel = Large(dim, kernel)
            self.prelkb_bn = nn.BatchNorm2d(dim)
        else:
            self.preffn_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "large_kernel"):
            return x + self.pw2(functional.gelu(self.pw1(self.preffn_bn(x))))
        hidden = self.pw1(self.prelkb_bn(x))
        return x + self.pw2((self.large_kernel.lkb_origin(hidden) + self.large_kernel.small_conv(hidden)).relu())


class Reference(nn.Module):
    """RepLKNet with the names of its authors' files."""

    def __init__(self) -> None:
        super().__init__()
        dim = DIMS[0]
        self.stem = nn.ModuleList([
            conv_bn(3, dim, 3, stride=2, relu=True), conv_bn(dim, dim, 3, groups=dim, relu=True),
            conv_bn(dim, dim, 1, relu=True), conv_bn(dim, dim, 3, stride=2, groups=dim, relu=True),
        ])  # fmt: skip
        self.stages = nn.ModuleList()
        for dim, depth, kernel in zip(DIMS, DEPTHS, KERNELS, strict=True):
            stage = nn.Module()
            stage.blocks = nn.ModuleList(Block(dim, size) for _ in range(depth) for size in (kernel, None))
            self.stages.append(stage)
        self.transitions = nn.ModuleList(
            nn.Sequential(conv_bn(a, b, 1, relu=True), conv_bn(b, b, 3, stride=2, groups=b, relu=True))
            for a, b in pairwise(DIMS)
        )
        self.norm = nn.BatchNorm2d(DIMS[-1])
        self.head = nn.Linear(DIMS[-1], 5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.stem:
            x = layer(x)
        for transition, stage in zip([nn.Identity(), *self.transitions], self.stages, strict=True):
            x = transition(x)
            for block in stage.blocks:
                x = block(x)
        return self.head(self.norm(x).mean((2, 3)))


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm other statistics and factors, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.ndim == 1:
                shift = 0.5 if "var" in name or "weight" in name else -0.5
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + shift)
    return model.eval()


def small(**kwargs: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("replknet_31b", num_classes=5, **(SMALL | kwargs))


def test_the_authors_weights_load_completely(tmp_path: Path) -> None:
    reference, model = lively(Reference()), small().eval()
    torch.save({"model": reference.state_dict()}, tmp_path / "replknet.pth")
    report = load_weights(model, tmp_path / "replknet.pth")
    assert report.format == "official RepLKNet"
    assert (set(report.loaded), report.skipped, report.kept) == (set(model.state_dict()), (), ())
    images = torch.randn(2, 3, 65, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), rtol=1e-4, atol=1e-5)
    public = to_public(model.state_dict(), model)
    assert {k: v.shape for k, v in public.items()} == {k: v.shape for k, v in reference.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("size", [(64, 64), (65, 97)])
def test_outputs_and_gradients_equal_birders(size: tuple[int, int]) -> None:
    from birder.net.replknet import RepLKNet as Birders  # takes seconds to import

    config = {
        "channels": [128, 256, 512, 1024], "kernel_sizes": [31, 29, 27, 13], "small_kernel": 5, "dw_ratio": 1.0,
        "drop_path_rate": 0.0,
    }  # fmt: skip
    torch.manual_seed(0)
    theirs = lively(Birders(3, 5, config=config, size=size))
    ours = timm.create_model("replknet_31b", num_classes=5).eval()
    own, copied = ours.state_dict(), theirs.state_dict()
    assert [tensor.shape for tensor in own.values()] == [tensor.shape for tensor in copied.values()]
    ours.load_state_dict(dict(zip(own, copied.values(), strict=True)))  # the same layers in the same order
    images = torch.randn(2, 3, *size)
    outputs = ours(images), theirs(images)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5 * outputs[1].abs().max().item())
    for output in outputs:
        output.square().sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4 * b.grad.abs().max().item())


@pytest.mark.parametrize("small_kernel", [5, 3, None])
def test_the_merged_form_is_exact(small_kernel: int | None) -> None:
    model = lively(small(small_kernel=small_kernel, drop_path_rate=0.2)).double()
    images = torch.randn(2, 3, 65, 96, dtype=torch.float64)
    merged = deploy(model)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(merged(images), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(merged.forward_features(images), model.forward_features(images), rtol=1e-10, atol=0)
        torch.testing.assert_close(deploy(merged)(images), expected, rtol=1e-10, atol=1e-10)
    assert [name for name, module in merged.named_modules() if isinstance(module, nn.BatchNorm2d)] == ["norm"]
    assert not any(isinstance(module, LargeKernelConv2d) for module in merged.modules())
    assert merged.stages[2].blocks[1].mixer.inner[0].weight.shape == (24, 1, 9, 9)
    assert any(isinstance(module, LargeKernelConv2d) for module in model.modules())


def test_a_kernel_that_something_else_replaced_stays() -> None:
    model = lively(small()).double()
    block = model.stages[0].blocks[0]
    block.mixer.inner[0].small_conv.conv = nn.Sequential(block.mixer.inner[0].small_conv.conv, nn.Tanh())
    block.ffn.pw1.conv = nn.Sequential(block.ffn.pw1.conv, nn.Tanh())
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    merged = deploy(model)
    with torch.no_grad():
        torch.testing.assert_close(merged(images), model(images), rtol=1e-10, atol=1e-10)
    assert isinstance(merged.stages[0].blocks[0].mixer.inner[0], LargeKernelConv2d)
    assert isinstance(merged.stages[0].blocks[0].ffn.norm, nn.BatchNorm2d)


@pytest.mark.slow
def test_cost_by_name_is_the_merged_forms() -> None:
    found, _ = count_model("replknet_31b", (32, 32))
    model, _ = build_model("replknet_31b", (32, 32))
    assert isinstance(model, RepLKNet)
    image = torch.zeros(1, 3, 32, 32)
    trained, merged = count(model, image), count(deploy(model), image)
    assert (found.total, found.merged, trained.merged) == (merged.total, True, False)
    # A norm has two values per channel, a bias one. A RepLK block loses the norm before it, three norms for biases, and
    # a 5x5 kernel and its norm; a ConvFFN block loses the norm before it and two norms for biases, of 4 and 1 times C.
    blocks = (2 + 3 + 25 + 2 + 2 + 4 + 1) * (2 * 128 + 2 * 256 + 18 * 512 + 2 * 1024)
    stem_and_transitions = 4 * 128 + 2 * (256 + 512 + 1024)
    assert trained.total.params - merged.total.params == blocks + stem_and_transitions
