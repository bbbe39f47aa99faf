"""Splits of class folders and manifests, as the data module makes them."""

import csv
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.checks import twins
from inceptionnext_lit.data.decode.bad_images import BadImageOptions
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.sample_table import labels_of
from inceptionnext_lit.data.sources.splits import open_source
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.errors import UserError
from tests.batches import finished

pytestmark = [
    pytest.mark.filterwarnings("ignore:All images of the class"),  # the files are copies of one or two images
    pytest.mark.filterwarnings("ignore:Too many groups share copies"),
]


def manifest(root: Path, columns: str, *rows: tuple[Any, ...], name: str = "list.csv") -> Path:
    """Write a manifest of uniform images; ``cat`` is dark, everything else bright."""
    names = columns.split()
    for row in rows:
        path = root / str(row[names.index("path")])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10, 10, 10) if row[names.index("label")] == "cat" else (200, 200, 200)).save(path)
    with (root / name).open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return root / name


def build(root: Path, **options: Any) -> ImageFolderDataModule:
    settings: dict[str, Any] = {"image_size": 8, "batch_size": 2, "num_workers": 0, "augmentation": "none"}
    return ImageFolderDataModule(str(root), **(settings | options))


def names(samples: Any) -> list[str]:
    return [Path(sample.path).name for sample in samples]


def test_a_manifest_with_splits_and_weights(tmp_path: Path) -> None:
    path = manifest(
        tmp_path, "path label split weight",
        ("a/1.png", "dog", "train", 3), ("a/2.png", "cat", "train", 1), ("3.png", "cat", "val", 5),
        ("4.png", "dog", "test", 1), ("a/5.png", "dog", "train", 2), ("a/6.png", "cat", "train", 2),
    )  # fmt: skip
    data = build(path, input=InputOptions(mean=[0.0] * 3, std=[1.0] * 3))
    assert data.classes == ["cat", "dog"]
    data.setup("fit")
    seen = finished(data, data.train_dataloader())
    images, labels, weights = (torch.cat(parts) for parts in zip(*seen, strict=True))
    torch.testing.assert_close(images[:, 0, 0, 0] * 255, torch.tensor([10.0, 200.0])[labels])
    assert Counter(zip(labels.tolist(), weights.tolist(), strict=True)) == {
        (1, 1.5): 1, (0, 0.5): 1, (1, 1.0): 1, (0, 1.0): 1,
    }  # fmt: skip
    [(_, held)] = data.val_dataloader()  # unweighted
    assert held.tolist() == [0]
    data.setup("test")
    assert names(data.test_set.samples) == ["4.png"]


def test_a_manifest_without_splits_is_split_without_dividing_groups(tmp_path: Path) -> None:
    rows = [(f"{n}.png", "cat" if n % 2 else "dog", f"person {n // 4}") for n in range(40)]
    path = manifest(tmp_path, "path label group", *rows)
    data = build(path)
    data.setup("fit")
    assert len(data.val_set) == 8
    assert not {s.group for s in data.train_set.samples} & {s.group for s in data.val_set.samples}
    with pytest.raises(UserError, match=r"No test split: the split test in .*list\.csv was not found"):
        data.setup("test")


