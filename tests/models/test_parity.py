"""The four-stage rows against timm's own models, on copied weights."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

PAIRS = {
    "inceptionnext_atto": "inception_next_atto",
    "inceptionnext_tiny": "inception_next_tiny",
    "inceptionnext_small": "inception_next_small",
    "inceptionnext_base": "inception_next_base",
    "inceptionnext_base_384": "inception_next_base",
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(PAIRS)[1:]]
Randomise = Callable[[nn.Module], nn.Module]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("name", PAIRS)
def test_state_dict_has_timms_keys_and_shapes_in_order(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = (timm.create_model(n).state_dict() for n in (name, PAIRS[name]))
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in theirs.items()]


@pytest.mark.parametrize("name", ["inceptionnext_atto", *SLOW])
def test_outputs_and_gradients_equal_timms(name: str, randomise: Randomise) -> None:
    theirs = randomise(timm.create_model(PAIRS[name], num_classes=10))
    ours = timm.create_model(name, num_classes=10)
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 64, 96)

    ours.eval(), theirs.eval()
    with torch.no_grad():
        assert_close(ours(image), theirs(image))
        assert_close(ours.forward_head(ours.forward_features(image), pre_logits=True),
                     theirs.forward_head(theirs.forward_features(image), pre_logits=True))  # fmt: skip
        for indices in (None, 2, [0, -1]):
            last, maps = ours.forward_intermediates(image, indices=indices)
            their_last, their_maps = theirs.forward_intermediates(image, indices=indices)
            assert len(maps) == len(their_maps)
            for a, b in zip([last, *maps], [their_last, *their_maps], strict=True):
                assert_close(a, b)

    ours.double().train(), theirs.double().train()
    target = torch.randn(2, 10, dtype=torch.float64)
    for model in (ours, theirs):
        nn.functional.mse_loss(model(image.double()), target).backward()
    for (key, a), (their_key, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == their_key
        assert b.grad.abs().max() > 0, key
        # a bias right before a BatchNorm has a gradient of 0, of which rounding makes something
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):  # the batch's statistics
        assert_close(a.double(), b.double())


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_dilated_features_equal_timms(output_stride: int, randomise: Randomise) -> None:
    theirs = randomise(timm.create_model("inception_next_atto", output_stride=output_stride)).eval()
    ours = timm.create_model("inceptionnext_atto", output_stride=output_stride, features_only=True).eval()
    missing, unexpected = ours.model.load_state_dict(theirs.state_dict(), strict=False)
    assert missing == []
    assert all(key.startswith("head.") for key in unexpected)
    image = torch.randn(1, 3, 70, 97)
    with torch.no_grad():
        maps, their_maps = ours(image), theirs.forward_intermediates(image, intermediates_only=True)
    assert ours.feature_info.reduction() == [4, 8, min(16, output_stride), output_stride]
    for a, b in zip(maps, their_maps, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("name", ["inceptionnext_atto", pytest.param("inceptionnext_base", marks=pytest.mark.slow)])
def test_stochastic_depth_rates_equal_timms(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = (timm.create_model(n, drop_path_rate=0.4) for n in (name, PAIRS[name]))
    rates = [
        [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage.blocks]
        for model in (ours, theirs)
    ]
    assert rates[0] == pytest.approx(rates[1], abs=1e-7)
    assert rates[0][-1] == 0.4
