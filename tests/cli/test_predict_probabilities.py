"""``predict --probabilities all`` and ``--unsure_below``: contents, resuming, and errors."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from inceptionnext_lit import load_classifier
from inceptionnext_lit.predict.writer import PredictionWriter
from tests.cli.test_predict import at, killed, words
from tests.small_checkpoint import INPUT, save_checkpoint

Cli = Callable[..., None]
CLASSES = ["cat", 'dog, "big"', "été", "label", "probability", "a|b"]  # two are names of other columns
SUFFIXES = [".csv", ".jsonl", ".json", ".parquet"]


def slow_except(fast: str) -> list[Any]:
    """The file formats, of which all but one are slow: they share their code from the rows on."""
    return [pytest.param(suffix, marks=[pytest.mark.slow] * (suffix != fast)) for suffix in SUFFIXES]


@pytest.fixture
def photos(tmp_path: Path, sample: Path) -> list[str]:
    """Copy twelve images into a folder; return their paths as the command writes them."""
    (tmp_path / "photos").mkdir()
    images = [path for name in ("bag", "coat") for path in sorted((sample / "val" / name).iterdir())[:6]]
    for number, path in enumerate(images, start=10):
        shutil.copy(path, tmp_path / "photos" / f"{number}.png")
    return [f"photos/{number}.png" for number in range(10, 22)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "x.ckpt", CLASSES)
    return tmp_path / "x.ckpt"


def exact(checkpoint: Path, paths: list[str]) -> np.ndarray:
    """Return the probabilities of images, float32 of shape (images, classes), one image at a time."""
    classifier = load_classifier(checkpoint, "cpu")
    pixels = [classifier._transform(classifier._load(path)) for path in paths]
    with torch.inference_mode():
        logits = [classifier.task(classifier._to_input(one[None])) for one in pixels]
        return classifier.task.scores(torch.cat(logits)).numpy()


def table(output: str) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the rows of an output without probabilities, and those, float32 of shape (images, classes)."""
    path, names = Path(output), [f"prob_{name}" for name in CLASSES]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        rows = parquet.read_table(path).to_pylist()
    else:
        text = path.read_text()
        rows = json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))
        rows = [row | {f"prob_{name}": value for name, value in row.pop("probabilities").items()} for row in rows]
    values = np.array([[np.float32(row.pop(name)) for name in names] for row in rows])
    return rows, values


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_probability_in_full_precision(photos: list[str], checkpoint: Path, cli: Cli, suffix: str) -> None:
    cli("predict", "photos", *words(checkpoint, f"all{suffix}", "--probabilities", "all", "--data.batch_size", 1))
    rows, values = table(f"all{suffix}")
    assert [row["path"] for row in rows] == photos
    assert list(rows[0]) == ["path", "label", "probability", "top5"]
    expected = exact(checkpoint, photos)
    np.testing.assert_array_max_ulp(values, expected, maxulp=64)
    assert np.ptp(values, axis=0).min() > 1e-3
    assert [row["label"] for row in rows] == [CLASSES[k] for k in values.argmax(axis=1)]
    assert [float(row["probability"]) for row in rows] == [round(float(best), 6) for best in values.max(axis=1)]


