"""The command ``doctor``: its findings, reports and exit codes, and that it changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.doctor.folders import clean_folder, dirty_folder, jpeg, picture, save
from tests.processes import running, wait_until
from tests.recipes import REPO

Doctor = Callable[..., tuple[object, str, str]]


@pytest.fixture
def doctor(cli: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run ``doctor WORDS``; return the exit code, stdout and stderr."""

    def run(*words: object) -> tuple[object, str, str]:
        capsys.readouterr()
        try:
            cli("doctor", *words)
            code: object = 0
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return run


def state(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return every file and folder with properties that change when it is written."""
    status = {str(path): path.lstat() for path in [root, *root.rglob("*")]}
    return {path: (s.st_mtime_ns, s.st_size, s.st_mode) for path, s in status.items()}


def by_kind(record: dict[str, Any]) -> dict[str, list[str]]:
    paths: dict[str, list[str]] = {}
    for finding in record["findings"]:
        paths.setdefault(finding["kind"], []).extend(finding["paths"])
    return paths


def test_eight_types_of_problems_are_found(tmp_path: Path, doctor: Doctor) -> None:
    root = dirty_folder(tmp_path / "data")
    before = state(root)
    code, out, error = doctor(root, "--output", "report.json")
    assert (code, error) == (1, "")
    assert state(root) == before
    record = json.loads(Path("report.json").read_text())
    assert by_kind(record) == {
        "unreadable": ["train/cat/empty.jpg", "train/cat/truncated.jpg", "val/dog/text.jpg"],
        "leak": ["train/bird/7.jpg", "val/bird/copy.jpg"],
        "symlink_loop": ["train/bird/circle"],
        "cmyk": ["train/dog/print.jpg"],
        "sixteen_bit": ["train/dog/deep.png"],
        "rotated": ["train/bird/turned.jpg"],
    }
    for line in (
        "  train/cat/empty.jpg: the file is empty (0 bytes).",
        "  train/cat/truncated.jpg: image file is truncated (",
        "  val/dog/text.jpg: its content is not an image of a known format.",
        "  train/bird/7.jpg, val/bird/copy.jpg contain the same bytes, in the splits train, val.",
        f"  train/bird/circle links to {root}/train.",
        "  1 image of mode CMYK: train/dog/print.jpg.",
        "  1 image of 16 bits per channel: train/dog/deep.png.",
        "  1 image with an EXIF rotation: train/bird/turned.jpg.",
        "4 problems, 4 notes.",
        "Report: report.json",
    ):
        assert f"\n{line}" in out
    assert out.count("\n  → ") == 6  # each with a suggestion


def test_the_json_report(tmp_path: Path, doctor: Doctor) -> None:
    root = clean_folder(tmp_path / "data")
    (root / "train/dog/copy.jpg").write_bytes((root / "train/dog/0.jpg").read_bytes())
    assert doctor(root, "--output", "new/report.json")[0] == 1
    record = json.loads(Path("new/report.json").read_text())
    assert 0 < record.pop("seconds") < 60
    assert record == {
        "root": str(root),
        "images": 11,
        "problems": 1,
        "splits": {"train": {"cat": 3, "dog": 4}, "val": {"cat": 2, "dog": 2}},
        "imbalance": {"train": 1.33, "val": 1.0},
        "sizes": {
            "width": {"min": 64, "median": 64, "max": 64},
            "height": {"min": 48, "median": 48, "max": 48},
            "common": [{"width": 64, "height": 48, "images": 11}],
        },
        "modes": {"RGB": 11},
        "formats": {"JPEG": 11},
        "findings": [
            {
                "kind": "duplicate",
                "severity": "problem",
                "message": "train/dog/0.jpg, train/dog/copy.jpg contain the same bytes.",
                "remedy": "Keep one of each, so that it does not count twice.",
                "paths": ["train/dog/0.jpg", "train/dog/copy.jpg"],
            }
        ],
    }


def test_a_clean_folder(tmp_path: Path, doctor: Doctor) -> None:
    code, out, error = doctor(clean_folder(tmp_path / "data"), "--workers", "1")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[:3] == [
        "train: 6 images, 2 classes, largest to smallest 1 : 1",
        f"cat  3  {'█' * 30}",
        f"dog  3  {'█' * 30}",
    ]
    assert lines[8].startswith("10 images read in ")
    assert lines[9] == "sizes: 64×48 to 64×48, median 64×48 pixels; most are 64×48 (10)"
    assert lines[-1] == "No problems, 0 notes."


@pytest.mark.slow
def test_the_embedded_images_have_no_problems(doctor: Doctor) -> None:
    code, out, _ = doctor("sample")
    assert (code, out.splitlines()[-1]) == (0, "No problems, 1 note.")
    assert "  train/dress/03568.png, train/dress/05448.png look the same." in out  # the same dress, slightly brighter


def test_a_folder_called_sample_is_reached_by_its_path(
    tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_folder(tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    code, out, _ = doctor("./sample", "--workers", "1")
    assert (code, out.splitlines()[0]) == (0, "train: 6 images, 2 classes, largest to smallest 1 : 1")


def test_long_lists_are_cut(tmp_path: Path, doctor: Doctor) -> None:
    root = clean_folder(tmp_path / "data")
    for index in range(25):
        (root / f"train/cat/bad{index}.jpg").touch()
    out = doctor(root, "--output", "report.json")[1]
    assert "problem: unreadable or truncated files (25)" in out
    assert out.count("the file is empty") == 10
    assert "\n  and 15 more (see --output)\n" in out
    assert len(json.loads(Path("report.json").read_text())["findings"]) == 25


NAMES = [
    "ünï 猫.jpg",
    "with space .jpg",
    "new\nline.jpg",
    "<b>&\"'.jpg",
    os.fsdecode(b"latin\xe9.jpg"),
    "x" * 251 + ".jpg",
]


@pytest.mark.slow
def test_odd_names(tmp_path: Path, doctor: Doctor) -> None:
    root = clean_folder(tmp_path / "data")
    deep = root / "train/dog" / "/".join(["y" * 255] * 8)  # a path of 2,000 bytes
    for index, path in enumerate([*(root / "train/cat" / name for name in NAMES), deep / "z.jpg"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(picture(index))[:500])
    code, out, _ = doctor(root, "--output", "report.json")
    assert code == 1
    record = json.loads(Path("report.json").read_text())
    paths = set(by_kind(record)["unreadable"])
    assert paths == {f"train/cat/{name}" for name in NAMES} | {os.path.relpath(deep / "z.jpg", root)}
    assert all(os.path.isfile(root / path) for path in paths)
    for shown in ("ünï 猫.jpg", "with space .jpg", r"new\nline.jpg", "<b>&\"'.jpg", r"latin\udce9.jpg", "x" * 251):
        assert f"  train/cat/{shown}" in out
    assert doctor(root, "--output", "report.HTML")[0] == 1
    page = Path("report.HTML").read_text(encoding="utf-8")
    assert "train/cat/&lt;b&gt;&amp;&quot;&#x27;.jpg: " in page
    assert r"train/cat/new\nline.jpg: " in page
    assert r"train/cat/latin\udce9.jpg: " in page
    assert "<b>" not in page


def test_the_page_shows_duplicates_and_loads_nothing(tmp_path: Path, doctor: Doctor) -> None:
    root = clean_folder(tmp_path / "data")
    save(root / "val/cat/brighter.jpg", picture(1000).point(lambda level: min(int(level * 1.08), 255)))
    doctor(root, "--output", "report.html")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "train/cat/0.jpg, val/cat/brighter.jpg look the same, in the splits train, val." in page
    assert page.count('<img src="data:image/jpeg;base64,') == 2
    assert page.count('<td class="bar">') == 4
    assert not any(mark in page for mark in ("http:", "https:", "<script", "<link"))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none"], 1, "The data folder none does not exist."),
        (["file"], 1, "The data folder file is a file."),
        (["hollow"], 1, "hollow has no images to examine."),
        (["data", "--output", "r.txt"], 1, "--output is r.txt; it must end in .json or .html."),
        (["none", "--output", "file/r.json"], 1, "The report file/r.json cannot be written: Not a directory;"),
        (["data", "--workers", "0"], 2, "--workers: '0' is not a number of 1 or more."),
        (["data", "--out", "r.json"], 2, "Unknown key '--out'; did you mean --output?"),
        ([], 2, "python cli.py doctor needs FOLDER; see its --help."),
    ],
)
def test_wrong_arguments(doctor: Doctor, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "hollow/train/cat").mkdir(parents=True)
    got = doctor(*words)
    assert got[:2] == (code, "")
    assert got[2].startswith(f"error: {message}")
    assert got[2].count("\n") == 1


def test_an_ascii_terminal(tmp_path: Path) -> None:
    root = clean_folder(tmp_path / "data")
    (root / "train/cat/ü.jpg").touch()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, str(REPO / "cli.py"), "doctor", str(root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert r"train/cat/\xfc.jpg: the file is empty" in done.stdout


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
def test_a_run_that_is_stopped_leaves_no_process(tmp_path: Path, sign: int, code: int) -> None:
    root = clean_folder(tmp_path / "data", train=2)
    for index in range(3000):
        (root / f"train/cat/link{index}.jpg").symlink_to(root / "train/cat/1.jpg")
    command = [sys.executable, str(REPO / "cli.py"), "doctor", str(root), "--workers", "2"]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        wait_until(lambda: len(children(run.pid)) >= 2)
        found = children(run.pid)
        time.sleep(0.3)
        run.send_signal(sign)
        out, error = run.communicate(timeout=30)
    assert (run.returncode, out) == (code, "")
    if sign == signal.SIGINT:  # after a kill, Python's resource tracker prints a warning
        assert error == "Interrupted; nothing was changed.\n"
    wait_until(lambda: not [child for child in found if Path(f"/proc/{child}").exists()], seconds=60)


def test_a_manifest(cli: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(4):
        Image.effect_noise((40, 40), 60 + n).convert("RGB").save(tmp_path / f"{n}.png")
    (tmp_path / "4.png").write_bytes((tmp_path / "0.png").read_bytes())
    rows = ["path,label,split", "0.png,cat,train", "1.png,dog,train", "2.png,cat,val", "3.png,dog,val", "4.png,cat,val"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    with pytest.raises(SystemExit) as exit_:
        cli("doctor", "list.csv", "--workers", 1, "--output", "report.json")
    assert exit_.value.code == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["splits"] == {"train": {"cat": 1, "dog": 1}, "val": {"cat": 2, "dog": 1}}
    assert [sorted(f["paths"]) for f in report["findings"] if f["kind"] == "leak"] == [["0.png", "4.png"]]
    (tmp_path / "list.csv").write_text("path,label\nnone.png,cat\n")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli("doctor", "list.csv")
    assert "Files that list.csv names do not exist, 1 of 1 (row" in capsys.readouterr().err


def test_a_manifest_of_a_spreadsheet(cli: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for n in range(4):
        Image.effect_noise((40, 40), 60 + n).convert("RGB").save(tmp_path / f"images/{n}.png")
    rows = ["Photo;Species;Set", *(f"{n};{'fox' if n % 2 else 'owl'};{'TRAIN' if n < 2 else 'dev'}" for n in range(4))]
    (tmp_path / "list.csv").write_text("\n".join(rows), encoding="utf-16")
    given = ["--path_column", "photo", "--label_column", "species", "--workers", 1, "--output", "report.json"]
    cli("doctor", "list.csv", *given)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["splits"] == {"train": {"fox": 1, "owl": 1}, "val": {"fox": 1, "owl": 1}}
    assert [f["message"] for f in report["findings"] if f["kind"] == "manifest"] == [
        "list.csv is in UTF-16.",
        "Columns of list.csv: path from 'Photo'; label from 'Species'; split from 'Set'.",
        "4 of 4 images were found elsewhere: for example, '0' is images/0.png.",
    ]
