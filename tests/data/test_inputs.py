import os
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.files import list_images, natural_key
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.errors import UserError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photos/{1,2,10}.png, photos/deep/{a,b}.jpg and files that are not images."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/1.png", "photos/10.png", "photos/2.png", "photos/deep/b.jpg", "photos/deep/a.jpg", "one.bmp"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    Path("photos/notes.txt").touch()
    Path("photos/.hidden.png").touch()
    return tmp_path


PHOTOS = ["photos/1.png", "photos/2.png", "photos/10.png"]
DEEP = ["photos/deep/a.jpg", "photos/deep/b.jpg"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["one.bmp"], ["one.bmp"]),
        (["photos/notes.txt"], ["photos/notes.txt"]),  # named explicitly: it is listed as unreadable
        (["photos"], [*PHOTOS, *DEEP]),
        (["photos/"], [*PHOTOS, *DEEP]),
        (["photos/*"], PHOTOS),
        (["photos/*.png", "one.bmp"], [*PHOTOS, "one.bmp"]),
        (["**/*.jpg"], DEEP),
        (["photos/**"], [*PHOTOS, *DEEP]),
        (["photos/[12].png"], PHOTOS[:2]),
        (["photos/2.png", "photos", "./photos/deep/../10.png"], ["photos/2.png", PHOTOS[0], PHOTOS[2], *DEEP]),
    ],
)
def test_inputs(place: Path, inputs: list[str], expected: list[str]) -> None:
    assert resolve_inputs(inputs) == expected


def test_a_file_whose_name_looks_like_a_pattern(place: Path) -> None:
    Path("one.bmp").rename("a[1]*.bmp")
    assert resolve_inputs(["a[1]*.bmp"]) == ["a[1]*.bmp"]


def test_junk_is_ignored_and_counted(place: Path) -> None:
    Path("photos/@eaDir/1.png").mkdir(parents=True)
    thumbnail = "photos/@eaDir/1.png/SYNOPHOTO_M.jpg"
    Image.new("L", (4, 4)).save(thumbnail)
    for pattern in ("photos", "**/*.*", "photos/**"):
        ignored: Counter[str] = Counter()
        assert resolve_inputs([pattern, "one.bmp"], ignored=ignored)[:2] != []
        assert thumbnail not in resolve_inputs([pattern], ignored=ignored)
        assert ignored["@eaDir"] == 2
    assert resolve_inputs(["photos/@eaDir/**/*.jpg"]) == [thumbnail]


def test_the_home_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    assert resolve_inputs(["~/one.bmp", "~/photos/*.png"]) == [str(place / name) for name in ("one.bmp", *PHOTOS)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_manifest(place: Path, suffix: str) -> None:
    rows = [("label", "path"), ("x", "2.png"), ("y", "deep/a.jpg"), ("x", str(place / "one.bmp")), ("x", "gone.png")]
    path = Path("photos/list").with_suffix(suffix)
    if suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        labels, paths = zip(*rows[1:], strict=True)
        parquet.write_table(pyarrow.table({"label": labels, "path": paths}), path)
    else:
        path.write_text("".join(f"{a}{',' if suffix == '.csv' else chr(9)}{b}\n" for a, b in rows))
    expected = ["photos/2.png", "photos/deep/a.jpg", str(place / "one.bmp"), "photos/gone.png"]
    assert resolve_inputs([str(path)]) == expected
    assert resolve_inputs(["one.bmp", str(path)]) == ["one.bmp", *expected[:2], expected[3]]


def test_inputs_without_images_are_refused(place: Path) -> None:
    Path("empty").mkdir()
    Path("empty/list.csv").write_text("path\n")
    for name, message in [
        ("photos/*.gif", r"^No images that match photos/\*\.gif\. Check the pattern\.$"),
        ("empty", r"^No images below empty\. Name another folder"),
        ("empty/list.csv", r"^No images in the manifest empty/list\.csv\. Fill in its column of paths\.$"),
        (
            "fotos",
            r"^fotos does not exist\. Name a folder of images, an image file, a pattern or a manifest\.$",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            resolve_inputs(["one.bmp", name])


def test_natural_order() -> None:
    names = ["a/b", "a/B2", "a/b10", "a/b02x", "a.b/1", "a1/0", "a", "a/0", "a/00", "a/100000000000000000000", "a/é"]
    parts = [name.split(os.sep) for name in sorted(names, key=natural_key)]
    assert ["/".join(part) for part in parts] == [
        "a", "a/0", "a/00", "a/100000000000000000000", "a/b", "a/B2", "a/b02x", "a/b10", "a/é", "a1/0", "a.b/1",
    ]  # fmt: skip


def test_a_loop_of_links(place: Path) -> None:
    Path("photos/deep/back").symlink_to(place / "photos")
    assert resolve_inputs(["photos"]) == [*PHOTOS, *DEEP]
    assert len(list_images(place)) == 6


def test_remarks_on_a_manifest(place: Path) -> None:
    Path("photos/notes.txt").write_bytes("Frame\tnote\n1\tx\n10\tÄ\n".encode("cp1252"))
    said: list[str] = []
    columns = ColumnNames(path_column="frame")
    assert resolve_inputs(["photos/notes.txt"], columns=columns, note=said.append) == ["photos/1.png", "photos/10.png"]
    assert [re.split("[;:]", note)[0] for note in said] == [
        "photos/notes.txt is not in UTF-8",
        "2 of 2 images were found elsewhere",
    ]
    assert resolve_inputs(["photos/notes.txt"]) == ["photos/notes.txt"]  # not a manifest without images