@pytest.mark.slow
def test_numbers_have_the_shortest_exact_form(photos: list[str], checkpoint: Path, cli: Cli) -> None:
    for suffix in SUFFIXES:
        cli("predict", *photos[:3], *words(checkpoint, f"all{suffix}", "--probabilities", "all"))
    from pyarrow import parquet

    stored = parquet.read_table("all.parquet")
    assert {str(stored[name].type) for name in stored.column_names[4:]} == {"float"}
    values = np.array([stored[name].to_numpy() for name in stored.column_names[4:]]).T
    assert values.dtype == np.float32
    with Path("all.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[4:] == [f"prob_{name}" for name in CLASSES]
    assert [row[4:] for row in rows] == [list(map(str, row)) for row in values]
    for text in (Path("all.json").read_text()[1:-2], Path("all.jsonl").read_text()):
        lines = [line.strip().rstrip(",") for line in text.strip().splitlines()]
        found = [json.loads(line, parse_float=str)["probabilities"] for line in lines]
        assert [list(one) for one in found] == [CLASSES] * 3
        assert [list(one.values()) for one in found] == [list(map(str, row)) for row in values]


@pytest.mark.slow
def test_the_default_is_unchanged(photos: list[str], checkpoint: Path, cli: Cli) -> None:
    cli("predict", "photos", *words(checkpoint, "a.csv"))
    cli("predict", "photos", *words(checkpoint, "b.csv", "--probabilities", "top5"))
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert Path("a.csv").read_bytes().splitlines()[0] == b"path,label,probability,top5"


@pytest.mark.parametrize("suffix", slow_except(".parquet"))
def test_killed_and_resumed(photos: list[str], checkpoint: Path, cli: Cli, suffix: str) -> None:
    options = ["--probabilities", "all", "--unsure_below", "0.6"]
    cli("predict", "photos", *words(checkpoint, f"whole{suffix}", *options))
    output = f"killed{suffix}"
    killed("predict", "photos", *words(checkpoint, output, *options), *at("predicting", 3, "SIGKILL"))
    growing = Path(output if suffix in (".csv", ".jsonl") else f"{output}.partial.jsonl")
    assert b"prob" in growing.read_bytes()
    with growing.open("ab") as file:
        file.write(b'"line\n' if suffix == ".csv" else b'{"path": "photos/12.p')
    cli("predict", "photos", *words(checkpoint, output, *options, "--resume"))
    (rows, values), (whole, expected) = table(output), table(f"whole{suffix}")
    assert [(row["path"], row["label"], row["unsure"]) for row in rows] == [
        (row["path"], row["label"], row["unsure"]) for row in whole
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    before = Path(output).read_bytes()
    cli("predict", "photos", *words(checkpoint, output, *options, "--resume"))
    assert table(output)[0] == rows
    assert (table(output)[1] == values).all()
    assert suffix == ".parquet" or Path(output).read_bytes() == before
    assert not Path(f"{output}.partial.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", slow_except(".csv"))
def test_other_options_cannot_resume(
    photos: list[str], checkpoint: Path, cli: Cli, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    every, unsure = ["--probabilities", "all"], ["--unsure_below", "0.6"]
    for first, second, message in (
        ([], every, "was started without --probabilities all; continue it the same way, or give another --output."),
        (every, [], "was started with --probabilities all; continue it the same way, or give another --output."),
        ([], unsure, "was started without --unsure_below; continue it the same way, or give another --output."),
        ([*every, *unsure], every, "was started with --unsure_below; continue it the same way, or give another "
         "--output."),
    ):  # fmt: skip
        output = f"out{suffix}"
        cli("predict", *photos[:4], *words(checkpoint, output, *first, "--overwrite"))
        before = Path(output).read_bytes()
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli("predict", "photos", *words(checkpoint, output, *second, "--resume"))
        assert exit_.value.code == 1
        assert capsys.readouterr().err == f"error: {output} {message}\n"
        assert Path(output).read_bytes() == before
        assert not Path(f"{output}.partial.jsonl").exists()


@pytest.mark.slow
def test_a_leftover_of_another_choice_is_refused_or_replaced(
    photos: list[str], checkpoint: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    every = ["--probabilities", "all"]
    killed("predict", "photos", *words(checkpoint, "o.json", *every), *at("predicting", 3, "SIGKILL"))
    before = Path("o.json.partial.jsonl").read_bytes()
    with pytest.raises(SystemExit):
        cli("predict", "photos", *words(checkpoint, "o.json", "--resume"))
    assert "error: o.json was started with --probabilities all; continue it the same way" in capsys.readouterr().err
    assert Path("o.json.partial.jsonl").read_bytes() == before
    Path("photos/none.jpg").write_text("no image")
    with pytest.raises(SystemExit):  # without a single prediction, nothing is replaced
        cli("predict", "photos/none.jpg", *words(checkpoint, "o.json", "--overwrite"))
    assert "error: None of 1 image could be read" in capsys.readouterr().err
    assert Path("o.json.partial.jsonl").read_bytes() == before
    assert not Path("o.json").exists()
    cli("predict", *photos, *words(checkpoint, "o.json", "--overwrite"))
    rows = json.loads(Path("o.json").read_text())
    assert [list(row) for row in rows] == [["path", "label", "probability", "top5"]] * 12
    assert not Path("o.json.partial.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", slow_except(".json"))
def test_other_classes_cannot_resume(
    photos: list[str], tmp_path: Path, cli: Cli, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "six.ckpt", ["a", "b", "c", "d", "e", "f"])
    save_checkpoint(tmp_path / "more.ckpt", ["a", "b", "c", "d", "e", "f", "g"])
    every = ["--probabilities", "all"]
    cli("predict", *photos[:4], *words(tmp_path / "six.ckpt", f"out{suffix}", *every))
    with pytest.raises(SystemExit):
        cli("predict", "photos", *words(tmp_path / "more.ckpt", f"out{suffix}", *every, "--resume"))
    assert capsys.readouterr().err == (
        f"error: out{suffix} has the probabilities of other classes than this checkpoint's; continue with the "
        "checkpoint that it was started with, or give another --output.\n"
    )


@pytest.mark.slow
def test_several_labels_are_a_list_in_json(photos: list[str], tmp_path: Path, cli: Cli) -> None:
    save_checkpoint(tmp_path / "several.ckpt", CLASSES, multi_label=True)
    for suffix in SUFFIXES:
        cli("predict", "photos", *words(tmp_path / "several.ckpt", f"out{suffix}", "--probabilities", "all"))
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert list(found[0]) == ["path", "label", "labels", "probability", "top5", "probabilities"]
    for row in found:
        assert row["labels"] == [name for name in CLASSES if row["probabilities"][name] >= 0.5]
        assert row["label"] == "|".join(row["labels"])
    assert {len(row["labels"]) for row in found} - {0, 1}
    assert json.loads(Path("out.json").read_text()) == found
    for suffix in (".csv", ".parquet"):
        rows, values = table(f"out{suffix}")
        assert list(rows[0]) == ["path", "label", "probability", "top5"]
        assert [row["label"] for row in rows] == [row["label"] for row in found]
        assert (values == np.array([list(row["probabilities"].values()) for row in found], dtype=np.float32)).all()
    cli("predict", "photos", *words(tmp_path / "several.ckpt", "out.json", "--probabilities", "all", "--resume"))
    assert json.loads(Path("out.json").read_text()) == found


@pytest.mark.parametrize("multi_label", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_unsure_images_are_marked(
    photos: list[str], tmp_path: Path, cli: Cli, multi_label: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "x.ckpt"
    save_checkpoint(checkpoint, CLASSES, multi_label=multi_label)
    cli("predict", "photos", *words(checkpoint, "plain.jsonl", "--probabilities", "all"))
    plain = [json.loads(line) for line in Path("plain.jsonl").read_text().splitlines()]
    best = sorted(max(row["probabilities"].values()) for row in plain)
    limit = best[5]  # five are below it, and one equals it
    for suffix in SUFFIXES:
        capsys.readouterr()
        cli("predict", "photos", *words(checkpoint, f"out{suffix}", "--unsure_below", limit))
        assert capsys.readouterr().out.splitlines()[-2:] == [
            f"12 predictions written to out{suffix}",
            f"5 of 12 images are unsure: their best probability is below {limit}",
        ]
    expected = [max(row["probabilities"].values()) < limit for row in plain]
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["unsure"] for row in found] == expected
    assert [row["label"] for row in found] == [row["label"] for row in plain]
    assert list(found[0]) == ["path", "label", "probability", "top5", "unsure"]
    assert json.loads(Path("out.json").read_text()) == found
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["unsure"] for row in csv.DictReader(file)] == [str(one).lower() for one in expected]
    from pyarrow import parquet

    assert parquet.read_table("out.parquet")["unsure"].to_pylist() == expected


@pytest.mark.slow
@pytest.mark.parametrize("suffix", slow_except(".jsonl"))
def test_unsure_images_of_a_resumed_output(
    photos: list[str], checkpoint: Path, cli: Cli, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("predict", "photos", *words(checkpoint, "plain.jsonl"))
    values = sorted(json.loads(line)["probability"] for line in Path("plain.jsonl").read_text().splitlines())
    limit, other = (values[5] + values[6]) / 2, (values[8] + values[9]) / 2
    cli("predict", *photos[:8], *words(checkpoint, f"out{suffix}", "--unsure_below", limit))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli("predict", "photos", *words(checkpoint, f"out{suffix}", "--unsure_below", 0.000001, "--resume"))
    error = capsys.readouterr().err
    assert error.startswith(f"error: out{suffix} was started with another --unsure_below: photos/")
    assert error.endswith(" there and is unsure; give the same value, or another --output.\n")
    with pytest.raises(SystemExit):
        cli("predict", "photos", *words(checkpoint, f"out{suffix}", "--unsure_below", 1, "--resume"))
    assert " there and is not unsure; give the same value" in capsys.readouterr().err
    assert other > limit
    cli("predict", "photos", *words(checkpoint, f"out{suffix}", "--unsure_below", limit, "--resume"))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"4 predictions written to out{suffix} (12 in all)",
        f"6 of 12 images are unsure: their best probability is below {limit}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "-0.1", "1.5", ".nan"])
def test_a_limit_out_of_range(
    photos: list[str], checkpoint: Path, cli: Cli, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("predict", "photos", *words(checkpoint, "out.csv", "--unsure_below", value))
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --unsure_below is ")
    assert error.endswith("; it must be a probability greater than 0, at most 1.\n")
    assert not Path("out.csv").exists()


@pytest.mark.slow
def test_wrong_values(photos: list[str], checkpoint: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    for key, value, message in (
        ("--probabilities", "some", "probabilities: Expected one of 'top5', 'all'. Got value: some"),
        ("--unsure_below", "low", "unsure_below: "),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli("predict", "photos", *words(checkpoint, "out.csv", key, value))
        assert exit_.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {message}")


def test_in_python_without_the_command_line(tmp_path: Path, photos: list[str]) -> None:
    from inceptionnext_lit.data import ImageFolderDataModule
    from inceptionnext_lit.data.input_format import InputOptions

    task = save_checkpoint(tmp_path / "x.ckpt", CLASSES)
    given = InputOptions(mean=INPUT["mean"], std=INPUT["std"], crop_pct=INPUT["crop_pct"])
    data = ImageFolderDataModule(
        str(tmp_path / "photos"), image_size=28, num_workers=0, input=given, class_names=CLASSES
    )
    writer = PredictionWriter(str(tmp_path / "o.jsonl"), probabilities="all")
    Trainer(accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False).predict(task, data)
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    assert [list(json.loads(line)["probabilities"]) for line in lines] == [CLASSES] * 12
