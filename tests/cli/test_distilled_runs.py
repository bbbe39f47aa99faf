"""Distilled runs on the command line: what they print, save and need, and what may change when they continue."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.recipes import SMALL
from tests.small_checkpoint import save_checkpoint

Cli = Callable[..., None]
CLASSES = ["bag", "coat", "sandal"]


@pytest.fixture
def words(make_folder: Callable[..., Path], tmp_path: Path) -> list[object]:
    """Arguments of two steps with a teacher of another width, in the current folder; some are in a recipe."""
    make_folder(tmp_path / "data", {"train": 4, "val": 2})
    save_checkpoint(tmp_path / "teacher.ckpt", CLASSES, kwargs={"dim": 64})
    recipe = {"model": {"distill": {"teacher": "teacher.ckpt", "kind": "logits", "weight": 0.25, "temperature": 2.0}}}
    (tmp_path / "distill.yaml").write_text(yaml.safe_dump(recipe))
    return [
        "fit", *SMALL, "--config", "distill.yaml", "--data.root", "data", "--data.batch_size", 6,
        "--trainer.max_epochs", 1, "--trainer.accelerator", "cpu", "--model.schedule.warmup_epochs", 0,
        "--trainer.log_every_n_steps", 1, "--run_name", "run",
    ]  # fmt: skip


LAST = Path("runs/run/version_0/checkpoints/last.ckpt")


def refused(cli: Cli, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli(*words)
    assert exit_.value.code == 1
    [error] = capsys.readouterr().err.splitlines()
    return error


def test_a_distilled_run_from_a_recipe(cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    cli(*words)
    out = capsys.readouterr().out
    [line] = re.findall(r"^Teacher: .*$", out, re.MULTILINE)
    assert re.fullmatch(
        r"Teacher:    teacher.ckpt, 0.10 M parameters, 0.00503 G multiply-adds an image, 58% of the model's forward "
        r"and backward pass; images of 28 pixels, mean \[0.5, 0.5, 0.5\], std \[0.25, 0.25, 0.25\]",
        line,
    )
    assert "inceptionnext_iso_micro, 0.06 M parameters, " in out  # the student's alone
    folder = LAST.parents[1]
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any(float(row["train/distill_loss"]) > 0 for row in rows if row["train/distill_loss"])
    distill = {"teacher": "teacher.ckpt", "kind": "logits", "weight": 0.25, "temperature": 2.0, "name": None}
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]["distill"] == distill
    content = torch.load(LAST, weights_only=True)
    assert content["hyper_parameters"]["distill"] == distill
    assert not [name for name in content["state_dict"] if not name.startswith("model.")]
    Path("teacher.ckpt").unlink()
    cli("validate", "--ckpt_path", LAST, "--data.root", "data")
    cli("predict", "data/val", "--ckpt_path", LAST, "--output", "labels.csv")
    assert len(Path("labels.csv").read_text().splitlines()) == 7
    error = refused(cli, capsys, *words, "--trainer.max_epochs", 2, "--ckpt_path", LAST)
    assert error == "error: The teacher of model.distill cannot be used: No checkpoint at teacher.ckpt; check the path."
    assert not Path("runs/run/version_1").exists()
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", LAST, "--model.distill", "null")  # not distilled any more
    assert "Teacher:" not in capsys.readouterr().out.partition("Changed:")[0]


@pytest.mark.slow
def test_what_may_change_when_a_distilled_run_continues(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    cli(*words)
    more = [*words, "--trainer.max_epochs", 2, "--ckpt_path", LAST]
    Path("teacher.ckpt").rename("moved.ckpt")
    moved = ["--model.distill.teacher", "moved.ckpt"]
    error = refused(cli, capsys, *more, *moved, "--model.distill.kind", "features", "--model.distill.temperature", 1)
    assert error.startswith(
        "error: model.distill.kind is features and was logits in the checkpoint's run, but the optimizer's state "
        "belongs to other parameter groups. Leave it as it was."
    )
    save_checkpoint(Path("teacher.ckpt"), CLASSES, kwargs={"dim": 64, "depth": 2})
    error = refused(cli, capsys, *more)
    assert error.startswith(
        "error: The teacher teacher.ckpt has other weights than that of the checkpoint's run, which "
    )
    cli(*more, *moved, "--model.distill.weight", 0.5, "--model.distill.temperature", 3)
    out = capsys.readouterr().out
    assert "model.distill.weight 0.25 → 0.5; model.distill.temperature 2.0 → 3.0" in out


@pytest.mark.slow
def test_features_are_projected_and_the_projection_is_not_exported(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    features = ["--model.distill.kind", "features", "--model.distill.temperature", 1, "--model.ema_decay", 0.9]
    cli(*words, *features)
    cli(*words, *features, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    content = torch.load(LAST, weights_only=True)
    assert content["epoch"] == 1
    assert tuple(content["state_dict"]["distillation.projection.weight"].shape) == (64, 48)
    more = ["--trainer.max_epochs", 3, "--ckpt_path", "last"]
    error = refused(cli, capsys, *words, "--model.distill", "null", *more)
    assert "other parameter groups (model.distill.weight 0 ends the distillation and keeps them)." in error
    cli(*words, *features, "--model.distill.weight", 0, *more)
    Path("teacher.ckpt").unlink()
    cli("validate", "--ckpt_path", LAST, "--data.root", "data")
    cli("convert", LAST, "--output", "student.safetensors")
    cli(*words, "--model.distill", "null", "--model.pretrained", LAST, "--run_name", "tuned")
    tuned = torch.load("runs/tuned/version_0/checkpoints/last.ckpt", weights_only=True)
    assert tuned["hyper_parameters"]["distill"] is None
    assert "distillation" not in tuned


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model.distill.teacher", "inceptionnext_iso_nano"], "error: No public weights of 'inceptionnext_iso_nano'"),
        (["--model.distill.weight", "2"], "error: model.distill.weight is 2.0; it must be between 0 and 1."),
        (["--model.distill.kind", "hard"], "error: model.distill.temperature is 2.0, but only the kind logits has one"),
    ],
)  # fmt: skip
def test_mistakes_leave_no_run(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert refused(cli, capsys, *words, *more).startswith(message)
    assert not list(Path("runs").glob("**/version_*/*"))


def test_a_teacher_with_a_fixed_size_does_not_grow(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    name, kwargs = "deit_tiny_patch16_224", {"depth": 1, "embed_dim": 32, "num_heads": 2}
    save_checkpoint(Path("teacher.ckpt"), CLASSES, name=name, kwargs=kwargs, preprocessing={"image_size": 32})
    sizes = ["--data.image_size", 32, "--data.progressive_size", "[16, 32]", "--trainer.max_epochs", 2]
    assert refused(cli, capsys, *words, *sizes).startswith(
        "error: The teacher of model.distill does not take images of 16 px (data.progressive_size): "
    )
