"""The fast JPEG decoder returns the pixels of the slow one, and refuses the same files."""

import io
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation

from inceptionnext_lit.data import load_image
from inceptionnext_lit.data.decode.jpeg import open_jpeg
from inceptionnext_lit.data.input_format import InputOptions, input_format
from inceptionnext_lit.data.transforms.augmentation import LEVELS
from inceptionnext_lit.data.transforms.pipeline import RandomCrop, train_transform
from inceptionnext_lit.errors import UserError


def photo(width: int, height: int) -> Image.Image:
    """Return an image with gradients, edges and noise."""
    draw = np.random.default_rng(width * 10_000 + height)
    coarse = Image.fromarray(draw.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = draw.standard_normal((height, width, 1), np.float32) * 6
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def saved(path: Path, image: Image.Image, orientation: int | None = None, **options: object) -> str:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, "JPEG", exif=exif, **({"quality": 90} | options))
    return str(path)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 20}, {"optimize": True},
        {"restart_marker_blocks": 3}, {"keep_rgb": True}, {"quality": 100, "subsampling": 0},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("size", [(64, 48), (61, 47), (1, 1), (9, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_whole_picture_is_pillows_to_the_last_bit(
    tmp_path: Path, options: dict[str, object], size: tuple[int, int], mode: str
) -> None:
    path = saved(tmp_path / "a.jpg", photo(*size).convert(mode), **options)
    jpeg = open_jpeg(path)
    assert jpeg is not None
    assert jpeg.size == size
    pixels = jpeg.crop(0, 0, size[1], size[0], at_least=10_000)
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(load_image(path)))


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_a_crop_is_that_of_the_upright_picture(tmp_path: Path, orientation: int) -> None:
    path = saved(tmp_path / "a.jpg", photo(61, 47), orientation)
    whole = load_image(path)
    jpeg = open_jpeg(path)
    assert jpeg is not None
    assert jpeg.size == whole.size
    pixels = jpeg.crop(5, 8, 30, 20, at_least=224)
    assert np.array_equal(pixels, np.asarray(whole)[5:35, 8:28])


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_large_crop_is_decoded_at_the_smallest_scale_that_suffices(tmp_path: Path, orientation: int) -> None:
    path = saved(tmp_path / "a.jpg", photo(643, 405), orientation)
    whole = load_image(path)
    jpeg = open_jpeg(path)
    assert jpeg is not None
    for side, shape in ((224, (260, 330)), (130, (130, 165)), (66, (65 * 2, 165)), (65, (65, 82)), (32, (32, 41))):
        pixels = jpeg.crop(24, 40, 260, 330, at_least=side)
        assert pixels is not None
        assert np.allclose(pixels.shape[:2], shape, atol=1)  # edges are rounded to the grid of the scale
        assert min(pixels.shape[:2]) >= side or pixels.shape[:2] == (260, 330)
        reference = whole.resize(pixels.shape[1::-1], Image.Resampling.BOX, box=(40, 24, 370, 284))
        difference = np.abs(pixels.astype(int) - np.asarray(reference).astype(int))
        assert difference.mean() < 5  # another filter, on grain; a crop at another place is 20 and more away


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "random"])
def test_the_training_crop_agrees_with_timms(tmp_path: Path, interpolation: str) -> None:
    """Same draws, but torch's resize instead of Pillow's: at most 2 levels of 255 apart, and 0.05 on average."""
    path = saved(tmp_path / "a.jpg", photo(500, 375), 6)
    ours = RandomCrop((224, 224), (0.08, 1.0), (3 / 4, 4 / 3), interpolation)
    theirs = RandomResizedCropAndInterpolation(224, interpolation=interpolation)
    worst, total = 0, 0.0
    for seed in range(30):
        random.seed(seed)
        expected = theirs(load_image(path))
        random.seed(seed)
        (actual,) = ours.read(path)
        assert isinstance(actual, torch.Tensor)
        assert actual.dtype == torch.uint8
        assert actual.permute(1, 2, 0).is_contiguous()
        difference = np.abs(actual.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected).astype(int))
        worst, total = max(worst, int(difference.max())), total + float(difference.mean())
    assert worst <= (1 if interpolation == "bilinear" else 2)
    assert total / 30 < 0.05


