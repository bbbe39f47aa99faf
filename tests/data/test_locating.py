"""Images whose location or name differs from the manifest."""

import unicodedata
from pathlib import Path

import pytest

from inceptionnext_lit.data.sources.manifest import read_manifest, read_paths
from inceptionnext_lit.errors import UserError


def found(root: Path, files: list[str], named: list[str], name: str = "list.csv") -> list[str]:
    """Return the files found for a manifest's paths, relative to its folder."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / name).write_text("path,label\n" + "".join(f'"{path}",x\n' for path in named), encoding="utf-8")
    return [str(Path(path).relative_to(root)) for path in read_manifest(root / name).paths]


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("birds/a 1.jpg", r"birds\a 1.jpg"),
        ("birds/a.jpg", r".\birds\a.jpg"),
        (r"birds\a.jpg", r"birds\a.jpg"),  # such a name is allowed here
        ("birds/IMG_1.JPG", "birds/img_1.jpg"),
        (unicodedata.normalize("NFD", "Bär.jpg"), unicodedata.normalize("NFC", "Bär.jpg")),
        ("a.jpg", " a.jpg "),
        ("birds/a.jpeg", "birds/a"),
        ("0001.png", "0001"),
        ("ISIC_0.12.jpg", "ISIC_0.12"),
        ("images/a.jpg", "a.jpg"),
        ("list/a.jpg", "a"),
        ("list_images/list_images/a.png", "a"),
        ("images/birds/a.png", r"birds\a"),
    ],
)
def test_a_unique_match_is_found(tmp_path: Path, file: str, named: str) -> None:
    assert found(tmp_path, [file, "other.jpg", "notes/a.jpg"], [named, "other.jpg"]) == [str(Path(file)), "other.jpg"]


def test_kaggle(tmp_path: Path) -> None:
    files = [f"{split}_images/{name}.jpg" for split in ("train", "test") for name in ("10", "2")]
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "train.csv").write_text("image_id,label\n10,0\n2,1\n")
    manifest = read_manifest(tmp_path / "train.csv")
    assert manifest.paths == [f"{tmp_path}/train_images/{name}.jpg" for name in ("10", "2")]
    assert manifest.notes == (
        f"Columns of {tmp_path}/train.csv: path from 'image_id'.",
        f"2 of 2 images were found elsewhere: for example, '10' is {tmp_path}/train_images/10.jpg.",
    )
    (tmp_path / "test.csv").write_text("image_id\n10.0\n3\n")  # no label, and one that is not there
    assert read_paths(tmp_path / "test.csv")[0] == [f"{tmp_path}/test_images/10.jpg", f"{tmp_path}/3"]


@pytest.mark.parametrize(
    ("files", "named", "message"),
    [
        (["a.jpg", "a.png"], "a", r"^Row 2 of .*: 'a' could be .*a\.jpg or .*a\.png; write the exact path\.$"),
        (["img/a.jpg", "images/a.jpg"], "a.jpg", r"'a\.jpg' could be .*images/a\.jpg or .*img/a\.jpg"),
        (["A.jpg", "a.JPG"], "a.jpg", r"'a\.jpg' could be .*A\.jpg or .*a\.JPG"),
        (["images/b.jpg"], "a", r"^Files .* do not exist, 1 of 1 \(row 2: a\)\. Paths are relative to the manifest's "
         r"folder; searched in \S+, \S+/images, with any suffix of an image; correct them, or remove the rows\.$"),
        (["a.txt"], "a", r"do not exist"),
        (["a.jpg"], r"C:\Users\me\a.jpg", r"Paths of another computer's drives cannot be found; write them relative"),
        (["a.jpg"], r"\\nas\me\a.jpg", r"Paths of another computer's drives cannot be found"),
        (["images/a.jpg"], "/elsewhere/a.jpg", r"^Files that .* names do not exist, 1 of 1"),
    ],
)  # fmt: skip
def test_no_match_or_several_are_refused(tmp_path: Path, files: list[str], named: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(tmp_path, files, [named])


def test_a_link_to_a_folder_of_images_is_not_a_second_match(tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to("img", target_is_directory=True)
    assert found(tmp_path, ["img/a.jpg"], ["a"]) == ["images/a.jpg"]


def test_two_names_of_one_image_are_two_rows_of_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Rows 2 and 3 of .* both name .*a\.jpg"):
        found(tmp_path, ["a.jpg"], ["a", "a.jpg"])
