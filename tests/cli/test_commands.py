import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.tasks import ClassificationTask
from tests.batches import finished
from tests.forked import run_script
from tests.recipes import REPO, SMALL

Cli = Callable[..., None]
Shell = Callable[..., subprocess.CompletedProcess[str]]


def metrics_of(run: Path) -> dict[str, list[float]]:
    """Return the columns of metrics.csv without empty cells."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def printed_metrics(output: str) -> dict[str, float]:
    """Return the metrics that validate and test print, by name: a heading, then a line for each split."""
    lines = output.splitlines()
    [start] = [n for n, line in enumerate(lines) if line.split()[:2] == ["images", "acc1"]]
    names = lines[start].split()
    rows = [line.replace(",", "").split() for line in lines[start + 1 : start + 3]]
    return {f"{stage}/{name}": float(value) for stage, *row in rows for name, value in zip(names, row, strict=True)}


def test_a_run_leaves_config_curves_and_checkpoints(trained: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["init_args"]["name"] == "inceptionnext_iso_micro"
    assert config["model"]["init_args"]["lr"] == pytest.approx(3e-3)
    assert config["data"]["init_args"]["root"] == "sample"
    metrics = metrics_of(trained)
    for stage in ("val", "val_ema"):
        for name in ("loss", "acc1", "acc5", "macro_acc"):
            assert len(metrics[f"{stage}/{name}"]) == 2
        assert 0.3 < metrics[f"{stage}/acc1"][-1] < 1
        # there are 100 embedded validation images per class, so both means agree
        assert metrics[f"{stage}/macro_acc"] == pytest.approx(metrics[f"{stage}/acc1"], abs=1e-4)
    assert len(metrics["train/acc1"]) == len(metrics["train/loss"]) == 2
    rates = [name for name in metrics if name.startswith("lr")]
    assert rates == ["lr"]
    assert max(metrics["lr"]) == pytest.approx(3e-3, rel=0.1)
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    events = EventAccumulator(str(trained)).Reload()
    assert [event.value for event in events.Scalars("val/acc1")] == pytest.approx(metrics["val/acc1"])


@pytest.mark.slow
def test_the_saved_config_repeats_the_run(trained: Path, cli: Cli, tmp_path: Path) -> None:
    cli("fit", "--config", trained / "config.yaml", "--trainer.default_root_dir", tmp_path)
    repeated, first = metrics_of(tmp_path / "quickstart/version_0"), metrics_of(trained)
    for name in ("train/loss", "val/loss", "val/acc1", "val_ema/acc1"):
        assert repeated[name] == first[name]


def test_checkpoints_are_self_contained_plain_data(trained: Path) -> None:
    last = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    best = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    metrics = metrics_of(trained)
    assert last["epoch"] == 1
    assert best["epoch"] == int(np.argmax(metrics["val/acc1"]))
    stored = last["hyper_parameters"]
    assert stored["name"] == "inceptionnext_iso_micro"
    spec = stored["data_spec"]
    assert spec["class_names"][0] == "ankle-boot"
    assert len(spec["class_names"]) == spec["num_classes"] == 10
    assert spec["preprocessing"]["image_size"] == 28
    raw, averaged = (last["state_dict"][f"{key}stem.weight"] for key in ("model.", "model_ema.module."))
    assert raw.shape == averaged.shape == (48, 3, 4, 4)
    assert not torch.equal(raw, averaged)


@pytest.mark.slow
def test_validate_repeats_the_metrics_of_training(trained: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli("validate", "--ckpt_path", trained / "checkpoints/last.ckpt", "--data.root", "sample", "--data.num_workers", 0)
    printed = printed_metrics(capsys.readouterr().out)
    metrics = metrics_of(trained)
    assert printed["val/images"] == printed["val_ema/images"] == 1000
    for name in ("val/acc1", "val/loss", "val/macro_acc", "val_ema/acc1"):
        assert printed[name] == pytest.approx(metrics[name][-1], abs=6e-5)


@pytest.mark.slow
def test_test_uses_the_checkpoints_mapping(
    trained: Path, cli: Cli, make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # three of ten classes, so the folder's own indices would be wrong
    root = make_folder(tmp_path / "data", {"test": 20}, classes=("coat", "sandal", "trouser"))
    checkpoint = trained / "checkpoints/last.ckpt"
    cli("test", "--ckpt_path", checkpoint, "--data.root", root, "--data.num_workers", 0)
    printed = printed_metrics(capsys.readouterr().out)

    cli("predict", "--ckpt_path", checkpoint, "--data.root", root, "--output", "p.csv", "--data.num_workers", 0)
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    right = np.mean([Path(row["path"]).parent.name == row["label"] for row in rows])
    assert len(rows) == 60
    assert printed["test_ema/acc1"] == pytest.approx(right, abs=6e-5)
    assert right > 0.3


@pytest.mark.slow
def test_predict_needs_only_a_checkpoint_and_agrees_with_python(
    trained: Path, shell: Shell, sample: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copy(trained / "checkpoints/best.ckpt", tmp_path / "carried.ckpt")
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((sample / "val" / "bag").iterdir())[:5]:
        shutil.copy(path, folder)
    Image.new("RGB", (300, 200), "red").save(folder / "ünï cödé.jpg")
    for name in ("out.csv", "out.json"):
        done = shell("predict", "--ckpt_path", checkpoint, "--data.root", folder, "--output", name)
        assert done.returncode == 0, done.stderr
        assert f"6 predictions written to {name}" in done.stdout

    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8")))
    records = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["path"] for row in rows] == [record["path"] for record in records]
    assert [row["label"] for row in rows] == [record["label"] for record in records]

    task = ClassificationTask.load_from_checkpoint(checkpoint, weights_only=True).eval()
    data = ImageFolderDataModule(
        root=str(folder),
        image_size=28,
        input=InputOptions(crop_pct=1.0, mean=[0.286] * 3, std=[0.353] * 3),
        num_workers=0,
    )
    data.setup("predict")
    images, paths, unreadable = finished(data, data.predict_dataloader())[0]
    assert unreadable == []
    with torch.no_grad():
        probabilities = task(images).softmax(dim=1)
    assert [row["path"] for row in rows] == paths
    for row, record, expected in zip(rows, records, probabilities, strict=True):
        best = expected.topk(5)
        top5 = json.loads(row["top5"])
        assert top5 == record["top5"]
        assert list(top5) == [task.class_names[i] for i in best.indices]
        assert list(top5.values()) == pytest.approx(best.values.tolist(), abs=2e-5)
        assert row["label"] == next(iter(top5))
        assert float(row["probability"]) == pytest.approx(float(best.values[0]), abs=2e-5)


def test_predict_takes_one_image(trained: Path, cli: Cli, sample: Path, tmp_path: Path) -> None:
    image = sorted((sample / "val" / "bag").iterdir())[0]
    cli("predict", "--ckpt_path", trained / "checkpoints/best.ckpt", "--data.root", image, "--output", "one.json")
    records = json.loads((tmp_path / "one.json").read_text())
    assert [record["path"] for record in records] == [str(image)]


@pytest.mark.slow
def test_resume_continues_where_the_run_stopped(trained: Path, cli: Cli, tmp_path: Path) -> None:
    cli(
        "fit", *SMALL, "--ckpt_path", trained / "checkpoints/last.ckpt", "--trainer.max_epochs", 3,
        "--trainer.limit_train_batches", 40, "--trainer.limit_val_batches", 2, "--model.ema_decay", 0.9,
    )  # fmt: skip
    run = tmp_path / "runs/quickstart/version_0"
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 2
    assert last["global_step"] == 3 * 40
    assert len(metrics_of(run)["val/acc1"]) == 1


@pytest.mark.slow
def test_the_command_line_wins_over_the_checkpoint(trained: Path, cli: Cli, tmp_path: Path) -> None:
    cli(
        "fit", "--data.root", "sample", "--data.num_workers", 0, "--ckpt_path", trained / "checkpoints/last.ckpt",
        "--trainer.max_epochs", 3, "--trainer.limit_train_batches", 4, "--trainer.log_every_n_steps", 1,
        "--model.lr", 1e-4, "--model.weight_decay", 0.2, "--model.schedule.min_lr", 1e-4, "--run_name", "again",
    )  # fmt: skip
    run = tmp_path / "runs/again/version_0"
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    stored = last["hyper_parameters"]
    assert stored["weight_decay"] == pytest.approx(0.2)
    assert stored["name"] == "inceptionnext_iso_micro"  # from the checkpoint
    assert stored["schedule"]["warmup_epochs"] == pytest.approx(2)
    # check the value in use too: peak and minimum are equal, and the warm-up is over
    assert [group["weight_decay"] for group in last["optimizer_states"][0]["param_groups"]] == [0.0, 0.2]
    assert metrics_of(run)["lr"] == pytest.approx([1e-4] * 4)


@pytest.mark.slow
def test_a_recipe_can_be_given_to_the_other_commands(trained: Path, cli: Cli, tmp_path: Path) -> None:
    for config in (REPO / "configs/quickstart.yaml", trained / "config.yaml"):
        words = ["--config", config, "--model.name", "inceptionnext_iso_micro", "--trainer.limit_predict_batches", 1]
        words += ["--ckpt_path", trained / "checkpoints/last.ckpt", "--output", f"{config.stem}.csv"]
        cli("predict", *words)
        assert (tmp_path / f"{config.stem}.csv").read_text().count("\n") == 65


@pytest.mark.slow
def test_runs_without_loggers_or_checkpoints(cli: Cli, tmp_path: Path) -> None:
    short = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1]
    cli("fit", *SMALL, *short, "--trainer.logger", "false")
    cli("fit", *SMALL, *short, "--trainer.logger", "false")
    cli("fit", *SMALL, *short, "--trainer.enable_checkpointing", "false", "--run_name", "bare")
    files = {str(path.relative_to(tmp_path)) for path in (tmp_path / "runs").rglob("*.*") if path.is_file()}
    for run in ("runs/quickstart/version_0", "runs/quickstart/version_1"):
        assert {f"{run}/config.yaml", f"{run}/checkpoints/best.ckpt", f"{run}/checkpoints/last.ckpt"} <= files
    assert {"runs/bare/version_0/config.yaml", "runs/bare/version_0/metrics.csv"} <= files
    assert not {name for name in files if name.startswith("runs/bare") and name.endswith(".ckpt")}


def test_ddp_with_two_ranks_on_the_cpu(shell: Shell, tmp_path: Path, sample: Path) -> None:
    done = shell(
        "fit", *SMALL, "--trainer.max_epochs", 1, "--trainer.accelerator", "cpu", "--trainer.devices", 2,
        "--trainer.strategy", "ddp", "--data.batch_size", 100, "--trainer.limit_train_batches", 3,
        "--trainer.limit_val_batches", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "200 a step = 100 × 2 devices × 1 accumulated" in done.stdout
    assert done.stdout.count("epoch 1/1") == 1
    assert [path.name for path in (tmp_path / "runs/quickstart").iterdir()] == ["version_0"]
    run = tmp_path / "runs/quickstart/version_0"
    [accuracy] = metrics_of(run)["val/acc1"]
    assert f"Best:       val/acc1 {accuracy:.4f} in epoch 1\n" in done.stdout
    [command] = re.findall(r"Next: +(.+)", done.stdout)
    assert re.search(r" predict FOLDER_OR_IMAGE --ckpt_path \S+\.ckpt --output labels\.csv$", command)
    image = next((sample / "val" / "bag").iterdir())
    python, script, *given = shlex.split(command.replace("FOLDER_OR_IMAGE", str(image)))
    assert shutil.which(python, path=f"{tmp_path}:{os.environ['PATH']}") == sys.executable
    assert run_script(tmp_path / script, given, tmp_path).returncode == 0
    assert (tmp_path / "labels.csv").read_text().count("\n") == 2
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


def test_help_has_the_keys_of_the_recipe_s_classes(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("fit", "--config", REPO / "configs/segment/folder.yaml", "--help", "all")
    assert exit_.value.code == 0
    page = capsys.readouterr().out
    for key in ("--model.segmentation.loss.class_weights", "--data.crop_size", "--data.masks.reduce_zero_label"):
        assert f"\n  {key}" in page
    assert "--data.multi_label" not in page


def test_help_is_readable(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli("--help")
    overview = capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        cli("fit", "--help", "all")
    assert exit_.value.code == 0
    page = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict"):
        assert f"\n  {command} " in overview
    for key in (
        "--data.root",
        "--data.batch_size",
        "--model.name",
        "--model.lr",
        "--model.loss.mix.mixup",
        "--ckpt_path",
    ):
        assert key in page
    assert ":paramref:" not in page
    keys = re.findall(r"^  (--[\w.]+)", page, re.MULTILINE)
    assert len(keys) == len(set(keys)) > 100
