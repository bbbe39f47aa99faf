"""What is wrong with masks is said in one sentence, before training."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.data.masks.surveying import look_at_masks
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.scenes import COLORS, NAMES, Index, colored, scene, write_classes, write_image, write_pairs, write_palette


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def refused(root: Path, options: MaskOptions | None = None, classes: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        MaskSource(root, options or MaskOptions(), classes).samples("train")
    return str(caught.value).replace(f"{root}/", "")


def test_values_beyond_the_classes(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    write_classes(tmp_path / "classes.csv", NAMES[:2], COLORS[:2])
    text = refused(tmp_path)
    assert re.fullmatch(
        r"The mask masks/scene0\.png has the value 2 \(\d+ pixels\), which is none of the 2 classes; if 0 means no "
        r"label and 1 is the first class, set --data\.masks\.reduce_zero_label true\. So it is with 3 other files; the "
        r"subcommand doctor lists all\.",
        text,
    )
    (tmp_path / "classes.csv").write_text("name,value\nx,0\ny,1\nz,9\n")
    assert "has the value 2 (" in refused(tmp_path)


def test_black_and_white_with_more_classes(tmp_path: Path) -> None:
    write_pairs(tmp_path, lambda path, mask: write_image(path, np.where(mask > 0, 255, 0).astype(np.uint8)))
    expected = (
        f"The masks in {tmp_path}/masks only have the values 0 and 255, which is for two classes, but 3 classes are "
        "expected; save each class's index as the value, or name two classes."
    ).replace(f"{tmp_path}/", "")
    assert refused(tmp_path, classes=NAMES) == expected
    write_classes(tmp_path / "classes.csv")
    assert refused(tmp_path) == expected


def test_pairs_that_are_incomplete(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (tmp_path / "masks" / "scene1.png").unlink()
    assert refused(tmp_path) == "images/scene1.jpg has no mask; add one, or take the image out."
    (tmp_path / "images" / "scene1.jpg").unlink()
    (tmp_path / "images" / "scene2.jpg").unlink()
    expected = "masks/scene2.png is a mask without an image; add the image, or take the mask out."
    assert refused(tmp_path) == expected
    write_image(tmp_path / "images" / "scene2.png", scene(2)[0])
    write_image(tmp_path / "images" / "scene2.jpg", scene(2)[0])
    assert refused(tmp_path).startswith("images/scene2.jpg shares its name with another file")


def test_sizes_that_differ(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    write_image(tmp_path / "masks" / "scene3.png", scene(3, height=32, width=24)[1])
    text = "The mask masks/scene3.png has 24×32 pixels, but its image images/scene3.jpg has 32×24"
    assert refused(tmp_path) == f"{text}; give both the same size."
    image = Image.fromarray(scene(3)[0])
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "images" / "scene3.jpg", exif=exif)
    write_image(tmp_path / "masks" / "scene3.png", scene(3)[1])
    assert refused(tmp_path).endswith(
        "after its EXIF rotation; --data.input.exif ignore reads images as they are stored."
    )
    assert MaskSource(tmp_path, apply_exif=False).samples("train") is not None


def as_jpeg(path: Path, mask: Index) -> None:
    Image.fromarray(mask * 50).save(path, "JPEG")  # named .png


def as_16_bit(path: Path, mask: Index) -> None:
    Image.fromarray(mask.astype(np.uint16)).save(path)


def as_transparent(path: Path, mask: Index) -> None:
    write_image(path, np.dstack([colored(mask), np.where(mask > 0, 255, 0).astype(np.uint8)]))


def as_photo(path: Path, mask: Index) -> None:
    write_image(path, np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))


def as_damaged(path: Path, mask: Index) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (as_jpeg, "is a JPEG, whose compression changes values; save masks as PNG."),
        (as_16_bit, "has 16 bits per pixel, and masks have 8; save the classes as 0 to 254 with 8 bits."),
        (as_transparent, "has transparent pixels, which have no class; save it without alpha."),
        (as_photo, "has more than 256 colors, so it is a photo, or was resized or compressed with a loss; save it "
                   "without smoothing, as PNG."),
        (as_damaged, "cannot be read: its content is not an image of a known format."),
    ],
)  # fmt: skip
def test_files_that_are_no_masks(tmp_path: Path, save: Callable[[Path, Index], Any], expected: str) -> None:
    write_pairs(tmp_path)
    save(tmp_path / "masks" / "scene1.png", scene(1)[1])
    assert refused(tmp_path) == f"The mask masks/scene1.png {expected}"


def test_colors_without_a_table(tmp_path: Path) -> None:
    write_pairs(tmp_path, lambda path, mask: write_image(path, colored(mask)))
    text = refused(tmp_path)
    assert text.startswith(
        "The masks in masks have colors: (0, 0, 0), (10, 90, 250), (200, 30, 30). List the classes in"
    )
    assert text.endswith("with the columns name, r, g and b.")


def test_colors_that_the_table_lacks(tmp_path: Path) -> None:
    write_pairs(tmp_path, lambda path, mask: write_image(path, colored(mask)))
    write_classes(tmp_path / "classes.csv", NAMES[:2], COLORS[:2])
    assert "has the color (10, 90, 250) (" in refused(tmp_path)
    assert "add the color to the table of classes, or a row named ignore" in refused(tmp_path)


def test_palettes_that_differ(tmp_path: Path) -> None:
    palettes = [COLORS, [COLORS[0], COLORS[2], COLORS[1]]]
    write_pairs(tmp_path, lambda path, mask: write_palette(path, mask, palettes[int(path.stem[-1]) // 3]))
    assert refused(tmp_path).startswith(
        "The value 1 is (200, 30, 30) in masks/scene0.png and (10, 90, 250) in masks/scene3.png, so their palettes "
        "have different orders; list the classes in classes.csv"
    )


def test_values_with_gaps_are_not_taken_for_classes(tmp_path: Path) -> None:
    write_pairs(tmp_path, lambda path, mask: write_image(path, mask * 7))
    assert refused(tmp_path).startswith(
        "The masks in masks have the values 0, 7, 14, but not 1, 2, 3 and 9 more; if they"
    )


def test_smooth_gray_masks_are_not_254_classes(tmp_path: Path) -> None:
    ramp = np.arange(24 * 32).reshape(24, 32)
    write_pairs(tmp_path, lambda path, mask: write_image(path, (ramp % 255).astype(np.uint8)))
    assert "254 in all" in refused(tmp_path) or "255 in all" in refused(tmp_path)


@pytest.mark.parametrize("value", [0, 255])
def test_masks_without_labels(tmp_path: Path, value: int) -> None:
    write_pairs(tmp_path, lambda path, mask: write_image(path, np.full_like(mask, value)))
    text = refused(tmp_path, MaskOptions(kind="index"))
    assert text.startswith("The masks in masks only have the value 0" if value == 0 else "The masks in masks")


def test_classes_that_a_checkpoint_lacks(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    write_classes(tmp_path / "classes.csv")
    assert refused(tmp_path, classes=["cat", "bird", "fish"]) == (
        "The masks have classes that the checkpoint (or the given list of class names) does not have: background, dog. "
        "Known are cat, bird, fish."
    )
    (tmp_path / "classes.csv").unlink()
    assert "has the value 2 (" in refused(tmp_path, classes=["cat", "bird"])


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing").startswith(f"The data folder {tmp_path}/missing does not exist. Arrange the")
    assert refused(tmp_path).startswith(f"{tmp_path} is not a folder of images with masks. Arrange the files as ROOT/")
    write_pairs(tmp_path, counts={"val": 2})
    assert refused(tmp_path).startswith(f"{tmp_path} has no training images with masks. Arrange")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name,r,g,b\nx,0,0,0\nx,1,1,1\n", "has the name x twice"),
        ("name,r,g,b\nx,0,0,0\ny,0,0,0\n", r"has the color \(0, 0, 0\) twice"),
        ("name,r,g,b\nx,0,0,0\ny,0,0,256\n", "Row 3 of .* has '256', which is not a whole number from 0 to 255"),
        ("name,r,g\nx,0,0\n", "has only some of the columns r, g and b"),
        ("x,0,0,0\ny,1,1,1\n", "has no column name"),
        ("name\nx\n", "must name two classes or more"),
    ],
)
def test_tables_that_are_invalid(tmp_path: Path, content: str, expected: str) -> None:
    write_pairs(tmp_path)
    (tmp_path / "classes.csv").write_text(content)
    assert re.search(expected, refused(tmp_path))


def test_a_slow_survey_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path, write_palette)
    paths = [str(path) for path in sorted((tmp_path / "masks").iterdir())]
    monkeypatch.setattr("inceptionnext_lit.data.masks.surveying._SLOW_S", 0.0)
    found = look_at_masks(paths)
    monkeypatch.setattr("inceptionnext_lit.data.masks.surveying.each", lambda *_: pytest.fail("looked again"))
    assert look_at_masks(paths) == found
    monkeypatch.undo()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    write_image(Path(paths[0]), np.ones((3, 4), dtype=np.uint8))
    assert look_at_masks(paths)[0].values == {1: 12}
