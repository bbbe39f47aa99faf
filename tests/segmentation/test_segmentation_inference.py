"""Whole images, windows, scales and mirrored images against a plain reference."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from inceptionnext_lit.data.transforms.resampling import fitted, resample
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.segmentation.inference import Inference, InferenceOptions


class Position(torch.nn.Module):
    """Logits at a quarter of the sides that depend on a pixel's surroundings and on the window."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 7, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def up(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def slide(model: Position, image: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """MMSegmentation's ``slide_inference`` in plain loops."""
    height, width = image.shape[-2:]
    total, visits = torch.zeros(1, 4, height, width), torch.zeros(1, 1, height, width)
    rows = max(height - window[0] + stride[0] - 1, 0) // stride[0] + 1
    columns = max(width - window[1] + stride[1] - 1, 0) // stride[1] + 1
    for row in range(rows):
        for column in range(columns):
            bottom, right = min(row * stride[0] + window[0], height), min(column * stride[1] + window[1], width)
            top, left = max(bottom - window[0], 0), max(right - window[1], 0)
            crop = image[None, :, top:bottom, left:right]
            total += F.pad(up(model(crop), crop.shape[-2:]), (left, width - right, top, height - bottom))
            visits[..., top:bottom, left:right] += 1
    assert (visits > 0).all()
    return total / visits


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((70, 90), (32, 32), (21, 21)), ((32, 40), (64, 64), (43, 43)), ((65, 64), (64, 64), (64, 64))],
)
def test_windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> None:
    model, image = Position(), torch.randn(3, *size)
    options = InferenceOptions("slide", list(window), list(stride))
    found = Inference(options, (8, 8)).probabilities(model, image, (50, 60))
    expected = up(slide(model, image, window, stride), (50, 60)).softmax(dim=1)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_defaults_are_the_crop_and_two_thirds_of_it() -> None:
    inference = Inference(InferenceOptions("slide"), (512, 512))
    assert (inference.window, inference.stride) == ((512, 512), (341, 341))


@torch.no_grad()
def test_scales_and_mirrored_images_are_averaged() -> None:
    model, image, size = Position(), torch.randn(3, 40, 50), (40, 50)
    scales = [0.5, 1.0, 1.75]
    found = Inference(InferenceOptions(scales=scales, flip=True), (32, 32)).probabilities(model, image, size)
    views = []
    for scale in scales:
        target = fitted(40, 50, int(50 * scale), int(40 * scale))
        view = up(image[None], target) if target != size else image[None]
        for flip in (False, True):
            logits = up(model(view.flip(-1) if flip else view), target)
            probabilities = up(logits, size).softmax(dim=1)
            views.append(probabilities.flip(-1) if flip else probabilities)
    torch.testing.assert_close(found, torch.stack(views).mean(dim=0)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "scale", "multiple", "expected"),
    [
        ((512, 683), 1.0, 1, (512, 683)),
        ((512, 683), 0.5, 1, (256, 341)),
        ((512, 683), 1.75, 1, (896, 1195)),
        ((512, 683), 1.0, 32, (512, 704)),
        ((33, 64), 1.0, 32, (64, 64)),
    ],
)
def test_sizes_of_images(image: tuple[int, int], scale: float, multiple: int, expected: tuple[int, int]) -> None:
    inference = Inference(InferenceOptions(scales=[scale], multiple=multiple), (32, 32))
    [view] = inference._views(torch.zeros(3, *image), image)
    assert tuple(view.shape[-2:]) == expected


@pytest.mark.parametrize(
    ("factor", "expected"), [(0.5, (256, 341)), (0.75, (384, 512)), (1.0, (512, 683)), (1.75, (896, 1195))]
)
def test_scales_are_of_the_test_scale(factor: float, expected: tuple[int, int]) -> None:
    """An image of 1536 × 2048; sizes as mmcv's ``rescale_size((2048, 1536), (int(2048 * f), int(512 * f)))``."""
    inference = Inference(InferenceOptions(scales=[factor]), (32, 32), [512, 2048])
    [view] = inference._views(torch.zeros(3, 1536, 2048), (1536, 2048))
    assert tuple(view.shape[-2:]) == expected


@torch.no_grad()
def test_each_scale_resizes_the_original_image() -> None:
    model, image = Position(), torch.randn(3, 60, 80)
    inference = Inference(InferenceOptions(scales=[0.5, 1.5]), (32, 32), [64, 48])
    assert inference.takes_originals
    found = inference.probabilities(model, image, (60, 80))
    views = []
    for target in ((24, 32), (72, 96)):
        original = F.avg_pool2d(image[None], 2) if target == (24, 32) else image[None]  # 60 × 80 is twice as large
        logits = up(model(up(original, target)), target)
        views.append(up(logits, (60, 80)).softmax(dim=1))
    torch.testing.assert_close(found, torch.stack(views).mean(dim=0)[0], rtol=1e-5, atol=1e-6)
    twice = [up(up(image[None], (48, 64)), target) for target in ((24, 32), (72, 96))]
    assert not torch.allclose(views[1], up(up(model(twice[1]), (72, 96)), (60, 80)).softmax(dim=1), atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("own", [(60, 80), (111, 149)])
def test_views_have_the_pixels_that_the_data_gives_for_a_scale(own: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    picture = smooth.resize(own[::-1], Image.Resampling.BICUBIC)
    size = fitted(*own, 64, 48)
    expected = resample(picture, size)
    assert expected is not None
    [view] = Inference(InferenceOptions(scales=[1.0]), (32, 32), [64, 48])._views(
        torch.from_numpy(np.array(picture)).permute(2, 0, 1).float(), own
    )
    assert (view - torch.from_numpy(np.array(expected)).permute(2, 0, 1)).abs().max() < 2  # two roundings to integers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": [0, 4]}, "inference.window is"),
        ({"stride": [3]}, "inference.stride is"),
        ({"window": [32, 32], "stride": [32, 40]}, "is larger than the window"),
        ({"scales": []}, "inference.scales is"),
        ({"scales": [0.0]}, "inference.scales is"),
        ({"multiple": 0}, "inference.multiple is 0"),
    ],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InferenceOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [2**26, 3 * 40 * 50, 1])
@pytest.mark.parametrize(
    "options",
    [
        InferenceOptions(),
        InferenceOptions(mode="slide", window=[16, 16], flip=True),
        InferenceOptions(scales=[0.5, 1.25], flip=True, multiple=8),
    ],
)
def test_the_best_class_in_parts(options: InferenceOptions, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.tasks.segmentation.inference._MOST_VALUES", most)
    torch.manual_seed(0)
    segment = torch.nn.Conv2d(3, 11, 5, stride=4, padding=2)
    image, size = torch.randn(3, 40, 50), (40, 50)
    inference = Inference(options, (16, 16))
    with torch.inference_mode():
        every = inference.probabilities(segment, image, size)
        expected, places = every.max(dim=0)
        mask = torch.randint(0, 11, size)
        mask[:3] = 255
        classes, best, of_true = inference.best(segment, image, size, mask)
        assert of_true is not None
        assert torch.allclose(of_true[3:], every[:, 3:].gather(0, mask[None, 3:])[0], atol=1e-6)
        assert torch.allclose(best, expected, atol=1e-6)
        assert (classes == places).float().mean() > 0.999
        segment.bias[7] = torch.inf
        assert inference.best(segment, image, size).probabilities.isnan().all()
