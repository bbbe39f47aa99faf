"""Masks as various tools write them are read as the same class indices."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.data.masks.class_table import colormap, read_table, write_table
from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.scenes import (
    COLORS,
    NAMES,
    Index,
    colored,
    scene,
    write_classes,
    write_coco,
    write_image,
    write_labelme,
    write_pairs,
    write_palette,
    write_yolo,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def read_all(source: MaskSource, split: str = "train") -> dict[str, Index]:
    samples = source.samples(split)  # type: ignore[arg-type]
    assert samples is not None
    masks = source.masks(samples.paths)
    return {Path(image).stem: source.scheme.read(mask) for image, mask in zip(samples.paths, masks, strict=True)}


def check(root: Path, expected: dict[str, Index], options: MaskOptions | None = None) -> MaskSource:
    source = MaskSource(root, options or MaskOptions())
    found = read_all(source)
    assert found.keys() == expected.keys()
    for stem, mask in expected.items():
        assert np.array_equal(found[stem], mask), stem
    return source


def save_color(path: Path, mask: Index) -> None:
    write_image(path, colored(mask))


def save_gray_rgb(path: Path, mask: Index) -> None:
    write_image(path, np.repeat(mask[..., None], 3, axis=2))


def save_black_and_white(path: Path, mask: Index) -> None:
    write_image(path, np.where(mask > 0, 255, 0).astype(np.uint8))


def save_one_bit(path: Path, mask: Index) -> None:
    Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).convert("1").save(path)


def test_index(tmp_path: Path) -> None:
    source = check(tmp_path, write_pairs(tmp_path, ignored=True))
    assert source.scheme.kind == "index"
    assert source.classes() == ["0", "1", "2"]
    assert source.scheme.palette == colormap(3) == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert source.notes == ["Masks by value, with 3 classes.", "Pixels of the value 255 are ignored: 8.3%."]


def test_a_palette_is_never_converted_to_colors(tmp_path: Path) -> None:
    source = check(tmp_path, write_pairs(tmp_path, write_palette, ignored=True))
    assert source.scheme.kind == "palette"
    assert source.notes[0] == "Masks with a palette, whose values are the classes, with 3 classes."
    other = tmp_path / "other"
    source = check(other, write_pairs(other, lambda path, mask: write_palette(path, mask, COLORS)))
    assert source.scheme.palette == [list(color) for color in COLORS]


@pytest.mark.parametrize("save", [save_black_and_white, save_one_bit])
def test_black_and_white(tmp_path: Path, save: Callable[[Path, Index], None]) -> None:
    written = write_pairs(tmp_path, save)
    source = check(tmp_path, {stem: (mask > 0).astype(np.uint8) for stem, mask in written.items()})
    assert (source.scheme.kind, source.classes()) == ("binary", ["background", "foreground"])
    assert source.notes == ["Masks of 0 and 255 (background and foreground), with 2 classes."]


def test_one_bit_files_among_gray_ones_are_black_and_white(tmp_path: Path) -> None:
    """ImageMagick writes masks of 0 and 255 with one bit where it can, whose values Pillow has as 0 and 1."""
    savers = [save_one_bit, save_black_and_white]
    written = write_pairs(tmp_path, lambda path, mask: savers[int(path.stem[-1]) % 2](path, mask))
    check(tmp_path, {stem: (mask > 0).astype(np.uint8) for stem, mask in written.items()})


def test_0_1_and_255_is_index_with_ignored_pixels_and_that_is_said(tmp_path: Path) -> None:
    source = check(tmp_path, write_pairs(tmp_path, classes=2, ignored=True))
    assert source.scheme.kind == "index"
    assert source.notes[-1] == "Pixels of the value 255 are ignored: 8.3%."


def test_gray_saved_as_rgb_has_values(tmp_path: Path) -> None:
    assert check(tmp_path, write_pairs(tmp_path, save_gray_rgb)).scheme.kind == "index"


def test_colors_with_a_table(tmp_path: Path) -> None:
    written = write_pairs(tmp_path, save_color)
    write_classes(tmp_path / "classes.csv")
    source = check(tmp_path, written)
    assert (source.scheme.kind, source.classes()) == ("color", NAMES)
    assert source.scheme.palette == [list(color) for color in COLORS]
    order = [2, 0, 1]  # of the rows
    write_classes(tmp_path / "other.csv", [NAMES[i] for i in order], [COLORS[i] for i in order])
    renumbered = np.argsort(order).astype(np.uint8)
    options = MaskOptions(classes=str(tmp_path / "other.csv"))
    assert check(tmp_path, {s: renumbered[m] for s, m in written.items()}, options).classes() == ["dog", *NAMES[:2]]


def test_ignored_colors(tmp_path: Path) -> None:
    def save(path: Path, mask: Index) -> None:
        write_image(path, colored(np.where(mask == 255, 3, mask), [*COLORS, (9, 9, 9)]))

    written = write_pairs(tmp_path, save, ignored=True)
    write_classes(tmp_path / "classes.csv", [*NAMES, "ignore"], [*COLORS, (9, 9, 9)])
    assert check(tmp_path, written).classes() == NAMES


def test_palettes_in_another_order_than_the_table_are_read_by_color(tmp_path: Path) -> None:
    """ImageMagick and GIMP sort the palette of each file."""

    def save(path: Path, mask: Index) -> None:
        order = np.random.default_rng(int(path.stem[-1])).permutation(3)
        write_palette(path, np.argsort(order).astype(np.uint8)[mask], [COLORS[i] for i in order])

    written = write_pairs(tmp_path, save)
    write_classes(tmp_path / "classes.csv")
    source = check(tmp_path, written)
    assert source.notes[-1] == "The palettes' order is not the table's, so the masks are read by their colors."


def test_values_of_a_table(tmp_path: Path) -> None:
    values = np.array([7, 11, 24], dtype=np.uint8)
    written = write_pairs(tmp_path, lambda path, mask: write_image(path, values[mask]))
    (tmp_path / "classes.csv").write_text("Pixel Value, Class\n7, road\n11, house\n24, person\n255, void\n")
    assert check(tmp_path, written).classes() == ["road", "house", "person"]


def test_255_may_be_a_class_of_two(tmp_path: Path) -> None:
    written = write_pairs(tmp_path, save_black_and_white)
    (tmp_path / "classes.csv").write_text("name,value\nground,0\nhouse,255\n")
    binary = {stem: (mask > 0).astype(np.uint8) for stem, mask in written.items()}
    assert check(tmp_path, binary).classes() == ["ground", "house"]


def test_reduce_zero_label_wraps_neither_0_nor_255(tmp_path: Path) -> None:
    written = write_pairs(tmp_path, ignored=True)
    reduced = {stem: np.array([255, 0, 1], dtype=np.uint8)[mask % 255] for stem, mask in written.items()}
    for stem, mask in written.items():
        reduced[stem][mask == 255] = 255
    source = check(tmp_path, reduced, MaskOptions(reduce_zero_label=True))
    assert source.classes() == ["0", "1"]


def test_another_value_may_be_ignored(tmp_path: Path) -> None:
    written = write_pairs(tmp_path, lambda path, mask: write_image(path, np.where(mask == 255, 99, mask)), ignored=True)
    check(tmp_path, written, MaskOptions(ignore_index=99))


def test_coco(tmp_path: Path) -> None:
    source = check(tmp_path, write_coco(tmp_path))
    assert (source.scheme.kind, source.classes()) == ("coco", NAMES)
    assert source.notes[-1].startswith("Masks drawn from COCO's polygons, with 3 classes. A pixel belongs to an object")


def test_labelme(tmp_path: Path) -> None:
    source = check(tmp_path, write_labelme(tmp_path))
    assert (source.scheme.kind, source.classes()) == ("labelme", NAMES)


def test_supervisely_is_named(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    for path in tmp_path.glob("*.json"):
        path.write_text(json.dumps({"size": {"height": 24, "width": 32}, "objects": [{"classTitle": "cat"}]}))
    with pytest.raises(
        UserError, match=r"\.json has a list of objects, as in Supervisely's format, which is not read; "
    ):
        MaskSource(tmp_path).classes()


def test_yolo(tmp_path: Path) -> None:
    written = write_yolo(tmp_path)
    Image.new("RGB", (32, 24)).save(tmp_path / "images" / "empty.jpg")
    written["empty"] = np.zeros((24, 32), dtype=np.uint8)
    source = check(tmp_path, written)
    assert (source.scheme.kind, source.classes()) == ("yolo", NAMES)
    assert source.notes[0] == f"Background only, without a YOLO file: {tmp_path}/images/empty.jpg."


def test_classes_are_numbered_as_those_of_a_checkpoint(tmp_path: Path) -> None:
    written = write_pairs(tmp_path, save_color)
    write_classes(tmp_path / "classes.csv")
    source = MaskSource(tmp_path, classes=["dog", "bird", "background", "cat"])
    numbers = np.array([2, 3, 0], dtype=np.uint8)
    found = read_all(source)
    assert all(np.array_equal(found[stem], numbers[mask]) for stem, mask in written.items())
    assert source.scheme.palette[:3] == [list(COLORS[2]), [128, 0, 0], list(COLORS[0])]


def test_tables_are_read_as_they_are_written(tmp_path: Path) -> None:
    write_table(tmp_path / "classes.csv", NAMES, COLORS)
    table = read_table(tmp_path / "classes.csv")
    assert (table.names, table.colors, table.values) == (NAMES, COLORS, None)


def test_255_is_the_class_that_the_table_names(tmp_path: Path) -> None:
    """Masks of two objects are often saved with the gray levels 0, 127 (or 128) and 255."""
    values = np.array([0, 127, 255], dtype=np.uint8)
    written = write_pairs(tmp_path, lambda path, mask: write_image(path, values[mask]))
    (tmp_path / "classes.csv").write_text("name,value\nbackground,0\ndisc,127\ncup,255\n")
    source = check(tmp_path, written)
    assert source.classes() == ["background", "disc", "cup"]
    assert source.notes[-1] == "The value 255 is the class cup; if its pixels do not count, name the row ignore."


@pytest.mark.parametrize("name", ["ignore", "Void", "un-labeled", "don't care"])
def test_255_of_pixels_without_a_class(tmp_path: Path, name: str) -> None:
    write_pairs(tmp_path, ignored=True)
    (tmp_path / "classes.csv").write_text(f'name,value\na,0\nb,1\nc,2\n"{name}",255\n')
    source = MaskSource(tmp_path)
    assert source.classes() == ["a", "b", "c"]
    assert source.notes[-1] == "Pixels of the value 255 are ignored: 8.3%."


@pytest.mark.parametrize(("orientation", "side"), [(3, 32), (6, 24)])
def test_a_rotation_that_does_not_show_in_the_size_is_said(tmp_path: Path, orientation: int, side: int) -> None:
    write_pairs(tmp_path)
    picture = Image.fromarray(scene(3, 24, side)[0])
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "images" / "scene3.jpg", exif=exif)
    write_image(tmp_path / "masks" / "scene3.png", scene(3, 24, side)[1])
    source = MaskSource(tmp_path)
    assert source.samples("train") is not None
    assert source.notes[0] == (
        f"1 image has an EXIF rotation without another size: {tmp_path / 'images' / 'scene3.jpg'}. The masks are taken "
        "to be upright; --data.input.exif ignore is for masks of the images as they are stored."
    )
    stored = MaskSource(tmp_path, apply_exif=False)
    assert stored.samples("train") is not None
    assert stored.notes == source.notes[1:]
