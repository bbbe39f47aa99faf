import math

import pytest
import timm
import torch
from torch import nn

from inceptionnext_lit.models import DepthwiseConv2d, InceptionDWConv2d, SelfAttention2d


def fill(conv: nn.Conv2d, weight: float, bias: float) -> None:
    nn.init.constant_(conv.weight, weight)
    nn.init.constant_(conv.bias, bias)


def test_inception_branches_are_ordered_identity_square_wide_high() -> None:
    mixer = InceptionDWConv2d(8, square_kernel_size=3, band_kernel_size=5, branch_ratio=0.25)
    fill(mixer.dwconv_hw, 1, 100)
    fill(mixer.dwconv_w, 1, 200)
    fill(mixer.dwconv_h, 1, 300)
    image = torch.zeros(1, 8, 7, 7)
    image[..., 3, 3] = 1
    out = mixer(image)
    expected = torch.zeros(8, 7, 7)
    expected[:2, 3, 3] = 1
    expected[2:4] = 100
    expected[2:4, 2:5, 2:5] += 1
    expected[4:6] = 200
    expected[4:6, 3, 1:6] += 1
    expected[6:8] = 300
    expected[6:8, 1:6, 3] += 1
    torch.testing.assert_close(out[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("left_out", "layers"),
    [
        ("square", ["dwconv_w", "dwconv_h"]),
        ("horizontal", ["dwconv_hw", "dwconv_h"]),
        ("vertical", ["dwconv_hw", "dwconv_w"]),
    ],
)
def test_channels_of_an_omitted_branch_pass_through(left_out: str, layers: list[str]) -> None:
    kept = tuple(branch for branch in ("square", "horizontal", "vertical") if branch != left_out)
    mixer = InceptionDWConv2d(16, branch_ratio=0.25, branches=kept)
    assert [name for name, _ in mixer.named_children()] == layers
    for value, layer in enumerate(layers, start=1):
        fill(getattr(mixer, layer), 0, value)
    image = torch.randn(2, 16, 5, 5)
    out = mixer(image)
    torch.testing.assert_close(out[:, :8], image[:, :8], rtol=0, atol=0)
    assert (out[:, 8:12] == 1).all()
    assert (out[:, 12:] == 2).all()


def test_bands_in_sequence_share_one_group_of_channels() -> None:
    mixer = InceptionDWConv2d(16, band_kernel_size=3, branch_ratio=0.25, sequential_bands=True)
    fill(mixer.dwconv_hw, 0, 5)
    fill(mixer.dwconv_w, 1, 0)
    fill(mixer.dwconv_h, 1, 0)
    image = torch.zeros(1, 16, 5, 5)
    image[..., 2, 2] = 1
    out = mixer(image)[0]
    torch.testing.assert_close(out[:8], image[0, :8], rtol=0, atol=0)
    assert (out[8:12] == 5).all()
    square = torch.zeros(5, 5)
    square[1:4, 1:4] = 1  # a row and then a column of ones
    torch.testing.assert_close(out[12:], square.expand(4, 5, 5), rtol=0, atol=0)


def test_inception_dilation_spreads_the_taps_and_keeps_the_size() -> None:
    mixer = InceptionDWConv2d(8, band_kernel_size=3, branch_ratio=0.25, dilation=2)
    for conv in (mixer.dwconv_hw, mixer.dwconv_w, mixer.dwconv_h):
        fill(conv, 1, 0)
    image = torch.zeros(1, 8, 9, 9)
    image[..., 4, 4] = 1
    out = mixer(image)[0]
    assert out.shape == (8, 9, 9)
    assert out[2].nonzero().tolist() == [[i, j] for i in (2, 4, 6) for j in (2, 4, 6)]
    assert out[4].nonzero().tolist() == [[4, 2], [4, 4], [4, 6]]
    assert out[6].nonzero().tolist() == [[2, 4], [4, 4], [6, 4]]


@pytest.mark.parametrize(("ratio", "convolved"), [(1.0, 16), (0.5, 8), (3 / 8, 6), (1 / 16, 1)])
def test_depthwise_convolves_the_last_channels(ratio: float, convolved: int) -> None:
    mixer = DepthwiseConv2d(16, kernel_size=3, conv_ratio=ratio)
    assert mixer.dwconv.weight.shape == (convolved, 1, 3, 3)
    fill(mixer.dwconv, 0, 7)
    image = torch.randn(2, 16, 5, 5)
    out = mixer(image)
    torch.testing.assert_close(out[:, : 16 - convolved], image[:, : 16 - convolved], rtol=0, atol=0)
    assert (out[:, 16 - convolved :] == 7).all()


def test_depthwise_equals_a_plain_depthwise_convolution() -> None:
    mixer = DepthwiseConv2d(6, dilation=2)
    image = torch.randn(2, 6, 20, 20)
    plain = nn.functional.conv2d(image, mixer.dwconv.weight, mixer.dwconv.bias, padding=6, dilation=2, groups=6)
    torch.testing.assert_close(mixer(image), plain, rtol=0, atol=0)


def test_attention_equals_a_softmax_written_by_hand() -> None:
    torch.manual_seed(0)
    mixer = SelfAttention2d(12, num_heads=3)
    nn.init.normal_(mixer.qkv.bias)
    image = torch.randn(2, 12, 3, 5)
    tokens = image.reshape(2, 12, 15).transpose(1, 2)
    query, key, value = (tokens @ mixer.qkv.weight.T + mixer.qkv.bias).split(12, dim=-1)
    heads = []
    for i in range(3):
        part = slice(4 * i, 4 * i + 4)
        scores = (query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(4)).exp()
        heads.append(scores / scores.sum(-1, keepdim=True) @ value[..., part])
    expected = torch.cat(heads, dim=-1) @ mixer.proj.weight.T + mixer.proj.bias
    torch.testing.assert_close(mixer(image), expected.transpose(1, 2).reshape(2, 12, 3, 5))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InceptionDWConv2d(4), "3 branches of 0 channels"),
        (lambda: InceptionDWConv2d(8, branch_ratio=0.5), "each needs at least 1 and at most 2"),
        (lambda: InceptionDWConv2d(8, band_kernel_size=10), "kernel size 10 is even"),
        (lambda: InceptionDWConv2d(8, branches=()), "gives 0 branches of 1 channels"),
        (
            lambda: InceptionDWConv2d(8, branches=("diagonal",)),
            "unknown branch 'diagonal'; the branches are square, horizontal",
        ),
        (lambda: InceptionDWConv2d(8, branches=("square", "vertical"), sequential_bands=True), "needs the branches"),
        (lambda: DepthwiseConv2d(8, conv_ratio=0.1), "convolves 0 of 8 channels"),
        (lambda: DepthwiseConv2d(8, conv_ratio=1.5), "convolves 12 of 8 channels"),
        (lambda: SelfAttention2d(8, num_heads=3), "3 heads do not divide 8 channels"),
        (lambda: timm.create_model("pvt_tiny", dims=(16, 32, 64, 64)), "5 heads do not divide 64 channels"),
        (lambda: timm.create_model("t2t_vit_14", dim=64), "6 heads do not divide 64 channels"),
        (lambda: timm.create_model("focal_tiny", dims=(16, 32, 64, 64)), "3 heads do not divide 16 channels"),
    ],
)
def test_impossible_arguments_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
