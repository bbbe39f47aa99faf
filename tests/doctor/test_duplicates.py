"""Which files count as the same picture."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

from inceptionnext_lit.doctor.duplicates import duplicate_groups
from inceptionnext_lit.doctor.examine import Examination, examine
from tests.doctor.folders import picture, save


def seen(path: Path, image: Image.Image, **options: object) -> Examination:
    return examine(str(save(path, image, **options)))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda image: image, True),
        (lambda image: image.resize((160, 120)), True),
        (lambda image: image.resize((1000, 750)), True),
        (lambda image: image.resize((320, 300)), True),  # another shape
        (lambda image: ImageEnhance.Brightness(image).enhance(1.1), True),
        (lambda image: ImageEnhance.Contrast(image).enhance(0.8), True),
        (lambda image: image.crop((32, 24, 320, 240)), False),
        (ImageOps.mirror, False),
        (ImageOps.invert, False),
        (lambda image: Image.merge("RGB", image.split()[::-1]), False),
    ],
    ids=["same", "half", "large", "squeezed", "bright", "dull", "cropped", "mirrored", "inverted", "recolored"],
)
def test_copies(tmp_path: Path, change: Callable[[Image.Image], Image.Image], found: bool) -> None:
    image = picture(0, (320, 240))
    files = [
        seen(tmp_path / "a.png", image),
        seen(tmp_path / "other.png", picture(1, (320, 240))),
        seen(tmp_path / "b.jpg", change(image), quality=50),
    ]
    assert duplicate_groups(files) == ([[0, 2]] if found else [])


@pytest.mark.slow
def test_different_pictures_are_not_alike(tmp_path: Path) -> None:
    assert duplicate_groups([seen(tmp_path / f"{n}.jpg", picture(n)) for n in range(300)]) == []


def test_groups_join_exact_and_near_ones(tmp_path: Path) -> None:
    files = [seen(tmp_path / "0.jpg", picture(0)), seen(tmp_path / "1.jpg", picture(1))]
    files += [seen(tmp_path / "2.jpg", picture(2)), seen(tmp_path / "3.jpg", picture(0))]
    files += [seen(tmp_path / "4.jpg", picture(1)), seen(tmp_path / "5.png", picture(0))]
    assert files[0].digest == files[3].digest != files[5].digest
    assert duplicate_groups(files) == [[0, 3, 5], [1, 4]]


def test_plain_and_unreadable_files(tmp_path: Path) -> None:
    files = [seen(tmp_path / f"{n}.png", Image.new("RGB", (9, 9), (n, n, n))) for n in range(3)]
    files += [examine(str(tmp_path / "none.jpg")), examine(str(tmp_path / "neither.jpg"))]
    assert duplicate_groups(files) == []
    assert duplicate_groups([*files, seen(tmp_path / "same.png", Image.new("RGB", (9, 9), (1, 1, 1)))]) == [[1, 5]]
    assert duplicate_groups([]) == []


@pytest.mark.slow
def test_a_long_series_is_one_group(tmp_path: Path) -> None:
    """More pairs than are compared or verified at a time."""
    shot = seen(tmp_path / "a.png", picture(0))
    fields = {name: getattr(shot, name) for name in ("size", "mode", "format", "look")}
    files = [Examination(f"{n}.png", digest=n.to_bytes(16, "big"), **fields) for n in range(2500)]
    assert duplicate_groups([seen(tmp_path / "b.png", picture(1)), *files]) == [list(range(1, 2501))]
