"""Spectra of feature maps and effective receptive fields, against direct computations and known inputs."""

import math

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.explain.receptive_field import (
    center_of,
    receptive_field,
    shares_by_side,
    smallest_squares,
)
from inceptionnext_lit.reports.explain.spectrum import level_maps, level_names, log_amplitudes, spectrum_of


@pytest.mark.parametrize("side", [7, 8, 14])
def test_amplitudes_equal_a_direct_transform(side: int) -> None:
    """Sums over positions with numpy, in the order of the authors' notebook."""
    maps = torch.randn(2, 3, side, side)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(side), np.arange(side)) / side)
    logs = np.log(np.abs(np.einsum("ux,ncxy,yv->ncuv", waves, maps.numpy(), waves)) + 1e-6)
    rolled = np.roll(logs, (int(side / 2), int(side / 2)), axis=(2, 3)).mean(axis=(0, 1))
    half = np.diag(rolled)[int(side / 2) :]
    assert log_amplitudes(maps).numpy() == pytest.approx(half, abs=1e-5)
    [level] = spectrum_of(["stage"], [[maps]])
    assert level.amplitudes == pytest.approx(half - half[0], abs=1e-5)
    assert level.frequencies == pytest.approx(np.linspace(0, np.pi, len(half)))
    assert level.highest == pytest.approx(half[-1] - half[0], abs=1e-5)


def test_white_noise_is_flat_and_a_constant_has_no_frequencies() -> None:
    generator = torch.Generator().manual_seed(0)
    [noise] = spectrum_of(["noise"], [[torch.randn(64, 64, 16, 16, generator=generator)] for _ in range(2)])
    # log |z| of complex normal numbers against that of a real one, as at frequency 0: (log 4) / 2 - (log 2) / 2
    assert noise.amplitudes[1:] == pytest.approx(np.full(7, math.log(2) / 2), abs=0.03)
    [constant] = spectrum_of(["constant"], [[torch.ones(1, 2, 8, 8)]])
    assert constant.amplitudes[1:] == pytest.approx(np.full(3, math.log(1e-6) - math.log(64 + 1e-6)), abs=1e-6)


def test_batches_of_other_sizes_count_by_their_images() -> None:
    maps = torch.randn(5, 3, 8, 8)
    [whole], [parts] = spectrum_of(["a"], [[maps]]), spectrum_of(["a"], [[maps[:4]], [maps[4:]]])
    assert parts.amplitudes == pytest.approx(whole.amplitudes, abs=1e-9)


def test_maps_of_one_position_are_left_out() -> None:
    levels = spectrum_of(["a", "b", "c"], [[torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 6), torch.randn(1, 2, 1, 1)]])
    assert [(level.name, level.depth, len(level.amplitudes)) for level in levels] == [("a", 0, 4), ("b", 0.5, 2)]


@pytest.mark.parametrize(
    ("name", "arguments", "levels", "sides"),
    [
        ("inceptionnext_nano", {}, [f"stages.{i}" for i in range(4)], [16, 8, 4, 2]),
        ("inceptionnext_iso_nano", {"img_size": 64}, [f"blocks.{i}" for i in range(6)], [16] * 6),
        ("swin_tiny_patch4_window7_224", {"img_size": 64}, [f"layers.{i}" for i in range(4)], [16, 8, 4, 2]),
        ("deit_tiny_patch16_224", {"img_size": 64}, [f"blocks.{i}" for i in range(12)], [4] * 12),
    ],
)
def test_maps_of_networks(name: str, arguments: dict[str, int], levels: list[str], sides: list[int]) -> None:
    model = timm.create_model(name, **arguments).eval()
    with torch.no_grad():
        maps = level_maps(model, torch.randn(2, 3, 64, 64))
        last = level_maps(model, torch.zeros(1, 3, 64, 64), last_only=True)
    assert [tuple(one.shape[2:]) for one in maps] == [(side, side) for side in sides]
    assert level_names(model, len(maps)) == levels
    assert len(last) == 1
    assert last[0].shape[1:] == maps[-1].shape[1:]