def test_a_large_photo_agrees_with_timms_crop_nearly(tmp_path: Path) -> None:
    """Scaling while decoding uses another filter than Pillow, and edges rounded to the scale's grid."""
    path = saved(tmp_path / "a.jpg", photo(1600, 1200))
    ours, theirs = (
        RandomCrop((224, 224), (0.4, 1.0), (3 / 4, 4 / 3), "bicubic"),
        RandomResizedCropAndInterpolation(224, (0.4, 1.0), interpolation="bicubic"),
    )
    for seed in range(5):
        random.seed(seed)
        expected = np.asarray(theirs(load_image(path))).astype(int)
        random.seed(seed)
        (actual,) = ours.read(path)
        assert isinstance(actual, torch.Tensor)
        assert np.abs(actual.permute(1, 2, 0).numpy() - expected).mean() < 2


def outcome(path: str, fast: bool) -> tuple[str, bytes]:
    try:
        if not fast:
            return "pixels", load_image(path).tobytes()
        jpeg = open_jpeg(path)
        pixels = None if jpeg is None else jpeg.crop(0, 0, jpeg.size[1], jpeg.size[0], at_least=10_000)
        return "pixels", load_image(path).tobytes() if pixels is None else pixels.tobytes()
    except UserError as error:
        return str(error), b""


@pytest.mark.slow
@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_files_end_as_in_pillow(tmp_path: Path, progressive: bool) -> None:
    """Truncated at every length, and with random bytes changed: the same pixels, or the same error."""
    buffer = io.BytesIO()
    photo(40, 32).save(buffer, "JPEG", quality=80, progressive=progressive)
    content = buffer.getvalue()
    draw = random.Random(0)
    damaged = [content[:length] for length in range(0, len(content), 3)]
    for _ in range(600):
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 20))):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        damaged.append(bytes(changed))
    path = tmp_path / "a.jpg"
    ends = set()
    for number, data in enumerate(damaged):
        path.write_bytes(data)
        slow = outcome(str(path), fast=False)
        assert outcome(str(path), fast=True) == slow, number
        ends.add(slow[0] == "pixels")
    assert ends == {True, False}


def test_a_truncated_file_is_refused_in_training(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", photo(64, 48))
    content = Path(path).read_bytes()
    transform = train_transform(LEVELS["light"], input_format(32, 3))
    assert transform.read(path).shape == (3, 32, 32)
    Path(path).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"Cannot read the image .*a\.jpg: .*truncated.* Replace the file"):
        transform.read(path)
    Path(path).unlink()
    with pytest.raises(UserError, match=r"Cannot read the image .*a\.jpg: the file is missing"):
        transform.read(path)
    Path(path).symlink_to(path)
    with pytest.raises(UserError, match=r"Cannot read the image .*a\.jpg: Too many levels of symbolic links\. Replace"):
        transform.read(path)


def test_other_files_use_the_slow_decoder(tmp_path: Path) -> None:
    cmyk, png = tmp_path / "a.jpg", tmp_path / "b.jpg"
    photo(40, 30).convert("CMYK").save(cmyk)
    photo(40, 30).save(png, "PNG")
    transform = train_transform(
        replace(LEVELS["light"], scale=(1, 1), hflip=0), input_format(30, 3, InputOptions(crop_pct=1.0))
    )
    for path in (cmyk, png):
        assert open_jpeg(str(path)) is None
        random.seed(0)
        fast = transform.read(str(path))
        random.seed(0)
        assert torch.equal(fast, transform(load_image(path)))
