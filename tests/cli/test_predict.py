"""The command predict: its inputs, its output after an interruption, and how it resumes."""

import csv
import json
import math
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from inceptionnext_lit.cli import main
from inceptionnext_lit.models.compiled import Compiled
from tests.processes import running, wait_until
from tests.recipes import BACKENDS, REPO, SMALL

Cli = Callable[..., None]
ODD = ["a,b.png", 'a"b".png', "line\nbreak.png", "ünï 图.png", os.fsdecode(b"\xff\xfe.png")]


@pytest.fixture
def photos(tmp_path: Path, sample: Path) -> Path:
    """Write twenty images, five of them with unusual names, and three files that are not images."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    images = sorted((sample / "val" / "coat").iterdir())[:10] + sorted((sample / "val" / "bag").iterdir())[:10]
    for number, path in enumerate(images):
        shutil.copy(path, folder / (ODD[number] if number < len(ODD) else f"{number}.png"))
    (folder / "8.png").write_bytes(images[8].read_bytes()[:200])
    (folder / "more" / "empty.jpg").touch()
    (folder / "more" / "text.jpg").write_text("no image")
    return folder


@pytest.fixture
def checkpoint(trained: Path) -> Path:
    return trained / "checkpoints/best.ckpt"


def words(checkpoint: Path, output: str, *more: object) -> list[str]:
    few = ["--data.batch_size", "4", "--data.num_workers", "0", "--trainer.enable_progress_bar", "false"]
    return ["--ckpt_path", str(checkpoint), "--output", output, *few, *map(str, more)]


def at(moment: str, number: int, what: str) -> list[str]:
    place = "--trainer.callbacks"
    return [f"{place}+=tests.cli.moments.At", f"{place}.moment", moment, f"{place}.number", str(number),
            f"{place}.what", what]  # fmt: skip


def rows(output: str) -> list[dict[str, Any]]:
    path = Path(output)
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            found: list[dict[str, Any]] = list(csv.DictReader(file))
    elif path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    elif path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    else:
        from pyarrow import parquet

        found = parquet.read_table(path).to_pylist()
    return [{**row, "probability": float(row["probability"]), "top5": json.loads(row["top5"])} for row in found]


def killed(*arguments: str) -> None:
    """Run a command that kills itself with SIGKILL, in a fork of this process."""
    process = multiprocessing.get_context("fork").Process(target=main, args=(list(arguments),))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    "suffix", [".csv", *(pytest.param(x, marks=pytest.mark.slow) for x in (".parquet", ".jsonl", ".json"))]
)
def test_killed_and_resumed(photos: Path, checkpoint: Path, cli: Cli, suffix: str) -> None:
    cli("predict", "photos", *words(checkpoint, f"whole{suffix}"))
    whole = rows(f"whole{suffix}")
    assert len(whole) == 19
    unreadable = Path("whole.unreadable.csv").read_bytes()
    output = f"killed{suffix}"
    growing = Path(output if suffix in (".csv", ".jsonl") else f"{output}.partial.jsonl")

    killed("predict", "photos", *words(checkpoint, output), *at("predicting", 4, "SIGKILL"))
    assert growing.read_bytes().count(b"\n") >= 7
    with growing.open("ab") as file:
        file.write(b'"line\n' if suffix == ".csv" else b'{"path": "photos/12.p')  # a truncated write
    killed("predict", "photos", *words(checkpoint, output, "--resume"), *at("predicting", 2, "SIGKILL"))
    cli("predict", "photos", *words(checkpoint, output, "--resume"))
    resumed = rows(output)
    assert sorted(row["path"] for row in resumed) == sorted(row["path"] for row in whole)
    # the batches differ, so the last digits may too
    for row, expected in zip(resumed, whole, strict=True):
        assert (row["path"], row["label"]) == (expected["path"], expected["label"])
        assert row["probability"] == pytest.approx(expected["probability"], abs=2e-6)
        assert row["top5"] == pytest.approx(expected["top5"], abs=2e-6)
    assert Path("killed.unreadable.csv").read_bytes() == unreadable
    assert not Path(f"{output}.partial.jsonl").exists()


@pytest.mark.slow
def test_resume_without_and_with_nothing_left(
    photos: Path, checkpoint: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("predict", "photos/1[0-4].png", *words(checkpoint, "out.csv", "--resume"))
    assert capsys.readouterr().out.splitlines()[-1] == "5 predictions written to out.csv"
    first = Path("out.csv").read_bytes()
    cli("predict", "photos/1?.png", "photos/more", *words(checkpoint, "out.csv", "--resume", "true"))
    assert [line for line in capsys.readouterr().out.splitlines() if "out." in line] == [
        "Continuing out.csv: it has 5 predictions and 0 unreadable images; 7 of 12 images left to do.",
        "5 predictions written to out.csv (10 in all)",
        "2 images could not be read: see out.unreadable.csv",
    ]
    second = Path("out.csv").read_bytes()
    assert second.startswith(first)
    cli("predict", "photos/1?.png", "photos/more", *words(checkpoint, "out.csv", "--resume"))
    assert "0 predictions written to out.csv (10 in all)" in capsys.readouterr().out
    assert Path("out.csv").read_bytes() == second
    Path("out.unreadable.csv").unlink()  # to retry them
    shutil.copy("photos/10.png", "photos/more/empty.jpg")
    cli("predict", "photos/more", *words(checkpoint, "out.csv", "--resume"))
    assert Path("out.unreadable.csv").read_text().count("\n") == 2
    assert rows("out.csv")[-1]["path"] == "photos/more/empty.jpg"


@pytest.mark.slow
def test_an_output_is_only_replaced_or_continued_on_request(
    photos: Path, checkpoint: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("predict", "photos", *words(checkpoint, "out.json"))
    before = Path("out.json").read_bytes()
    with pytest.raises(SystemExit) as exit_:
        cli("predict", "photos/1?.png", *words(checkpoint, "out.json"))
    assert exit_.value.code == 1
    assert capsys.readouterr().err == (
        "error: out.json already exists; add --resume to continue it, --overwrite to replace it, or give another "
        "--output.\n"
    )
    assert Path("out.json").read_bytes() == before
    assert Path("out.unreadable.csv").exists()
    with pytest.raises(SystemExit):
        cli("predict", "photos/1?.png", *words(checkpoint, "out.json", "--overwrite", "--resume"))
    assert "--resume keeps the output and --overwrite replaces it; leave out one" in capsys.readouterr().err
    cli("predict", "photos/1?.png", *words(checkpoint, "out.json", "--overwrite"))
    assert [row["path"] for row in rows("out.json")] == [f"photos/{number}.png" for number in range(10, 20)]
    assert not Path("out.unreadable.csv").exists()


@pytest.mark.slow
def test_the_output_of_a_killed_run_is_kept(photos: Path, checkpoint: Path, cli: Cli) -> None:
    leftover = Path("out.json.partial.jsonl")
    leftover.write_text('{"path"')
    with pytest.raises(SystemExit):
        cli("predict", "photos/1?.png", *words(checkpoint, "out.json"))
    assert leftover.read_text() == '{"path"'
    cli("predict", "photos/1?.png", *words(checkpoint, "out.json", "--overwrite", "true"))
    assert len(rows("out.json")) == 10
    assert not leftover.exists()


@pytest.mark.slow
def test_unreadable_images_are_listed(
    photos: Path, checkpoint: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("list.tsv").write_text("path\tlabel\nphotos/9.png\tx\nphotos/gone.png\tx\n")
    cli("predict", "photos/8.png", "photos/more", "list.tsv", *words(checkpoint, "out.csv", "--data.batch_size", 2))
    with Path("out.unreadable.csv").open(newline="") as file:
        listed = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert list(listed) == ["photos/8.png", "photos/more/empty.jpg", "photos/more/text.jpg", "photos/gone.png"]
    assert "truncated" in listed["photos/8.png"]
    assert listed["photos/more/text.jpg"] == "its content is not an image of a known format"
    assert listed["photos/gone.png"] == "the file is missing"
    assert [row["path"] for row in rows("out.csv")] == ["photos/9.png"]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "1 prediction written to out.csv",
        "4 images could not be read: see out.unreadable.csv",
    ]
    before = Path("out.csv").read_bytes()
    with pytest.raises(SystemExit) as exit_:
        cli("predict", "photos/more", *words(checkpoint, "out.csv", "--overwrite"))
    assert exit_.value.code == 1
    assert "error: None of 2 images could be read; out.unreadable.csv lists the reasons.\n" in capsys.readouterr().err
    assert Path("out.csv").read_bytes() == before


@pytest.mark.slow
def test_all_types_of_inputs_at_once(photos: Path, checkpoint: Path, cli: Cli) -> None:
    Path("lists").mkdir()
    Path("lists/some.csv").write_text("path,label\n../photos/12.png,coat\n../photos/13.png,coat\n")
    (photos / "more" / "x.png").symlink_to(photos / "11.png")
    named = ["photos/19.png", "photos/more", "photos/1[01].png", "**/19.png", "lists/some.csv", "./photos/10.png"]
    cli("predict", *named, *words(checkpoint, "out.jsonl"))
    assert [row["path"] for row in rows("out.jsonl")] == [
        "photos/19.png", "photos/more/x.png", "photos/10.png", "photos/11.png",
        "lists/../photos/12.png", "lists/../photos/13.png",
    ]  # fmt: skip
    cli("predict", "--data.root", "photos/1[01].png", *words(checkpoint, "out.jsonl", "--overwrite"))
    assert [row["path"] for row in rows("out.jsonl")] == ["photos/10.png", "photos/11.png"]
    recipe = Path("recipe.yaml")
    recipe.write_text("data: {class_path: ImageFolderDataModule, init_args: {root: [photos/10.png, sample]}}\n")
    cli("predict", "--config", recipe, "--trainer.limit_predict_batches", 1, *words(checkpoint, "out2.jsonl"))
    assert rows("out2.jsonl")[0]["path"] == "photos/10.png"
    assert len(rows("out2.jsonl")) == 4


@pytest.mark.slow
def test_another_checkpoints_output(
    photos: Path, checkpoint: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("predict", "photos/10.png", *words(checkpoint, "out.csv"))
    Path("out.csv").write_text(Path("out.csv").read_text().replace("coat", "zebra"))
    with pytest.raises(SystemExit):
        cli("predict", "photos/11.png", *words(checkpoint, "out.csv", "--resume"))
    assert "error: out.csv has the label 'zebra', which this checkpoint does not know" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_output_is_the_same(
    photos: Path, checkpoint: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    cli("predict", str(photos), *words(checkpoint, "plain.jsonl"))
    shapes = []
    compile_ = Compiled._compile
    monkeypatch.setattr(Compiled, "_compile", lambda self, x: shapes.append(tuple(x.shape)) or compile_(self, x))
    torch.compiler.reset()
    cli("predict", str(photos), *words(checkpoint, "compiled.jsonl", "--compile"))
    assert shapes == [(4, 3, 28, 28)]
    for ours, theirs in zip(rows("compiled.jsonl"), rows("plain.jsonl"), strict=True):
        assert (ours["path"], ours["label"]) == (theirs["path"], theirs["label"])
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-5)


def test_help_shows_inputs_and_resume(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli("predict", "--help", "all")
    page = " ".join(capsys.readouterr().out.split())
    assert "python cli.py predict IMAGE_OR_FOLDER_OR_PATTERN_OR_MANIFEST ... [--config" in page
    assert "which are tried again if that list is deleted" in page
    assert "--resume Continue an existing output" in page  # a flag, without a value
    assert "--overwrite Replace" in page
    assert "--compile Compile" in page


@pytest.mark.slow
@pytest.mark.parametrize(("signal_", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_keeps_all_rows(photos: Path, checkpoint: Path, shell: Any, signal_: str, code: int) -> None:
    command = ["predict", "photos", *words(checkpoint, "out.jsonl")]
    done = shell(*command, *at("predicting", 2, signal_))
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    written = (photos.parent / "out.jsonl").read_bytes().count(b"\n")
    assert f"Stopped; {written} predictions written. The same command with --resume continues." in done.stdout
    assert written >= 3
    assert shell(*command, "--resume").returncode == 0
    assert (photos.parent / "out.jsonl").read_bytes().count(b"\n") == 19


def kill_when_grown(command: list[str], growing: Path) -> None:
    """Run a command until a file is 3,000 bytes larger, or to its end."""
    size = growing.stat().st_size if growing.exists() else 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with running(command, stdout=subprocess.DEVNULL, env=environment) as process:
        wait_until(
            lambda: process.poll() is not None or (growing.exists() and growing.stat().st_size > size + 3000),
            every=0.001,
        )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_killed_at_any_moment(checkpoint: Path, sample: Path, tmp_path: Path, suffix: str) -> None:
    """Kill the command whenever the output has grown, until a run completes."""
    output = tmp_path / f"out{suffix}"
    growing = output if suffix != ".parquet" else tmp_path / "out.parquet.partial.jsonl"
    command = [sys.executable, str(REPO / "cli.py"), "predict", str(sample / "val")]
    command += [*words(checkpoint, str(output)), "--data.batch_size", "16", "--data.num_workers", "1", "--resume"]
    for _ in range(4):
        kill_when_grown(command, growing)
    assert not output.exists() or suffix != ".parquet"
    assert subprocess.run(command, check=False).returncode == 0
    found = [row["path"] for row in rows(str(output))]
    assert len(found) == 1000
    assert set(found) == {str(path) for path in (sample / "val").rglob("*.png")}


@pytest.mark.parametrize("suffix", ["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def test_another_checkpoint_cannot_resume(
    photos: Path, checkpoint: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    output = f"out.{suffix}"
    cli("predict", "photos/1[0-4].png", *words(checkpoint, output))
    before = rows(output)
    content = torch.load(checkpoint, weights_only=True)
    for name in ("model.head.weight", "model_ema.module.head.weight"):
        content["state_dict"][name] = content["state_dict"][name].flip(0)
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit) as exit_:
        cli("predict", "photos/1?.png", *words(tmp_path / "other.ckpt", output, "--resume"))
    assert exit_.value.code == 1
    assert f"{output} was started with another checkpoint or other settings: " in capsys.readouterr().err
    cli("predict", "photos/1?.png", *words(checkpoint, output, "--resume"))
    assert rows(output)[: len(before)] == before
    assert len({row["path"] for row in rows(output)}) == len(rows(output)) == 10


@pytest.mark.slow
def test_validate_and_predict_agree(
    make_folder: Callable[..., Path], cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They agree with test_time_flip too."""
    root = make_folder(tmp_path / "data", {"train": 10, "val": 30})
    cli("fit", *SMALL, "--data.root", root, "--data.batch_size", 10, "--trainer.max_epochs", 2, "--trainer.accelerator",
        "cpu", "--model.execution.test_time_flip", "true")  # fmt: skip
    last = Path("runs/quickstart/version_0/checkpoints/last.ckpt")
    capsys.readouterr()
    cli("validate", "--ckpt_path", last, "--data.root", root)
    printed = capsys.readouterr().out
    assert "Each image is averaged with its mirror image, as in predict (model.execution.test_time_flip)." in printed
    cli("predict", root / "val", *words(last, "out.jsonl"))
    losses = [-math.log(row["top5"][Path(row["path"]).parent.name]) for row in rows("out.jsonl")]
    [line] = [line.split() for line in printed.splitlines() if line.startswith("val ")]
    [names] = [line.split() for line in printed.splitlines() if "loss" in line]
    assert float(dict(zip(names, line[1:], strict=True))["loss"]) == pytest.approx(statistics.fmean(losses), abs=2e-4)
