"""The trial before a run's first step, with the real kernels in Triton's interpreter."""

import pytest
import torch
from torch import nn

from inceptionnext_lit.models.kernels.recording import record
from inceptionnext_lit.models.kernels.trials import Verdict, judge
from inceptionnext_lit.models.metanext import MetaNeXtBlock
from inceptionnext_lit.models.mixers import DepthwiseConv2d, InceptionDWConv2d

pytestmark = pytest.mark.usefixtures("interpreter")
ALL = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    ("unit", "layout", "precision"),
    [
        (MetaNeXtBlock, torch.channels_last, torch.float32),
        (DepthwiseConv2d, torch.contiguous_format, torch.float32),
        *(
            pytest.param(unit, layout, precision, marks=pytest.mark.slow)
            for unit in (MetaNeXtBlock, InceptionDWConv2d)
            for layout in (torch.contiguous_format, torch.channels_last)
            for precision in ALL
        ),
    ],
)
def test_the_kernels_agree(unit: type[nn.Module], layout: torch.memory_format, precision: torch.dtype) -> None:
    """Also for a bias before a norm, whose gradient is 0 plus rounding errors, and whatever the strides are."""
    torch.manual_seed(0)
    part = unit(16)  # type: ignore[call-arg]
    model = nn.Sequential(nn.Conv2d(3, 16, 1), part).train().to(memory_format=layout)
    images = torch.randn(2, 3, 5, 4).contiguous(memory_format=layout)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        [case] = record(model, lambda: model(images), compiled=False).values()
        assert judge(case, part, None) == Verdict("triton", "not timed")


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes neighbors of the right positions."""
    fused = InceptionDWConv2d.fused
    monkeypatch.setattr(InceptionDWConv2d, "fused", lambda mixer, x: fused(mixer, x.roll(1, dims=3)))
    mixer = InceptionDWConv2d(16)
    model = nn.Sequential(nn.Conv2d(3, 16, 1), mixer)
    [case] = record(model, lambda: model(torch.randn(2, 3, 5, 4)), compiled=False).values()
    verdict = judge(case, mixer, None)
    assert verdict.failed
    assert verdict.reason.startswith("its output differs from torch's by up to 1")
