from collections.abc import Callable
from pathlib import Path

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.sources.fingerprint import fingerprint
from inceptionnext_lit.data.sources.sample_table import Sample


def test_paths_sizes_and_labels_count_but_not_their_order_or_place(tmp_path: Path) -> None:
    def make(folder: str, second: bytes = b"12") -> list[Sample]:
        (tmp_path / folder).mkdir()
        for name, content in {"a": b"1", "b": second, "c": b""}.items():
            (tmp_path / folder / name).write_bytes(content)
        return [Sample(str(tmp_path / folder / name), label) for name, label in {"a": 0, "b": 0, "c": 1}.items()]

    def of(samples: list[Sample], folder: str) -> dict[str, tuple[int, int]]:
        return fingerprint(samples, str(tmp_path / folder), ["bag", "coat", "shirt"])

    one = make("one")
    expected = of(one, "one")
    assert {name: count for name, (count, _) in expected.items()} == {"bag": 2, "coat": 1}
    assert of(make("two")[::-1], "two") == expected
    larger = of(make("three", second=b"123"), "three")
    assert larger["bag"] != expected["bag"]
    assert larger["coat"] == expected["coat"]
    relabeled = of([*one[:2], Sample(one[2].path, 2)], "one")
    assert relabeled == {"bag": expected["bag"], "shirt": expected["coat"]}


def test_several_labels_and_none(tmp_path: Path) -> None:
    samples = [Sample(str(tmp_path / "a"), (0, 1)), Sample(str(tmp_path / "b"), ())]  # files that are gone count too
    found = fingerprint(samples, str(tmp_path), ["bag", "coat"])
    assert {name: count for name, (count, _) in found.items()} == {"bag": 1, "coat": 1, "": 1}


def test_of_a_data_module(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = [
        ImageFolderDataModule(str(make_folder(tmp_path / name, {"train": 3, "val": 2})), image_size=28, batch_size=2)
        for name in ("one", "two")
    ]
    for module in data:
        module.setup("fit")
    counts = {split: {name: count for name, (count, _) in of.items()} for split, of in data[0].fingerprint().items()}
    assert counts == {
        "train": dict.fromkeys(("bag", "coat", "sandal"), 3),
        "val": dict.fromkeys(("bag", "coat", "sandal"), 2),
    }
    assert data[0].fingerprint() == data[1].fingerprint()
