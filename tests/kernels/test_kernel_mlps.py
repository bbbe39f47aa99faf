"""1×1 convolutions as matrix products, in half precision."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from inceptionnext_lit.models.kernels.pointwise import is_product, multiply
from inceptionnext_lit.models.layers import ConvMlp
from inceptionnext_lit.models.mlps import ConvGluMlp, GrnMlp, StarReluMlp, SwiGluMlp
from tests.kernels.convolutions import error

MLPS = [ConvMlp, SwiGluMlp, ConvGluMlp, GrnMlp, StarReluMlp]
X = torch.linspace(-3, 5, 2 * 16 * 5 * 4).sin().reshape(2, 16, 5, 4)
pytestmark = pytest.mark.usefixtures("interpreter")


def run(mlp: nn.Module, scale: Tensor | None, dtype: torch.dtype | None) -> list[Tensor]:
    x = X.to(next(mlp.parameters()).dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        out = mlp(x, None if scale is None else scale.to(x.dtype))
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), [x, *mlp.parameters()])]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", MLPS)
def test_outputs_and_gradients_are_as_exact_as_the_convolutions(
    kind: Callable[..., nn.Module], scaled: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    mlp = kind(16, 24)
    scale = torch.linspace(0.5, 1.5, 16) if scaled else None
    exact = run(copy.deepcopy(mlp).double(), scale, None)
    theirs = run(mlp, scale, dtype)
    mlp.kernels = "triton"
    found = run(mlp, scale, dtype)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for ours, other, value in zip(found, theirs, exact, strict=True):
        assert (ours.dtype, ours.shape) == (other.dtype, other.shape)
        assert error(ours, value) <= 1.5 * error(other, value) + torch.finfo(dtype).eps / 2


def test_a_small_scale_survives_float16() -> None:
    mlp = ConvMlp(16, 24)
    mlp.kernels = "triton"
    with torch.autocast("cpu", torch.float16):
        assert mlp(X, torch.full((16,), 1e-6)).abs().max() > 0


def test_products_are_used_in_half_precision_only() -> None:
    mlp = ConvMlp(16, 24)
    mlp.kernels = "triton"
    for dtype, name in ((torch.bfloat16, "addmm"), (torch.float32, "convolution")):
        mlp, x = mlp.to(dtype), X.to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.profiler.profile() as profile:
            mlp(x)
        names = {event.name for event in profile.events()}
        assert f"aten::{name}" in names
        assert not {"aten::addmm", "aten::convolution"} - {f"aten::{name}"} & names


def test_what_is_no_product() -> None:
    assert is_product(nn.Conv2d(4, 8, 1))
    for options in ({"kernel_size": 3}, {"kernel_size": 1, "groups": 2}, {"kernel_size": 1, "stride": 2}):
        assert not is_product(nn.Conv2d(4, 8, **options))
    assert not is_product(nn.Identity())
    hooked = nn.Conv2d(4, 8, 1)
    hooked.register_forward_hook(lambda *_: None)
    assert not is_product(hooked)


def test_a_convolution_without_bias() -> None:
    conv = nn.Conv2d(16, 8, 1, bias=False)
    torch.testing.assert_close(multiply(conv, X, torch.ones(8)), conv(X), rtol=1e-4, atol=1e-5)


def test_a_replaced_layer_is_called() -> None:
    mlp = ConvMlp(16, 24)
    mlp.kernels = "triton"

    class Adapted(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(super().forward(x))

    mlp.fc2 = Adapted(24, 16, 1)
    assert not mlp.bfloat16()(X.bfloat16(), torch.ones(16)).any()
