"""The commands and the table of the guide: commands run on small copies instead of what they would download."""

import shlex
from pathlib import Path

import pytest

from inceptionnext_lit.cli import main
from inceptionnext_lit.cli.commands import prepare as command
from inceptionnext_lit.data.public import DATASETS
from inceptionnext_lit.prepare.record import read_record
from tests.pages import DOCS, READ, commands
from tests.prepare.conftest import Build

GUIDE = DOCS / "guides/prepare.md"
# of images with masks: tests/data/test_segmentation_guide.py
SCENES = commands(DOCS / "guides/segmentation-data.md")
COMMANDS = [words for words in commands(*READ) if words[2:3] == ["prepare"] and words not in SCENES]
LISTS = [words for words in COMMANDS if "--list" in words]
SMALL = [words for words in COMMANDS if "--output" in words and not words[3].startswith(("hf:", "image"))]


@pytest.mark.parametrize("words", LISTS, ids=shlex.join)
def test_lists(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words[2:])
    assert "102 Flowers" in capsys.readouterr().out


@pytest.mark.parametrize("words", SMALL, ids=shlex.join)
def test_data_sets_by_name(words: list[str], build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(words[3], tmp_path / "DOWNLOADED")
    main([*words[2:], *([] if "--source" in words else ["--source", "DOWNLOADED"])])
    record = read_record(Path(words[words.index("--output") + 1]))
    assert record is not None
    assert record.name == words[3]


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in (*LISTS, *SMALL)], ids=shlex.join)
def test_arguments_are_valid(words: list[str]) -> None:
    """Data sets of Hugging Face and ImageNet: other tests prepare them."""
    assert command._parse(words[3:]).name == words[3]


def test_the_table_matches_the_code() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for row in DATASETS.values():
        sizes = [f"{row.splits[split]:,}" if split in row.splits else "–" for split in ("train", "val", "test")]
        cells = (f"`{row.name}`", f"[{row.title}]({row.url})", f"{row.num_classes:,}", *sizes, f"`{row.metric}`")
        assert f"| {' | '.join(cells)} |\n" in text
    assert text.count("\n| `") == len(DATASETS)
