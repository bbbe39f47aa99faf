"""The command transfer: its tables, what it computes again, and what bad input gets."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from inceptionnext_lit.cli.runs.run_lock import RunLock
from inceptionnext_lit.cli.transfer.models import distinct_titles, parse_models
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.record import DatasetRecord, write_record
from inceptionnext_lit.tasks.loading import load_random
from tests.processes import running, wait_until
from tests.recipes import REPO
from tests.small_checkpoint import save_checkpoint

Cli = Callable[..., None]
Captured = pytest.CaptureFixture[str]
MICRO = "inceptionnext_iso_micro"
FAST = ("--num_workers", 0, "--device", "cpu")
SHORT = ("--trainer.max_epochs", 2, "--data.num_workers", 0, "--data.batch_size", 8, "--model.optimizer.layer_decay", 1)


@pytest.fixture
def place(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    """A folder with a checkpoint and a data set."""
    save_checkpoint(tmp_path / "small.ckpt", ["a", "b", "c"])
    make_folder(tmp_path / "clothes", {"train": 6, "test": 4})
    return tmp_path


def table(folder: str = "out") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "table.json").read_text())
    return content


def error_of(cli: Cli, capsys: Captured, *words: object, code: int = 1) -> str:
    with pytest.raises(SystemExit) as exit_:
        cli("transfer", *words)
    assert exit_.value.code == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.usefixtures("place")
def test_a_table_of_two_models_and_two_data_sets(make_folder: Callable[..., Path], cli: Cli, capsys: Captured) -> None:
    make_folder(Path("more clothes"), {"train": 5, "val": 3, "test": 3}, ("bag", "coat"))
    words = ["small.ckpt", "--data", "clothes", "more clothes", "--protocol", "knn", "linear", "--seeds", 2]
    cli("transfer", *words, "--output", "out", "--max_iter", 20, *FAST)
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d+\.\d\d( ± \d+\.\d\d)? \(\d+\.\d s\)", "VALUE", line) for line in lines if line[0] == "["] == [
        "[1/4] small.ckpt on clothes, knn: acc1 VALUE",
        "[2/4] small.ckpt on clothes, linear: acc1 VALUE",
        "[3/4] small.ckpt on more clothes, knn: acc1 VALUE",
        "[4/4] small.ckpt on more clothes, linear: acc1 VALUE",
    ]
    assert [line.split(" in ")[0] for line in lines if line[0] == "F"] == [
        "Features of small.ckpt on clothes: 30 images",
        "Features of small.ckpt on more clothes: 22 images",
    ]
    found = table()
    assert found["complete"]
    runs = {(cell["data"], cell["protocol"]): cell["runs"] for cell in found["cells"]}
    assert runs == {
        ("clothes", "knn"): 1,
        ("clothes", "linear"): 2,  # validation images are held back by the seed
        ("more clothes", "knn"): 1,
        ("more clothes", "linear"): 1,
    }
    with Path("out/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == [cell["mean"] for cell in found["cells"]]
    text = Path("out/table.md").read_text()
    assert "| model | clothes, top-1 accuracy | more clothes, top-1 accuracy |" in text
    assert (
        "- clothes: 3 classes, 18 images for training, a fifth of them held back for validation, 12 for the test."
        in text
    )
    assert "- more clothes: 2 classes, 10 images for training, 6 for validation, 6 for the test." in text
    assert Path("out/table.png").stat().st_size > 1000
    assert ">more clothes<" in Path("out/table.svg").read_text()
    assert found["peak_memory_mib"]["this_process"] > 100


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_finished_cell_is_not_computed_again_until_something_changes(
    cli: Cli, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["transfer", "small.ckpt", "--data", "clothes", "--protocol", "knn", "--output", "out", *FAST]
    cli(*words)
    before = table()["cells"]
    capsys.readouterr()
    shutil.rmtree("out/features")
    with monkeypatch.context() as patch:
        patch.setattr("inceptionnext_lit.cli.transfer.models.load_task", None)  # not even loaded
        cli(*words)
    assert re.search(r"knn: acc1 [\d.]+ \(kept from before\)", capsys.readouterr().out)
    assert table()["cells"] == before
    assert not Path("out/features").exists()

    image = next(Path("clothes/train/bag").iterdir())
    os.utime(image, (1, 1))
    cli(*words)
    assert "kept" not in capsys.readouterr().out
    save_checkpoint(Path("small.ckpt"), ["a", "b", "d"])
    cli(*words)
    assert "kept" not in capsys.readouterr().out
    cli(*words, "--precision", "float16")
    assert "kept" not in capsys.readouterr().out
    cli(*words)
    assert "kept" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_failed_cell_does_not_stop_the_others(cli: Cli, capsys: Captured) -> None:
    content = torch.load("small.ckpt", weights_only=True)
    content["state_dict"]["model.norm.weight"].fill_(torch.nan)
    torch.save(content, "broken.ckpt")
    words = ["broken.ckpt", "small.ckpt", "--data", "clothes", "--protocol", "knn", "--output", "out", *FAST]
    with pytest.raises(SystemExit) as exit_:
        cli("transfer", *words)
    assert exit_.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/2] broken.ckpt on clothes, knn: failed: broken.ckpt contains NaN or infinite values")
    assert lines[-1].startswith("[2/2] small.ckpt on clothes, knn: acc1 ")
    assert not table()["complete"]
    assert "| broken.ckpt | failed [1] |" in Path("out/table.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_random_models_and_files_are_named_as_such(cli: Cli) -> None:
    words = ["convert", "small.ckpt", "--output", "small.safetensors"]
    cli(*words)
    models = ["small.safetensors", f"{MICRO}=small.safetensors", f"{MICRO}=random"]
    cli("transfer", *models, "--data", "clothes", "--protocol", "knn", "--output", "out", *FAST)
    cells = table()["cells"]
    assert [cell["model"] for cell in cells] == [
        "small.safetensors",
        f"{MICRO} (small.safetensors)",
        f"{MICRO} (random weights)",
    ]
    assert cells[0]["mean"] == cells[1]["mean"]
    assert f"- {MICRO} (random weights): not trained; linear and knn" in Path("out/table.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_weights_need_no_classifier(cli: Cli) -> None:
    tensors = {
        name.removeprefix("model."): tensor
        for name, tensor in torch.load("small.ckpt", weights_only=True)["state_dict"].items()
        if name.startswith("model.")
    }
    torch.save({name: one for name, one in tensors.items() if not name.startswith("head.")}, "headless.pth")
    torch.save(tensors, "three_classes.pth")
    words = [f"{MICRO}=headless.pth", f"{MICRO}=three_classes.pth", "--data", "clothes", "--protocol", "knn"]
    cli("transfer", *words, "--output", "out", *FAST)
    assert len({cell["mean"] for cell in table()["cells"]}) == 1
    assert len(list(Path("out/features").iterdir())) == 1
    path = parse_models([f"{MICRO}=headless.pth"])[0].start(load_random(MICRO), Path("out/weights"))
    saved = load_file(str(path))
    assert "head.weight" not in saved
    assert "norm.weight" in saved


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_prepared_folder_has_its_name_and_metric(cli: Cli) -> None:
    splits = {"train": 18, "test": 12}
    record = DatasetRecord("pets", "Pets", ".", "macro_acc", False, splits, 3, "here", "MIT", "", "Someone")
    write_record(Path("clothes"), record)
    for path in sorted(Path("clothes/test/bag").iterdir())[1:]:
        path.unlink()
    cli("transfer", "small.ckpt", "--data", "clothes", "--protocol", "knn", "--output", "out", *FAST)
    [cell] = table()["cells"]
    assert (cell["data"], cell["metric"]) == ("pets", "macro_acc")
    assert "| model | pets, mean per-class accuracy |" in Path("out/table.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_manifest_with_several_labels_has_map(cli: Cli) -> None:
    rows = ["path,label"]
    for number, path in enumerate(sorted(Path("clothes").rglob("*.png"))):
        rows.append(f"{path},{path.parent.name}{'|extra' * (number % 2)}")
    Path("table.csv").write_text("\n".join(rows))
    cli("transfer", "small.ckpt", "--data", "table.csv", "--protocol", "knn", "--output", "out", *FAST)
    [cell] = table()["cells"]
    assert cell["metric"] == "mAP"
    assert 0 < cell["mean"] <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_checkpoint_of_the_same_images_gets_a_note(make_folder: Callable[..., Path], cli: Cli) -> None:
    make_folder(Path("flat"), {".": 6})
    content = torch.load("small.ckpt", weights_only=True)
    torch.save(content | {"run": {"data.root": str(Path("flat").absolute())}}, "small.ckpt")
    cli("transfer", "small.ckpt", "--data", "flat", "clothes", "--protocol", "knn", "--output", "out", *FAST)
    few = "neighbors, since there are no more training images"
    assert [cell["notes"] for cell in table()["cells"]] == [
        [
            f"only 15 {few}",
            "the checkpoint was trained on this data set, perhaps on test images, so its metric may be too high",
        ],
        [f"only 18 {few}"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["small.ckpt", "small.ckpt", "--data", "clothes"], "The model small.ckpt is given twice; leave one out."),
        (["small.ckpt", "--data", "clothes", "./clothes/"], "The data set ./clothes/ is given twice; leave one out."),
        (["gone.ckpt", "--data", "clothes"], "gone.ckpt does not exist; give a checkpoint or a file of weights."),
        (["resnet5", "--data", "clothes"], "Unknown model 'resnet5'. The nearest names are: resnet50"),
        ([f"{MICRO}=gone.pt", "--data", "clothes"], f"gone.pt does not exist; give {MICRO} for published weights"),
        (["small.ckpt", "--data", "./gone"], "./gone does not exist; give a folder, a manifest, or the name"),
        (["small.ckpt", "--data", "cifar-1000"], "Unknown data set 'cifar-1000'"),
        (["small.ckpt", "--data", "clothes", "--device", "cuda:9"], "The device 'cuda:9' cannot be used here"),
    ],
)
@pytest.mark.usefixtures("place")
def test_bad_input_is_refused_before_anything_runs(words: list[str], message: str, cli: Cli, capsys: Captured) -> None:
    error = error_of(cli, capsys, *words, "--protocol", "knn", "--output", "out")
    assert message in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "transfer needs --protocol; see its --help"),
        (["--protocol", "probe"], "--protocol: invalid choice: 'probe'"),
        (["--protocol", "knn", "--lr_grid", "1e-3"], "--lr_grid is for the protocol finetune; add --protocol finetune"),
        (["--protocol", "knn", "--trainer.max_epochs", "3"], "--trainer.max_epochs is for the protocol finetune"),
        (["--protocol", "finetune", "--lr_grid", "0"], "--lr_grid: '0' is not a learning rate above 0."),
        (["--protocol", "finetune", "--data.root", "x"], "--data.root is set by transfer for each model and data set"),
        (
            ["--protocol", "finetune", "--lr_grid", "1", "--model.lr", "2"],
            "--model.lr and --lr_grid do not go together",
        ),
        (["--protocol", "knn", "--seed", "3"], "Unknown key '--seed'; did you mean --seeds?"),
    ],
)
def test_words_that_cannot_be_parsed(words: list[str], message: str, cli: Cli, capsys: Captured) -> None:
    assert message in error_of(cli, capsys, "small.ckpt", "--data", "clothes", "--output", "out", *words, code=2)


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_the_folder_is_not_shared(cli: Cli, capsys: Captured) -> None:
    words = ["small.ckpt", "--data", "clothes", "--protocol", "knn"]
    assert "--output clothes has other files in it" in error_of(cli, capsys, *words, "--output", "clothes")
    assert "--output small.ckpt is a file" in error_of(cli, capsys, *words, "--output", "small.ckpt")
    Path("out/cells").mkdir(parents=True)
    lock = RunLock(Path("out"))
    lock.acquire()
    error = error_of(cli, capsys, *words, "--output", "out")
    lock.release()
    assert f"The run in out is still active in process {os.getpid()}" in error
    assert error.rstrip().endswith("Wait for it or stop it, or give another --output.")


def test_missing_libraries(cli: Cli, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["small.ckpt", "--data", "clothes", "--protocol", "knn", "--output", "out"]
    assert (
        "transfer needs scikit-learn and matplotlib; install it with pip install 'inceptionnext-lit[transfer]'."
        in error_of(cli, capsys, *words)
    )


def test_titles_of_the_same_name_differ() -> None:
    named = [("best.ckpt", "runs/a/best.ckpt"), ("best.ckpt", "runs/b/best.ckpt"), ("pets", "x/pets"), ("y", "y")]
    assert distinct_titles(named) == ["a/best.ckpt", "b/best.ckpt", "pets", "y"]
    prepared = [("cifar10", "x/one"), ("cifar10", "x/two")]
    assert distinct_titles(prepared) == ["cifar10 (x/one)", "cifar10 (x/two)"]


def test_what_tells_weights_apart(tmp_path: Path) -> None:
    [random, published] = parse_models([f"{MICRO}=random", "resnet50.a1_in1k"])
    assert random.identity == {"weights": "random", "name": MICRO, "seed": 0}
    assert published.title == "resnet50.a1_in1k"
    assert published.identity["tag"] == "a1_in1k"
    (tmp_path / "x.pt").write_bytes(b"1")
    [file] = parse_models([f"{MICRO}={tmp_path / 'x.pt'}"])
    assert file.identity["sha256"].startswith("6b86b273")
    with pytest.raises(UserError, match="no weights tagged"):
        parse_models(["resnet50.a9_in1k"])


@pytest.fixture
def _restarts_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(REPO / "cli.py")])


@pytest.mark.slow
@pytest.mark.usefixtures("place", "_restarts_here")
def test_finetune_chooses_the_learning_rate_once_and_tests_the_best_epoch(cli: Cli, capsys: Captured) -> None:
    words = ["small.ckpt", f"{MICRO}=random", "--data", "clothes", "--protocol", "finetune", "--seeds", 2]
    cli("transfer", *words, "--lr_grid", "1e-5", "1e-3", "--output", "out", *FAST, *SHORT)
    assert "[2/2]" in capsys.readouterr().out
    for cell in table()["cells"]:
        first, second = (result["details"] for result in cell["results"])
        assert set(first["grid"]) == {"1e-05", "0.001"}
        best = max(first["grid"], key=lambda rate: first["grid"][rate])
        assert first["lr"] == second["lr"] == float(best)
        assert "grid" not in second
        assert cell["notes"] == [f"learning rate {float(best):g}, chosen from 2 with the first seed"]
        checkpoint = Path(second["checkpoint"])
        assert [path.name for path in checkpoint.parent.iterdir()] == ["best.ckpt"]
        assert len(list(checkpoint.parents[3].glob("*/version_0/metrics.csv"))) == 1
        cli("test", "--ckpt_path", checkpoint, "--data.root", "clothes", "--output", "metrics.json", "--overwrite")
        metrics = json.loads(Path("metrics.json").read_text())
        assert cell["results"][1]["value"] == pytest.approx(metrics["test/acc1"])
        assert metrics["images"] == second["images"] == 12
    start = torch.load(checkpoint, weights_only=True)
    assert start["hyper_parameters"]["pretrained"] is False


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    words = ["transfer", "small.ckpt", "--data", "clothes", "--protocol", "knn", "finetune", "--seeds", 1]
    words += ["--output", "out", *FAST, *SHORT, "--trainer.max_epochs", "60"]
    command = [sys.executable, str(REPO / "cli.py"), *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    runs = tmp_path / "out/runs"
    with running(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as first:
        wait_until(lambda: list(runs.rglob("last.ckpt")), seconds=120)
        first.send_signal(signal.SIGKILL)
        first.wait()
    wait_until(lambda: not list(runs.rglob(".lock.*")), seconds=60)  # the training process has ended as well
    [cell] = (tmp_path / "out/cells").iterdir()
    before = cell.stat().st_mtime_ns
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "knn: acc1" in done.stdout.splitlines()[0]
    assert "(kept from before)" in done.stdout.splitlines()[0]
    assert cell.stat().st_mtime_ns == before
    [log] = runs.rglob("fit.log")
    assert "Continues" in log.read_text() or "Resum" in log.read_text()
    assert len(list(runs.rglob("version_*"))) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_signal_stops_the_training(tmp_path: Path) -> None:
    words = ["transfer", "small.ckpt", "--data", "clothes", "--protocol", "finetune", "--output", "out", *FAST, *SHORT]
    command = [sys.executable, str(REPO / "cli.py"), *map(str, words), "--trainer.max_epochs", "500"]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    with running(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as child:
        wait_until(lambda: list((tmp_path / "out/runs").rglob("last.ckpt")), seconds=120)
        child.send_signal(signal.SIGTERM)
        output = child.communicate(timeout=100)[0]
    assert child.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM; the same command goes on." in output
    assert not list((tmp_path / "out").glob(".lock.*"))
    assert not list((tmp_path / "out/cells").iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("place", "_restarts_here")
def test_finetune_reports_why_training_failed(cli: Cli, capsys: Captured) -> None:
    words = ["small.ckpt", "--data", "clothes", "--protocol", "finetune", "--seeds", 1, "--output", "out", *FAST]
    with pytest.raises(SystemExit) as exit_:
        cli("transfer", *words, *SHORT, "--trainer.max_epoch", 3)
    assert exit_.value.code == 1
    printed = capsys.readouterr().out
    assert "finetune: failed: " in printed
    assert "max_epoch" in printed
