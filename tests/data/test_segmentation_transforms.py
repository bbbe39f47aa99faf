"""Each operation of mmsegmentation's pipeline, against its definition with the same draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from inceptionnext_lit.data.device_batch import ToInput
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.scene_checks import scene_format
from inceptionnext_lit.data.scenes import collate_crops
from inceptionnext_lit.data.transforms import resampling
from inceptionnext_lit.data.transforms.photometric import distort, to_hsv, to_rgb
from inceptionnext_lit.data.transforms.resampling import as_array, fitted, resample
from inceptionnext_lit.data.transforms.segmentation import (
    SEGMENTATION_LEVELS,
    SegmentationAugmentation,
    TestScale,
    TrainingCrop,
    draw_box,
)
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing
from tests.scenes import scene

Pixels = NDArray[np.uint8]
PLAIN = SEGMENTATION_LEVELS["none"]


def form(crop: int | list[int] = 24, scale: list[int] | None = None, channels: int = 3) -> Preprocessing:
    return scene_format(crop, scale, channels, InputOptions())


def smooth(seed: int, height: int, width: int) -> Pixels:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


# the definitions, one after the other, as mmcv and mmsegmentation write them


def mmcv_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """mmcv.rescale_size."""
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)


def random_resize_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """mmcv's RandomResize with ratio_range (0.5, 2.0)."""
    ratio = np.random.random_sample() * (2.0 - 0.5) + 0.5
    return mmcv_size(height, width, (int(scale[0] * ratio), int(scale[1] * ratio)))


def mmseg_crop_box(mask: Pixels, crop: tuple[int, int], cat_max_ratio: float) -> tuple[int, int, int, int]:
    """mmseg's RandomCrop.crop_bbox: top, bottom, left, right."""

    def generate() -> tuple[int, int, int, int]:
        margin_h, margin_w = max(mask.shape[0] - crop[0], 0), max(mask.shape[1] - crop[1], 0)
        offset_h, offset_w = np.random.randint(0, margin_h + 1), np.random.randint(0, margin_w + 1)
        return offset_h, offset_h + crop[0], offset_w, offset_w + crop[1]

    box = generate()
    if cat_max_ratio < 1.0:
        for _ in range(10):
            labels, counts = np.unique(mask[box[0] : box[1], box[2] : box[3]], return_counts=True)
            counts = counts[labels != 255]
            if len(counts) > 1 and np.max(counts) / np.sum(counts) < cat_max_ratio:
                break
            box = generate()
    return box


def convert(image: Any, alpha: float = 1, beta: float = 0) -> Pixels:
    return np.clip(image.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def hsv_of(image: Pixels) -> Pixels:
    return np.stack(to_hsv(image), axis=-1)


def rgb_of(hsv: Pixels) -> Pixels:
    return to_rgb(*(np.ascontiguousarray(hsv[..., channel]) for channel in range(3)))


def mmseg_distort(image: Pixels) -> Pixels:
    """mmseg's PhotoMetricDistortion, whose conversions are tested below."""

    def contrast(image: Pixels) -> Pixels:
        return convert(image, alpha=np.random.uniform(0.5, 1.5)) if np.random.randint(2) else image

    if np.random.randint(2):
        image = convert(image, beta=np.random.uniform(-32, 32))
    mode = np.random.randint(2)
    if mode == 1:
        image = contrast(image)
    if np.random.randint(2):
        hsv = hsv_of(image)
        hsv[..., 1] = convert(hsv[..., 1], alpha=np.random.uniform(0.5, 1.5))
        image = rgb_of(hsv)
    if np.random.randint(2):
        hsv = hsv_of(image)
        hsv[..., 0] = (hsv[..., 0].astype(int) + np.random.randint(-18, 18)) % 180
        image = rgb_of(hsv)
    return contrast(image) if mode == 0 else image


def test_sizes_are_mmcvs() -> None:
    generator = np.random.default_rng(0)
    for height, width in generator.integers(20, 3000, (500, 2)).tolist():
        assert fitted(height, width, 2048, 512) == mmcv_size(height, width, (2048, 512))
    assert fitted(683, 512, 2048, 512) == (683, 512)


@pytest.mark.parametrize("cat_max_ratio", [0.75, 0.3, 1.0])
def test_crops_are_drawn_and_redrawn_like_mmsegs(cat_max_ratio: float) -> None:
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:30, 40:60], mask[35:50, 5:15], mask[:5] = 1, 2, 255
    boxes = set()
    for seed in range(60):
        np.random.seed(seed)
        top, bottom, left, right = mmseg_crop_box(mask, (24, 24), cat_max_ratio)
        after = np.random.random_sample()
        np.random.seed(seed)
        box = draw_box(mask, (24, 24), cat_max_ratio)
        assert box == (top, left, bottom - top, right - left)
        assert np.random.random_sample() == after  # as many draws
        boxes.add(box)
    assert len(boxes) > 30


