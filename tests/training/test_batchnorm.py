"""BatchNorm over several ranks equals BatchNorm over their batches together."""

import warnings
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import inceptionnext_lit.models  # noqa: F401 - registers the family
from inceptionnext_lit.training.batchnorm import CrossRankBatchNorm, DeviceSyncBatchNorm
from tests.ranks import run_ranks

SIZES = (3, 5, 2)


def batch() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(sum(SIZES), 4, 6, 5, generator=generator) * 3 + 10
    return images.contiguous(memory_format=torch.channels_last)


def make_norm(kind: type[nn.modules.batchnorm._BatchNorm]) -> nn.Module:
    norm = kind(4, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5, 0.1]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    return norm


def compute(norm: nn.Module, images: Tensor, weights: Tensor) -> dict[str, Tensor]:
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    out = norm(images)
    (out * weights).sum().backward()
    return {
        "out": out.detach(), "input": images.grad, "weight": norm.weight.grad, "bias": norm.bias.grad,
        "mean": norm.running_mean, "var": norm.running_var, "count": norm.num_batches_tracked,
        "evaluated": norm.eval()(images[:1]).detach(),  # on one rank only, where communication would wait forever
    }  # fmt: skip


def of_process() -> dict[str, Tensor]:
    torch.distributed.init_process_group("gloo")
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    parts, weights = batch().split(SIZES), torch.arange(sum(SIZES) * 120.0).reshape(-1, 4, 6, 5).div(1200).split(SIZES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no warning in each step
        result = compute(make_norm(CrossRankBatchNorm), parts[rank], weights[rank])
    assert result["out"].is_contiguous(memory_format=torch.channels_last)
    assert count == len(SIZES)
    torch.distributed.destroy_process_group()
    return result


@pytest.mark.slow
def test_three_processes_with_batches_of_different_sizes(tmp_path: Path) -> None:
    weights = torch.arange(sum(SIZES) * 120.0).reshape(-1, 4, 6, 5).div(1200)
    expected = compute(make_norm(nn.BatchNorm2d), batch(), weights)
    results = run_ranks(len(SIZES), of_process, tmp_path)
    for key in ("out", "input"):
        torch.testing.assert_close(torch.cat([r[key] for r in results]), expected[key], rtol=1e-4, atol=1e-4)
    for key in ("weight", "bias"):
        torch.testing.assert_close(sum(r[key] for r in results), expected[key], rtol=1e-4, atol=1e-4)
    for result in results:
        for key in ("mean", "var", "count"):
            torch.testing.assert_close(result[key], expected[key], rtol=1e-5, atol=1e-5)


def test_conversion_keeps_names_weights_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.manual_seed(0)
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3)
    images = torch.randn(4, 3, 28, 28)
    expected = model.train()(images)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    plugin = DeviceSyncBatchNorm()
    converted = plugin.apply(model)
    kinds = [type(m) for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert kinds == [CrossRankBatchNorm] * 3
    assert all(torch.equal(value, state[key]) for key, value in converted.state_dict().items())
    assert list(converted.state_dict()) == list(state)
    torch.testing.assert_close(converted.train()(images), expected)
    reverted = plugin.revert(converted)
    assert sum(type(m) is nn.BatchNorm2d for m in reverted.modules()) == 3
    assert list(reverted.state_dict()) == list(state)
    assert plugin.apply(nn.BatchNorm2d(2).eval()).training is False