def test_folds_and_few_images(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path label", *[(f"{n}.png", "cat" if n % 3 else "dog") for n in range(30)])
    held = []
    for fold in range(3):
        data = build(path, split=SplitRules(num_folds=3, fold=fold, per_class=4))
        data.setup("fit")
        assert Counter(s.label for s in data.train_set.samples) == {0: 4, 1: 4}
        assert len(data.val_set) == 10
        held += names(data.val_set.samples)
        alone = build(path, split=SplitRules(num_folds=3, fold=fold))
        alone.setup("validate")
        assert alone.val_set.samples == data.val_set.samples
    assert sorted(held) == sorted(f"{n}.png" for n in range(30))


def test_folds_with_a_validation_split(tmp_path: Path) -> None:
    rows = [(f"{n}.png", "cat" if n % 2 else "dog", "val" if n > 7 else "train") for n in range(10)]
    with pytest.raises(
        UserError, match=r"data\.split\.num_folds divides the training split, but there is a validation"
    ):
        build(manifest(tmp_path, "path label split", *rows), split=SplitRules(num_folds=2)).setup("fit")


@pytest.mark.parametrize(
    ("of", "options", "message"),
    [
        (
            SplitRules,
            {"val_fraction": 1.0},
            r"data\.split\.val_fraction is 1\.0, but must be between 0 and 1, both excl",
        ),
        (SplitRules, {"fold": 1}, r"data\.split\.fold is 1, but must be 0, or set data\.split\.num_folds"),
        (SplitRules, {"num_folds": 5, "fold": 5}, r"data\.split\.fold is 5, but must be 0 to 4"),
        (SplitRules, {"num_folds": 1}, r"data\.split\.num_folds is 1, but must be 2 or more"),
        (SplitRules, {"per_class": 0}, r"data\.split\.per_class is 0, but must be 1 image or more"),
        (BadImageOptions, {"max_skipped": -1}, r"data\.bad_images\.max_skipped is -1, but must be 0 or more"),
        (ImageFolderDataModule, {"in_chans": 0}, r"data\.in_chans is 0"),
    ],
)
def test_ranges(of: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(**options)


def test_a_fraction_with_folds() -> None:
    message = (
        r"^data\.split\.val_fraction 0\.1 has no effect with data\.split\.num_folds 5: each fold holds back 1/5 of "
        r"the images\. Leave one of them out\.$"
    )
    with pytest.warns(UserWarning, match=message):
        ImageFolderDataModule(split=SplitRules(val_fraction=0.1, num_folds=5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageFolderDataModule(split=SplitRules(num_folds=5))
        ImageFolderDataModule(split=SplitRules(val_fraction=0.1))


def test_labels_that_are_not_among_the_given_classes(tmp_path: Path) -> None:
    rows = [(f"{n}.png", "cat" if n % 2 else "dog") for n in range(10)]
    path = manifest(tmp_path, "path label", *rows)
    with pytest.raises(UserError, match=r"labels that the checkpoint .* does not have: cat\. Known are cow, dog\."):
        build(path, class_names=["cow", "dog"]).setup("fit")
    with pytest.raises(UserError, match=r"No training image of .*list\.csv has the label cow; add images with it"):
        build(path, class_names=["cat", "cow", "dog"]).setup("fit")
    one = manifest(tmp_path, "path label", ("a.png", "cat"), ("b.png", "cat"), name="one.csv")
    with pytest.raises(UserError, match=r"one\.csv has only the label cat, and a classifier needs at least two"):
        assert build(one).classes


def test_class_names_that_look_alike(tmp_path: Path) -> None:
    rows = [(f"{n}.png", ("Cat", "cat ", "dog", "golden_retriever", "golden retriever")[n % 5]) for n in range(20)]
    data = build(manifest(tmp_path, "path label", *rows))
    with pytest.warns(UserWarning, match=r"one class each: 'Cat' and 'cat'; 'golden retriever' and 'golden_"):
        data.setup("fit")
    assert twins(data.classes) == [["Cat", "cat"], ["golden retriever", "golden_retriever"]]
    assert twins(["dog", "dogs", "Dogma"]) == []


@pytest.mark.slow
def test_the_batch_size_follows_from_the_number_of_images(tmp_path: Path) -> None:
    sizes = {}
    for count in (6, 300, 1000, 3000):
        rows = [("one.png" if n == 0 else f"{n}.png", "cat" if n % 2 else "dog") for n in range(count)]
        (tmp_path / str(count)).mkdir()
        data = build(manifest(tmp_path / str(count), "path label", *rows), batch_size="auto")
        assert data.batch_size == 64
        data.setup("fit")
        sizes[len(data.train_set)] = data.batch_size
    assert sizes == {4: 4, 240: 8, 800: 16, 2400: 32}


def test_a_manifest_with_its_own_names_of_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"{n}.png", "cat" if n % 2 else "dog") for n in range(8)]
    path = manifest(tmp_path, "path label", *rows)
    path.write_text("Photo;Kind;size\n" + "".join(f"{name};{label};8\n" for name, label in rows))
    data = build(
        path, manifest=ColumnNames(path_column="Photo", label_column="Kind"), split=SplitRules(val_fraction=0.25)
    )
    with caplog.at_level("INFO"):
        data.setup("fit")
    assert data.classes == ["cat", "dog"]
    assert (len(data.train_set), len(data.val_set)) == (6, 2)
    assert caplog.messages == [f"Columns of {path}: path from 'Photo'; label from 'Kind'; not used: size."]
    assert data.settings["manifest"] == {"path_column": "Photo", "label_column": "Kind"}
    other = build(path, manifest=ColumnNames(path_column="Photo", label_column="Kind"), class_names=["cat", "dog"])
    other.setup("predict")
    assert other.predict_set.paths == [f"{tmp_path}/{name}" for name, _ in rows]


def test_images_of_known_classes_may_have_one_label_each(tmp_path: Path) -> None:
    """A few images for a checkpoint that gives several labels."""
    (tmp_path / "list.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    (tmp_path / "both.csv").write_text('path,label\na.png,"cat,dog"\nb.png,\n')
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    source = open_source(tmp_path / "list.csv", multi_label=True, classes=["bird", "cat", "dog"])
    found = source.everything(["bird", "cat", "dog"])
    assert [labels_of(sample) for sample in found] == [(1,), (2,)]
    both = open_source(tmp_path / "both.csv", multi_label=True, classes=["bird", "cat", "dog"])
    assert [labels_of(sample) for sample in both.everything(["bird", "cat", "dog"])] == [(1, 2), ()]
    with pytest.raises(UserError, match=r"no image of .* has more than one label"):
        open_source(tmp_path / "list.csv", multi_label=True)
