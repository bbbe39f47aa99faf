"""Names of files and classes cannot send control sequences to a terminal."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit.cli import quiet
from inceptionnext_lit.cli.runs.latest_run import say
from inceptionnext_lit.console import LineConsole
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.wording import count, listed, printable, printable_lines

ODD = "a\x1b]0;owned\x07\x1b[31m\u202eb"
ESCAPED = r"a\x1b]0;owned\x07\x1b[31m\u202eb"


def test_control_characters_are_escaped() -> None:
    assert printable(ODD) == ESCAPED
    assert printable("été 图 –") == "été 图 –"
    assert printable("a\nb\tc\udcff") == r"a\nb\tc\udcff"
    assert printable_lines(f"{ODD}\nb\r") == f"{ESCAPED}\nb\\r"
    assert listed([ODD, "b", "c", "d"]) == f"{ESCAPED}, b, c and 1 more"


def test_numbers_agree_with_their_nouns() -> None:
    assert count(1, "image") == "1 image"
    assert count(0, "image") == "0 images"
    assert count(1200, "class", "classes") == "1,200 classes"


def test_every_way_to_the_terminal_escapes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_error(f"no {ODD}\nhere")
    print_error(ODD, rank=3)
    say(f"x\n{ODD}")
    LineConsole().print(f"Class [red]{ODD}")
    out, error = capsys.readouterr()
    assert error == f"error: no {ESCAPED}\\nhere\nerror (rank 3): {ESCAPED}\n"
    assert out == f"x\n{ESCAPED}\nClass [red]{ESCAPED}\n"
    place = str(Path(quiet.__file__))
    assert quiet._format_warning(ODD, UserWarning, place, 1) == f"warning: {ESCAPED}\n"
    monkeypatch.setattr(quiet, "_library_format", lambda *_: f"{ODD}\n")
    assert quiet._format_warning(ODD, UserWarning, "/elsewhere.py", 1) == f"{ESCAPED}\n"
    record = logging.LogRecord("x", logging.INFO, "", 1, "Loaded %s", (ODD,), None)
    assert quiet._is_news(record)
    assert record.getMessage() == f"Loaded {ESCAPED}"


@pytest.mark.slow
def test_no_command_prints_escape_sequences_of_files_or_classes(
    cli: Callable[..., None],
    make_folder: Callable[..., Path],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_folder(tmp_path / ODD, {"train": 3, "val": 1}, classes=("bag", "coat"))
    (root / "train" / "bag" / f"{ODD}.png").write_text("no image")
    shutil.copytree(root / "train" / "coat", root / "train" / ODD)
    checkpoint = trained / "checkpoints/best.ckpt"
    cli("predict", root, "--ckpt_path", checkpoint, "--output", f"{ODD}.csv", "--data.num_workers", 0)
    for words in (
        ["doctor", root, "--workers", 1],
        ["fit", "--data.root", root, "--model.name", "inceptionnext_iso_micro"],
        ["test", "--ckpt_path", checkpoint],
    ):
        with pytest.raises(SystemExit):
            cli(*words, *(["--data.root", root] if words[0] == "test" else []))
    out, error = capsys.readouterr()
    assert ESCAPED in out
    assert ESCAPED in error
    assert not {"\x1b", "\x07", "\u202e"} & {*out, *error}
