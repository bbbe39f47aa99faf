"""Data sets of Hugging Face, in folders as their package writes them."""

from pathlib import Path
from typing import Any

import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.prepare import Choices, prepare_dataset
from tests.prepare.builders import picture
from tests.prepare.test_public_sets import read_back

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
NAME = "hf:owner/name"


def images(folder: Path, count: int, suffix: str = ".jpg") -> list[str]:
    for number in range(count):
        picture(folder / f"{number}{suffix}", number)
    return [str(folder / f"{number}{suffix}") for number in range(count)]


def parquet(folder: Path, parts: dict[str, dict[str, Any]], **types: Any) -> None:
    """Write a data set as the Hub has it: the images' bytes in Parquet."""
    (folder / "data").mkdir(parents=True)
    for split, columns in parts.items():
        features = datasets.Features({"image": datasets.Image(), **types})
        stored = [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in columns["image"]]
        data = datasets.Dataset.from_dict({**columns, "image": stored}, features=features)
        data.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))


def test_stored_files_are_written_as_they_are(tmp_path: Path) -> None:
    paths = [*images(tmp_path / "jpg", 4), *images(tmp_path / "png", 2, ".png")]
    label = datasets.ClassLabel(names=["cat/dog", "NA"])
    parts = {
        "train": {"image": paths[:4], "label": [0, 1, 0, 1]},
        "validation": {"image": paths[4:], "label": [0, 1]},
        "test": {"image": paths[:1], "label": [-1]},
    }
    parquet(tmp_path / "in", parts, label=label)
    record = prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "in"))
    assert record.splits == {"train": 4, "val": 2}
    assert record.notes == ["The split test has no labels and is left out."]
    assert read_back(tmp_path / "out", record) == {
        "train": {"NA": 2, "cat-dog": 2},
        "val": {"NA": 1, "cat-dog": 1},
    }
    written = (tmp_path / "out/train/NA/0000001.jpg").read_bytes()
    assert written == Path(paths[1]).read_bytes()
    assert (tmp_path / "out/val/cat-dog/0000000.png").read_bytes() == Path(paths[4]).read_bytes()


def test_files_in_folders_stay_there(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            images(tmp_path / "in" / split / name, 2)
    record = prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "in"))
    assert record.root == "manifest.csv"
    assert read_back(tmp_path / "out", record) == {split: {"cat": 2, "dog": 2} for split in ("train", "test")}
    assert not list((tmp_path / "out").glob("*/*/*.jpg"))


def test_several_labels(tmp_path: Path) -> None:
    kind = datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))
    parts = {"train": {"image": images(tmp_path / "jpg", 3), "labels": [[0, 1], [2], [1]]}}
    parquet(tmp_path / "in", parts, labels=kind)
    record = prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "in"))
    assert (record.metric, record.multi_label, record.num_classes) == ("mAP", True, 3)
    assert ",a|b,train\n" in (tmp_path / "out/manifest.csv").read_text()


def test_the_column_of_labels(tmp_path: Path) -> None:
    types = {name: datasets.ClassLabel(names=["x", "y"]) for name in ("fine_label", "coarse_label")}
    columns = {"image": images(tmp_path / "jpg", 2), "fine_label": [0, 1], "coarse_label": [0, 0]}
    parquet(tmp_path / "in", {"train": columns}, **types)
    with pytest.raises(UserError, match=r"Name the column of labels .* --label_column; it has fine_label"):
        prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "in"))
    with pytest.raises(UserError, match="did you mean fine_label"):
        prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "in", label_column="fine_lable"))
    record = prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "in", label_column="fine_label"))
    assert record.num_classes == 2


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hf:cifar10 is not hf:OWNER/NAME"):
        prepare_dataset("hf:cifar10", tmp_path / "out", Choices())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"the folder .*empty cannot be read: "):
        prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "empty"))
    parts = {"train": {"image": images(tmp_path / "jpg", 2), "label": [0, -1]}}
    parquet(tmp_path / "in", parts, label=datasets.ClassLabel(names=["x", "y"]))
    with pytest.raises(UserError, match="Some images have no label in the column label"):
        prepare_dataset(NAME, tmp_path / "out", Choices(tmp_path / "in"))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.prepare.huggingface.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"the package datasets; install it with pip install 'inceptionnext-lit\[prepare"
    ):
        prepare_dataset(NAME, tmp_path / "out", Choices())
