"""Notes on single images that can be read, but perhaps not as intended."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from inceptionnext_lit.data.decode.arrays import GDAL_NODATA
from inceptionnext_lit.doctor.diagnosis import diagnose
from inceptionnext_lit.doctor.examine import Examination, Look, examine
from inceptionnext_lit.doctor.listing import Item, Listing, list_folder
from tests.doctor.folders import picture, save


def notes(examinations: list[Examination], root: Path = Path()) -> dict[str, list[str]]:
    listing = Listing(root, [Item(seen.path, "all", "a") for seen in examinations], {"all": ["a"]})
    found = diagnose(listing, examinations)
    return {
        f.kind: [f.message, *f.paths]
        for f in found
        if f.kind not in ("one_class", "few_images", "near_duplicate", "one_colour")
    }


def of_size(name: str, width: int, height: int) -> Examination:
    return Examination(name, name.encode().ljust(16), (width, height), "RGB", "PNG", look=Look(is_plain=True))


def test_animations_and_transparency(tmp_path: Path) -> None:
    one, two = picture(0), picture(1)
    save(tmp_path / "moves.gif", one, save_all=True, append_images=[two])
    save(tmp_path / "moves.webp", one, save_all=True, append_images=[two])
    save(tmp_path / "moves.png", one, save_all=True, append_images=[two])
    save(tmp_path / "pages.tif", one, save_all=True, append_images=[two])
    save(tmp_path / "still.gif", one)
    save(tmp_path / "phone.jpg", one, format="MPO", save_all=True, append_images=[two])  # a preview is not an animation
    clear = one.convert("RGBA")
    save(tmp_path / "opaque.png", clear)
    clear.putpixel((3, 3), (0, 0, 0, 254))
    save(tmp_path / "clear.png", clear)
    save(tmp_path / "palette.gif", one.quantize(8), transparency=1)
    deep = np.full((8, 8), 500, np.uint16)
    save(tmp_path / "deep.png", Image.fromarray(deep), transparency=500)
    seen = {path.name: examine(str(path)) for path in tmp_path.iterdir()}
    assert not [examination.error for examination in seen.values() if examination.error]
    assert {name for name, it in seen.items() if it.is_animated} == {
        "moves.gif",
        "moves.webp",
        "moves.png",
        "pages.tif",
    }
    assert {name for name, it in seen.items() if it.is_transparent} == {"clear.png", "palette.gif", "deep.png"}
    found = notes([seen["moves.gif"], seen["clear.png"]], tmp_path)
    assert found["animated"] == ["1 image with several frames or pages each: moves.gif.", "moves.gif"]
    assert found["transparent"] == ["1 image with transparent pixels: clear.png.", "clear.png"]


def test_an_animation_with_a_damaged_end(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", picture(0), save_all=True, append_images=[picture(1)])
    path.write_bytes(path.read_bytes()[:-900])
    assert examine(str(path)).error == ""


def test_sizes_and_shapes() -> None:
    ordinary = [of_size(f"{n}.png", 500, 400) for n in range(5)]
    assert notes(ordinary) == {}
    assert notes([of_size("stamp.png", 28, 28)]) == {}
    found = notes([*ordinary, of_size("dot.png", 1, 1), of_size("thumb.png", 39, 60), of_size("small.png", 41, 60)])
    assert found == {"tiny": ["2 images with very few pixels: dot.png, thumb.png.", "dot.png", "thumb.png"]}
    found = notes([*ordinary, of_size("a.png", 2500, 500), of_size("b.png", 500, 2499), of_size("c.png", 300, 2000)])
    assert found["extreme_shape"][1:] == ["a.png", "c.png"]
    found = notes([*ordinary, of_size("huge.png", 10_000, 5001), of_size("large.png", 10_000, 5000)])
    assert found["huge"] == ["1 image with more than 50,000,000 pixels: huge.png.", "huge.png"]


def test_arrays_are_read_and_reported(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", draw.integers(0, 256, (40, 50, 5), np.uint8))
    np.save(tmp_path / "b.npy", draw.random((5, 40, 50), np.float32) * 300 - 20)
    values = draw.integers(0, 10_000, (40, 50, 5), np.uint16)
    values[:20] = 0
    tag = [(GDAL_NODATA, "s", 0, "0", True)]
    tifffile.imwrite(tmp_path / "c.tif", values, photometric="minisblack", planarconfig="contig", extratags=tag)
    tifffile.imwrite(tmp_path / "d.tif", draw.random((40, 50), np.float32))
    np.save(tmp_path / "e.npy", np.array([[np.nan, 0.5]]))
    np.save(tmp_path / "f.npy", draw.integers(0, 9, (40, 50), np.int16))
    tifffile.imwrite(
        tmp_path / "g.tif", np.zeros((90, 90, 6), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    seen = [examine(str(path), 8000) for path in sorted(tmp_path.iterdir())]
    assert [(it.mode, it.format, it.size, it.array and it.array.channels) for it in seen[:4]] == [
        ("5 × uint8", "NPY", (50, 40), 5), ("5 × float32", "NPY", (50, 40), 5),
        ("5 × uint16", "TIFF", (50, 40), 5), ("1 × float32", "TIFF", (50, 40), 1),
    ]  # fmt: skip
    assert [it.error for it in seen] == [
        "", "", "", "", "some of its values of type float64 are not finite floats (see data.input.nodata)",
        "its values of type int16 are neither unsigned integers nor floats",
        "it has 90×90 pixels, more than data.bad_images.max_pixels allows (8,000)",
    ]  # fmt: skip
    assert not any(it.look.is_plain for it in seen)
    listing = Listing(tmp_path, [Item(it.path, "all", "a") for it in seen], {"all": ["a"]})
    found = [(f.kind, f.message) for f in diagnose(listing, seen) if f.kind in ("array", "value_range", "nodata")]
    low, high = seen[1].array.extremes
    assert found == [
        ("array", "1 file of 5 channels of uint8: a.npy."),
        ("array", "1 file of 5 channels of float32: b.npy."),
        ("array", "1 file of 5 channels of uint16: c.tif."),
        ("array", "1 file of 1 channel of float32: d.tif."),
        ("value_range", f"1 file of floats from {low:g} to {high:g}: b.npy."),
        ("nodata", "1 image with pixels without data: c.tif."),
    ]
    assert low < 0 < 1 < high
    assert [item.path for item in list_folder(tmp_path).items] == [it.path for it in seen]