def test_distortions_are_mmsegs() -> None:
    image = smooth(1, 40, 50)
    changed = 0
    for seed in range(100):
        np.random.seed(seed)
        expected = mmseg_distort(image)
        after = np.random.random_sample()
        np.random.seed(seed)
        assert np.array_equal(distort(image), expected)
        assert np.random.random_sample() == after
        changed += not np.array_equal(expected, image)
    assert 90 < changed <= 100


def test_hue_saturation_and_value_are_opencvs() -> None:
    """Values that cv2.cvtColor of OpenCV 5.0.0 returned for these colors (COLOR_RGB2HSV)."""
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 200, 90], [123, 45, 67], [7, 7, 7], [250, 251, 3]]])
    expected = [
        [0, 255, 255],
        [60, 255, 255],
        [120, 255, 255],
        [73, 242, 200],
        [172, 162, 123],
        [0, 0, 7],
        [30, 252, 251],
    ]
    assert hsv_of(colors.astype(np.uint8))[0].tolist() == expected
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    back = rgb_of(hsv_of(image)).astype(int)
    assert np.abs(back - image).max() <= 6  # of 8-bit hue


@pytest.mark.parametrize("small", [0, 10**9])  # by NumPy, and by torch
def test_resampling_is_bilinear_without_smoothing(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_SMALL", small)
    image = smooth(2, 50, 70)
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    for size in [(100, 140), (33, 46), (75, 105), (26, 36)]:
        expected = F.interpolate(pixels, size, mode="bilinear")[0].permute(1, 2, 0).numpy()
        whole = resample(Image.fromarray(image), size)
        assert whole is not None
        assert np.abs(whole - expected).max() <= 1.001
        assert np.abs(whole - expected).mean() < 0.4
        part = resample(Image.fromarray(image), size, (3, 7, 20, 25))
        assert np.array_equal(part, whole[3:23, 7:32])  # type: ignore[arg-type]


def test_large_pictures_are_reduced_first() -> None:
    image = smooth(3, 96, 128)
    expected = np.asarray(Image.fromarray(image).reduce(4))
    assert np.array_equal(resample(Image.fromarray(image), (24, 32)), expected)  # type: ignore[arg-type]


def test_jpegs_are_decoded_at_the_scale_that_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a.jpg")
    Image.fromarray(smooth(4, 160, 240)).save(path, quality=95)
    asked: list[tuple[int, int]] = []
    from inceptionnext_lit.data.decode import jpeg

    decode = jpeg.decode_jpeg

    def note(content: bytes, color: str, *, min_height: int, min_width: int) -> Any:
        asked.append((min_height, min_width))
        return decode(content, color, min_height=min_height, min_width=min_width)

    monkeypatch.setattr(jpeg, "decode_jpeg", note)
    mask = np.zeros((160, 240), dtype=np.uint8)
    crop = TrainingCrop(PLAIN, form(24, [60, 40])).read(path, mask)
    assert asked == [(40, 60)]
    assert crop.pixels.shape == (3, 24, 24)
    pixels, size = TestScale(form(24, [120, 80])).read(path)
    assert (pixels.shape, size) == ((3, 80, 120), (160, 240))
    whole = np.asarray(Image.open(path).resize((120, 80), Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels.permute(1, 2, 0).numpy() - whole).mean() < 3


def test_the_whole_pipeline_has_mmsegs_draws_and_pixels(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    image = smooth(5, 40, 64)
    Image.fromarray(image).save(path)
    mask = scene(5, 40, 64, ignored=True)[1]
    transform = TrainingCrop(SEGMENTATION_LEVELS["mmseg"], form([32, 32], [80, 40]))
    padded = 0
    for seed in range(40):
        np.random.seed(seed)
        size = random_resize_size(40, 64, (80, 40))
        rows = np.floor(np.arange(size[0]) * (40 / size[0])).astype(int)
        columns = np.floor(np.arange(size[1]) * (64 / size[1])).astype(int)
        resized = mask[rows][:, columns]
        top, bottom, left, right = mmseg_crop_box(resized, (32, 32), 0.75)
        expected_mask = resized[top:bottom, left:right]
        pixels = resample(Image.fromarray(image), size)
        assert pixels is not None
        expected = pixels[top:bottom, left:right]
        if np.random.choice(["horizontal", ""], p=[0.5, 0.5]):  # mmcv's RandomFlip
            expected, expected_mask = expected[:, ::-1], expected_mask[:, ::-1]
        expected = mmseg_distort(np.ascontiguousarray(expected))
        height, width = expected_mask.shape
        np.random.seed(seed)
        crop = transform.read(path, mask)
        assert crop.inside == (height, width)
        assert np.array_equal(crop.mask[:height, :width].numpy(), expected_mask)
        assert np.array_equal(crop.pixels[:, :height, :width].permute(1, 2, 0).numpy(), expected)
        assert (crop.mask[height:] == 255).all()
        assert (crop.mask[:, width:] == 255).all()
        padded += (height, width) != (32, 32)
    assert 3 < padded < 37


def test_padding_is_0_after_the_normalization(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    Image.fromarray(smooth(6, 20, 30)).save(path)
    crop = TrainingCrop(PLAIN, form(24)).read(path, np.ones((20, 30), dtype=np.uint8))
    images, masks = collate_crops([crop, crop])
    finished = images.finished(ToInput(form(24)))
    assert finished.shape == (2, 3, 24, 24)
    assert (finished[:, :, 20:] == 0).all()
    assert (finished[:, :, :20] != 0).any(dim=1).all()
    assert (masks[:, 20:] == 255).all()


@pytest.mark.parametrize("level", ["light", "strong"])
def test_masks_follow_their_images(tmp_path: Path, level: Any) -> None:
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:45, 30:65] = 1
    path = str(tmp_path / "a.png")
    Image.fromarray(mask * 255).convert("RGB").save(path)
    augmentation = SegmentationAugmentation(**{**vars(SEGMENTATION_LEVELS[level]), "distortion": False, "vflip": 0.5})
    transform = TrainingCrop(augmentation, form(40))
    seen = set()
    for seed in range(20):
        np.random.seed(seed)
        torch.manual_seed(seed)
        crop = transform.read(path, mask)
        height, width = crop.inside
        white = crop.pixels[0, :height, :width] > 127
        counted = crop.mask[:height, :width] != 255
        assert (white == (crop.mask[:height, :width] == 1))[counted].float().mean() > 0.93
        seen.add(crop.mask.numpy().tobytes())
    assert len(seen) > 15


def test_grayscale_images_have_no_color_distortion(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    Image.fromarray(smooth(7, 40, 40)[..., 0]).save(path)
    crop = TrainingCrop(SEGMENTATION_LEVELS["strong"], form(24, None, 1)).read(path, np.zeros((40, 40), np.uint8))
    assert (crop.pixels.shape, crop.pixels.dtype) == ((1, 24, 24), torch.float32)
    assert 0 <= crop.pixels.min() <= crop.pixels.max() <= 1


def test_arrays_of_other_channels() -> None:
    pixels = torch.rand(5, 40, 60)
    assert np.allclose(as_array(pixels)[3, 4], pixels[:, 3, 4])
    half = resample(pixels, (20, 30))
    assert half is not None
    assert np.allclose(half[0, 0], pixels[:, :2, :2].mean(dim=(1, 2)), atol=1e-6)


def test_values_out_of_range() -> None:
    with pytest.raises(
        UserError, match=r"^data\.augmentation\.cat_max_ratio is 0, but must be above 0 and at most 1\.$"
    ):
        SegmentationAugmentation(cat_max_ratio=0)
    with pytest.raises(
        UserError, match=r"^data\.augmentation\.ratio is \(2, 1\), but must be 0 < low <= high, or null"
    ):
        SegmentationAugmentation(ratio=(2, 1))
    with pytest.raises(UserError, match=r"^data\.scale is \[512\], but must be a longer and a shorter side"):
        form(24, [512])
