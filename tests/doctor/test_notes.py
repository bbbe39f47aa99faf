"""What the doctor notes of single images that are read, but perhaps not as meant."""

from pathlib import Path

import numpy as np
from PIL import Image

from inceptionnext_lit.doctor.diagnosis import diagnose
from inceptionnext_lit.doctor.examine import Examination, examine
from inceptionnext_lit.doctor.listing import Item, Listing
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
    return Examination(name, name.encode().ljust(16), (width, height), "RGB", "PNG", is_plain=True)


def test_animations_and_transparency(tmp_path: Path) -> None:
    one, two = picture(0), picture(1)
    save(tmp_path / "moves.gif", one, save_all=True, append_images=[two])
    save(tmp_path / "moves.webp", one, save_all=True, append_images=[two])
    save(tmp_path / "moves.png", one, save_all=True, append_images=[two])
    save(tmp_path / "pages.tif", one, save_all=True, append_images=[two])
    save(tmp_path / "still.gif", one)
    save(tmp_path / "phone.jpg", one, format="MPO", save_all=True, append_images=[two])  # a preview is no animation
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
    assert found["animated"] == ["1 image of several pictures each: moves.gif.", "moves.gif"]
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
    assert found == {"tiny": ["2 images of very few pixels: dot.png, thumb.png.", "dot.png", "thumb.png"]}
    found = notes([*ordinary, of_size("a.png", 2500, 500), of_size("b.png", 500, 2499), of_size("c.png", 300, 2000)])
    assert found["extreme_shape"][1:] == ["a.png", "c.png"]
    found = notes([*ordinary, of_size("huge.png", 10_000, 5001), of_size("large.png", 10_000, 5000)])
    assert found["huge"] == ["1 image of more than 50,000,000 pixels: huge.png.", "huge.png"]
