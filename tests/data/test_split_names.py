"""The names of splits, and names that only look like them."""

import pytest

from inceptionnext_lit.data.sources.split_names import split_named


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train Train TRAIN training Training trainset train_images seg_train training_set images-train"),
        ("val", "val Val valid VALID validation dev eval evaluation val_data valset validation-set"),
        ("test", "test TEST testing Testing seg_test test_set testset Test-Images"),
    ],
)
def test_synonyms(split: str, names: str) -> None:
    assert {name: split_named(name) for name in names.split()} == dict.fromkeys(names.split(), split)
    assert split_named(f" {names.split()[0]} ") == split


@pytest.mark.parametrize(
    "name",
    ["trainer", "train station", "freight-train", "testudo", "protest", "value", "device", "evaluate_me", "", "set"],
)
def test_names_of_classes(name: str) -> None:
    assert split_named(name) is None
