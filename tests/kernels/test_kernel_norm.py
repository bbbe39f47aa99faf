"""BatchNorm with statistics of the mixer's kernel: nn.BatchNorm2d in all that can be observed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inceptionnext_lit.models import InceptionDWConv2d
from inceptionnext_lit.models.kernels.norm import mix_and_normalize
from inceptionnext_lit.models.layers import checkpoint_block
from inceptionnext_lit.models.metanext import MetaNeXtBlock
from tests.kernels.convolutions import error

pytestmark = pytest.mark.usefixtures("interpreter")


def pair(**options: Any) -> tuple[InceptionDWConv2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    mixer, norm = InceptionDWConv2d(16, band_kernel_size=5), nn.BatchNorm2d(16, **options)
    mixer.kernels = "triton"
    for parameter in (*mixer.parameters(), *norm.parameters()):
        nn.init.normal_(parameter, mean=0.5)
    return mixer, norm


def step(mixer: nn.Module, norm: nn.Module, x: Tensor, joined: bool) -> list[Tensor]:
    """Return the output, its gradients and the norm's buffers after it."""
    x = x.clone().requires_grad_()
    out = mix_and_normalize(mixer, norm, x) if joined else norm(mixer(x))
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().reshape(out.shape)
    leaves = [x, *norm.parameters(), *(value for key, value in mixer.named_parameters() if key.endswith("weight"))]
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves), *norm.buffers()]


X = torch.linspace(-3, 5, 3 * 16 * 7 * 5).sin().mul(2).add(1).reshape(3, 16, 7, 5)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)
def test_outputs_gradients_and_statistics_are_batchnorms_in_double_precision(options: dict[str, Any]) -> None:
    mixer, norm = pair(**options)
    exact_mixer, exact_norm = copy.deepcopy(mixer).double(), copy.deepcopy(norm).double()
    for _ in range(2):
        exact = step(exact_mixer, exact_norm, X.double(), joined=False)
        found = step(mixer, norm, X, joined=True)
        for tensor, value in zip(found, exact, strict=True):
            assert error(tensor, value.double()) < 1e-5
    if norm.track_running_stats:
        assert norm.num_batches_tracked == 2


def test_double_precision() -> None:
    mixer, norm = (module.double() for module in pair())
    exact = step(*copy.deepcopy((mixer, norm)), X.double(), joined=False)
    for tensor, value in zip(step(mixer, norm, X.double(), joined=True), exact, strict=True):
        torch.testing.assert_close(tensor, value, rtol=1e-10, atol=1e-10)


def test_half_precision_is_as_exact_as_batchnorms() -> None:
    mixer, norm = pair()
    exact = step(copy.deepcopy(mixer).double(), copy.deepcopy(norm).double(), X.double(), joined=False)
    results = []
    for joined in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            results.append(step(*copy.deepcopy((mixer, norm)), X, joined))
    for theirs, ours, value in zip(*results, exact, strict=True):
        assert ours.dtype == theirs.dtype
        assert error(ours, value.double()) <= 1.5 * error(theirs, value.double()) + 1e-3


def test_the_statistics_come_from_the_kernel() -> None:
    mixer, norm = pair()
    out = mix_and_normalize(mixer, norm, X)
    assert out.grad_fn is not None
    assert out.grad_fn.name() == "_NormalizationBackward"
    assert out.is_contiguous(memory_format=torch.channels_last)


class Other(nn.BatchNorm2d):
    """A norm with something of its own."""


def evaluated(mixer: nn.Module, norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return norm.eval()


def derived(mixer: nn.Module, norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return Other(16)


def observed(mixer: nn.Module, norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    mixer.register_forward_hook(lambda *_: None)
    return norm


def halved(mixer: nn.Module, norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return norm.bfloat16()


def by_torch(mixer: InceptionDWConv2d, norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    mixer.kernels = "torch"
    return norm


@pytest.mark.parametrize("change", [evaluated, derived, observed, halved, by_torch])
def test_other_norms_are_computed_by_themselves(change: Any) -> None:
    mixer, norm = pair()
    norm = change(mixer, norm)
    x = X.bfloat16() if change is halved else X
    mixer = mixer.to(x.dtype)
    out = mix_and_normalize(mixer, norm, x)
    assert out.grad_fn is not None
    assert "BatchNorm" in out.grad_fn.name()


def test_a_single_value_per_channel_is_refused_by_batchnorm() -> None:
    mixer, norm = pair()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        mix_and_normalize(mixer, norm, X[:1, :, :1, :1])


def test_recomputation_updates_the_statistics_once() -> None:
    torch.manual_seed(0)
    block = MetaNeXtBlock(16)
    block.token_mixer.kernels = "triton"
    other = copy.deepcopy(block)
    checkpoint_block(block, X.clone().requires_grad_()).sum().backward()
    other(X.clone().requires_grad_()).sum().backward()
    assert block.norm.num_batches_tracked == 1
    for found, expected in zip(block.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for found, expected in zip(block.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=0)


def test_many_blocks_of_positions() -> None:
    mixer, norm = pair()
    x = torch.randn(2, 16, 14, 13).mul(0.01).add(100)  # a mean much larger than the deviations
    exact = step(copy.deepcopy(mixer).double(), copy.deepcopy(norm).double(), x.double(), joined=False)
    theirs = step(*copy.deepcopy((mixer, norm)), x, joined=False)
    for ours, other, value in zip(step(mixer, norm, x, joined=True), theirs, exact, strict=True):
        assert error(ours, value.double()) < max(3 * error(other, value.double()), 1e-5)
