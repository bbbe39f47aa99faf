"""A small copy of every data set of the table, in its official format, becomes what all commands read."""

from collections import Counter
from pathlib import Path

import pytest

from inceptionnext_lit.data.public import DATASETS
from inceptionnext_lit.data.sources.embedded import data_folder
from inceptionnext_lit.data.sources.splits import open_source
from inceptionnext_lit.prepare.prepare import Choices, prepare_dataset
from inceptionnext_lit.prepare.record import DatasetRecord, read_record
from tests.prepare.builders import SMALL, Counts
from tests.prepare.conftest import Build


def read_back(folder: Path, record: DatasetRecord) -> Counts:
    """Return the number of images by class in each split, as fit and evaluate read the folder."""
    source = open_source(data_folder(str(folder)), multi_label=record.multi_label)
    classes = source.classes()
    found: Counts = {}
    for split in ("train", "val", "test"):
        samples = source.samples(split, classes)
        if samples is not None:
            assert all(Path(sample.path).is_file() for sample in samples)
            found[split] = dict(sorted(Counter(classes[label] for label in samples.labels.tolist()).items()))
    return found


def test_every_row_has_a_small_copy() -> None:
    others = {row.name for row in DATASETS.values() if row.loader in ("imagenet", "digits")}
    assert SMALL.keys() == DATASETS.keys() - others


@pytest.mark.parametrize("name", SMALL)
def test_extracted_files(name: str, build: Build, tmp_path: Path) -> None:
    source = build(name, tmp_path / "downloaded")
    record = prepare_dataset(name, tmp_path / "out", Choices(source, 1))
    assert read_back(tmp_path / "out", record) == SMALL[name].counts
    assert record == read_record(tmp_path / "out")
    assert (record.splits, record.num_classes) == (DATASETS[name].splits, DATASETS[name].num_classes)
    assert record.metric == DATASETS[name].metric


@pytest.mark.parametrize("name", [name for name, small in SMALL.items() if small.pack is not None])
def test_official_archives(name: str, build: Build, tmp_path: Path) -> None:
    root = build(name, tmp_path / "extracted")
    pack = SMALL[name].pack
    assert pack is not None
    archives = tmp_path / "archives"
    archives.mkdir()
    pack(root, archives)
    before = sorted(path.name for path in archives.iterdir())
    record = prepare_dataset(name, tmp_path / "out", Choices(archives, 1))
    assert read_back(tmp_path / "out", record) == SMALL[name].counts
    assert sorted(path.name for path in archives.iterdir()) == before
