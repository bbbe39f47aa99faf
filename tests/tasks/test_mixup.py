import pytest
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.classification.mixup import Mix


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(4)
    return labels.float().reshape(4, 1, 1, 1).expand(4, 3, 8, 8).contiguous(), labels


def test_off_returns_the_batch_untouched() -> None:
    images, labels = batch()
    mixed, targets, weights = Mix()(images, labels, 4)
    assert weights is None
    assert mixed is images
    assert targets is labels


@pytest.mark.parametrize("mix", [Mix(mixup=0.8), Mix(cutmix=1.0), Mix(mixup=0.8, cutmix=1.0)])
def test_targets_are_the_shares_of_the_pixels(mix: Mix) -> None:
    torch.manual_seed(0)
    images, labels = batch()
    for _ in range(20):
        mixed, targets, _ = mix(images, labels, 4)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
        # every pixel of image i holds its label's index, so its mean is the expected label
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), targets @ torch.arange(4.0))


@pytest.mark.parametrize("mix", [Mix(mixup=0.8), Mix(cutmix=1.0)])
def test_weights_and_several_labels_are_mixed_like_the_pixels(mix: Mix) -> None:
    torch.manual_seed(0)
    images, labels = batch()
    several = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for given, count in ((labels, 4), (several, 2)):
        mixed, targets, weights = mix(images, given, count, torch.arange(4.0) * 2)
        torch.testing.assert_close(weights, mixed.mean(dim=(1, 2, 3)) * 2)
        share = mixed.mean(dim=(1, 2, 3))
        expected = targets @ torch.arange(4.0) if count == 4 else targets @ torch.tensor([1.0, 2.0])
        torch.testing.assert_close(share, expected)


@pytest.mark.parametrize("mix", [Mix(mixup=0.8), Mix(cutmix=1.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_memory_layout_is_kept_and_does_not_change_the_result(mix: Mix, weighted: bool) -> None:
    images, labels = torch.rand(4, 3, 8, 6), torch.arange(4)
    weights = torch.arange(4.0) if weighted else None
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        results.append(mix(images.contiguous(memory_format=memory_format), labels, 4, weights))
        assert results[-1][0].is_contiguous(memory_format=memory_format)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_prob_is_the_share_of_mixed_batches() -> None:
    torch.manual_seed(0)
    images, labels = batch()
    mixed = sum(Mix(mixup=1.0, prob=0.25)(images, labels, 4)[1].ndim == 2 for _ in range(400))
    assert 70 <= mixed <= 130


def test_switch_prob_is_the_share_of_cutmix() -> None:
    torch.manual_seed(0)
    images, labels = batch()
    mix = Mix(mixup=1.0, cutmix=1.0, switch_prob=0.25)
    whole = [torch.equal(out, out.round()) for out, *_ in (mix(images, labels, 4) for _ in range(400))]
    assert 70 <= sum(whole) <= 130  # CutMix pastes, so its pixels stay whole numbers


@pytest.mark.parametrize(("field", "value"), [("mixup", -1.0), ("cutmix", -0.1), ("prob", 1.5), ("switch_prob", -1)])
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"model\.loss\.mix\.{field} is {value}"):
        Mix(**{field: value})