def test_networks_and_images_without_maps() -> None:
    with pytest.raises(UserError, match="does not return its feature maps"):
        level_maps(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
    deit = timm.create_model("deit_tiny_patch16_224", img_size=64)
    with pytest.raises(UserError, match="feature maps of images of 32×32 pixels fail"):
        level_maps(deit, torch.zeros(1, 3, 32, 32))


def convolution(kernel: int) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    return layer


def test_the_field_of_one_convolution_is_its_support() -> None:
    field = receptive_field(convolution(3), [torch.ones(2, 1, 9, 9), torch.ones(1, 1, 9, 9)])
    expected = np.zeros((9, 9))
    expected[3:6, 3:6] = 1
    assert field == pytest.approx(expected)
    assert [(square.share, square.side) for square in smallest_squares(field)] == [
        (0.2, 3), (0.3, 3), (0.5, 3), (0.99, 3),
    ]  # fmt: skip
    assert smallest_squares(field)[0].area == pytest.approx(9 / 81)


def test_squares_are_around_the_field_and_not_the_image() -> None:
    """The central position of a map of stride 8 looks at rows and columns 8 to 10 of 24, not at the center, 12."""
    layer = nn.Conv2d(1, 1, 3, stride=8, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    field = receptive_field(layer, [torch.ones(1, 1, 24, 24)])
    assert center_of(field) == (9, 9)
    assert [square.side for square in smallest_squares(field)] == [3, 3, 3, 3]
    assert smallest_squares(field)[-1].area == pytest.approx(9 / 576)
    edge = np.zeros((10, 10))
    edge[0, 0] = 1
    assert shares_by_side(edge)[0].tolist() == list(range(1, 11))
    assert smallest_squares(edge)[0].area == pytest.approx(1 / 100)


def test_the_field_is_scaled_as_in_replknet() -> None:
    weights = torch.tensor([[0.0, -9.0, 0.0], [1.0, 99.0, 1.0], [0.0, 0.0, 0.0]])
    layer = convolution(3)
    layer.weight.data[0, 0] = weights
    field = receptive_field(layer, [torch.ones(1, 1, 7, 7)])
    inner = np.log10(1 + weights.abs().numpy()) / 2  # log10(1 + 99) is the maximum
    assert field[2:5, 2:5] == pytest.approx(inner, abs=1e-6)
    sides, held = shares_by_side(field)
    assert sides.tolist() == [1, 3, 5, 7]
    assert held == pytest.approx([1 / inner.sum(), 1, 1, 1], abs=1e-6)
    assert [square.side for square in smallest_squares(field)] == [1, 1, 1, 3]


def test_squares_of_even_and_oblong_fields_reach_the_whole() -> None:
    squares = smallest_squares(np.ones((8, 12)))
    assert (squares[-1].top, squares[-1].left, squares[-1].height, squares[-1].width) == (0, 0, 8, 12)
    assert squares[-1].area == 1
    assert (squares[0].top, squares[0].left, squares[0].height, squares[0].width) == (2, 4, 5, 5)  # around (4, 6)
    assert squares[0].area == pytest.approx(25 / 96)


def test_no_side_exceeds_the_image() -> None:
    field = np.ones((28, 28))
    assert center_of(field) == (14, 14)  # a square with an odd side would need 29 pixels
    assert smallest_squares(field)[-1].side == 28
    assert smallest_squares(field)[-1].area == 1
    assert shares_by_side(field)[0].tolist() == [*range(1, 28, 2), 28]


def test_an_empty_field() -> None:
    def constant(images: Tensor) -> Tensor:
        return images * 0 - 1

    with pytest.raises(UserError, match="The receptive field is empty"):
        receptive_field(constant, [torch.ones(1, 1, 4, 4)])
    with pytest.raises(UserError, match="The receptive field is empty"):
        receptive_field(convolution(3), [])
