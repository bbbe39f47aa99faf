"""Options that change when a run is resumed either take effect or are rejected."""

import csv
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inceptionnext_lit.cli import main
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.transforms.augmentation import LEVELS
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.self_contained import nested_options
from tests.cli.moments import Seen
from tests.recipes import SMALL

Cli = Callable[..., None]


def group(name: str) -> Any:
    return Seen.trainer.optimizers[0].param_groups[0][name]


def rate(step: int) -> float:
    scheduler = Seen.task.lr_schedulers()
    return float(scheduler.lr_lambdas[0](step) * scheduler.base_lrs[0])


# (key, value on the command line, how to read it from the running training, its expected value)
EFFECTS: list[tuple[str, object, Callable[[], Any], Any]] = [
    ("model.drop_path", 0.3, lambda: Seen.task.model.blocks[-1].drop_path.drop_prob, pytest.approx(0.3)),
    ("model.loss.name", "bce", lambda: Seen.task.loss.name, "bce"),
    ("model.loss.label_smoothing", 0.2, lambda: Seen.task.loss.label_smoothing, 0.2),
    ("model.loss.mix.mixup", 0.3, lambda: Seen.task.loss.mix.mixup, 0.3),
    ("model.loss.mix.cutmix", 0.4, lambda: Seen.task.loss.mix.cutmix, 0.4),
    ("model.loss.mix.prob", 0.6, lambda: Seen.task.loss.mix.prob, 0.6),
    ("model.loss.mix.switch_prob", 0.7, lambda: Seen.task.loss.mix.switch_prob, 0.7),
    ("model.lr", 0.02, lambda: group("initial_lr"), 0.02),
    ("model.weight_decay", 0.07, lambda: Seen.trainer.optimizers[0].param_groups[1]["weight_decay"], 0.07),
    ("model.optimizer.kwargs", "{betas: [0.5, 0.6], eps: 0.001}", lambda: (*group("betas"), group("eps")),
     (0.5, 0.6, 0.001)),
    ("model.schedule.unit", "epoch", lambda: Seen.task.schedule.unit, "epoch"),
    ("model.schedule.warmup_epochs", 1, lambda: rate(0), pytest.approx(2e-6)),
    ("model.schedule.warmup_overlays", "true", lambda: rate(2), pytest.approx(0.012)),  # half-way, one epoch behind
    ("model.schedule.warmup_reaches_peak", "true", lambda: Seen.task.schedule.warmup_reaches_peak, True),
    ("model.schedule.lag_epochs", 1, lambda: rate(1), pytest.approx(2e-6)),
    ("model.schedule.warmup_lr", 2e-6, lambda: Seen.task.schedule.warmup_lr, 2e-6),
    ("model.schedule.min_lr", 0.004, lambda: rate(10_000), pytest.approx(0.004)),
    ("model.schedule.cooldown_epochs", 1, lambda: Seen.task.schedule.cooldown_epochs, 1),
    ("model.ema_decay", 0.9, lambda: Seen.task.model_ema.decay, 0.9),
    ("model.ema_warmup", "false", lambda: Seen.task.model_ema.use_warmup, False),
    ("model.loss.mix.order", "before_erasing", lambda: Seen.trainer.datamodule.erases_mixed, True),
    ("model.execution.dist_bn", "broadcast", lambda: Seen.task.execution.dist_bn, "broadcast"),
    ("model.execution.test_time_flip", "true", lambda: Seen.task.execution.test_time_flip, True),
    ("model.execution.channels_last", "false", lambda: Seen.task.execution.channels_last, False),
    ("model.execution.kernels", "triton", lambda: Seen.task.execution.kernels, "triton"),
    ("model.execution.grad_checkpointing", "true", lambda: Seen.task.model.grad_checkpointing, True),
    ("model.finetuning.probe_lr", 0.5, lambda: Seen.task.finetuning.probe_lr, 0.5),
    ("data.batch_size", 15, lambda: Seen.trainer.train_dataloader.batch_size, 15),
    ("data.image_size", 32, lambda: Seen.task.preprocessing["image_size"], 32),
    ("data.input.exif", "ignore", lambda: Seen.task.preprocessing["exif"], "ignore"),
    ("data.balance.sampler", "balanced", lambda: len(Seen.trainer.train_dataloader.sampler.balanced), 3),
    ("data.balance.class_weights", "auto", lambda: Seen.trainer.datamodule.balance.class_weights, "auto"),
    ("data.global_batch_size", 30, lambda: Seen.trainer.datamodule.step_size, 30),
    ("data.progressive_size", "[14, 28]", lambda: Seen.trainer.datamodule.sizes, ((14, 14), (28, 28))),
    ("data.num_workers", 1, lambda: Seen.trainer.train_dataloader.num_workers, 1),
    ("data.split.per_class", 10, lambda: Seen.trainer.datamodule.rules.per_class, 10),
    ("data.bad_images.action", "skip", lambda: Seen.trainer.datamodule.bad_images.skips, True),
    ("data.bad_images.max_skipped", 7, lambda: Seen.trainer.datamodule.skipped.most, 7),
    ("data.bad_images.max_pixels", 5000, lambda: Seen.trainer.datamodule.bad_images.max_pixels, 5000),
    ("data.input.nodata", -1, lambda: Seen.task.preprocessing["nodata"], -1),
    ("data.input.mean", "[0.1, 0.2, 0.3]", lambda: Seen.task.preprocessing["mean"], [0.1, 0.2, 0.3]),
    ("data.input.std", "[0.4, 0.5, 0.6]", lambda: Seen.task.preprocessing["std"], [0.4, 0.5, 0.6]),
    ("data.input.crop_pct", 0.9, lambda: Seen.task.preprocessing["crop_pct"], 0.9),
    ("data.input.interpolation", "bilinear", lambda: Seen.task.preprocessing["interpolation"], "bilinear"),
    ("data.input.crop_mode", "border", lambda: Seen.task.preprocessing["crop_mode"], "border"),
    ("data.augmentation", "none", lambda: Seen.trainer.datamodule.augmentation, LEVELS["none"]),
    ("trainer.gradient_clip_val", 1.5, lambda: Seen.trainer.gradient_clip_val, 1.5),
    ("trainer.accumulate_grad_batches", 2, lambda: Seen.trainer.accumulate_grad_batches, 2),
]  # fmt: skip

# (key, value, part of the message); all but the first suggest the same alternative
REFUSALS: list[tuple[str, object, str]] = [
    ("model.name", "inceptionnext_iso_nano", "is of the model 'inceptionnext_iso_micro'"),
    ("model.kwargs", "{dim: 24}", "model.kwargs is {'dim': 24} and was {}. Leave it as it was."),
    ("data.in_chans", [1, "--data.input.mean", "[0.5]", "--data.input.std", "[0.5]"], "data.in_chans is 1 and was 3."),
    ("data.class_names", "[bag, sandal, coat]", "was trained on the classes bag, coat, sandal"),
    ("model.optimizer.name", "lion", "model.optimizer.name is lion and was adamw"),
    ("model.optimizer.kwargs", "{amsgrad: true}", "does not fit this run (KeyError: 'max_exp_avg_sq')"),
    ("model.optimizer.layer_decay", 0.7, "model.optimizer.layer_decay is 0.7 and was 1.0"),
    ("model.optimizer.head_lr_factor", 5, "model.optimizer.head_lr_factor is 5.0 and was 1.0"),
    ("model.schedule.name", "torch.optim.lr_scheduler.ConstantLR",
     "model.schedule.name is torch.optim.lr_scheduler.ConstantLR and was None"),
    ("model.finetuning.freeze", "stem", "model.finetuning.freeze is stem and was None"),
    ("model.finetuning.probe_epochs", 2, "model.finetuning.probe_epochs is 2 and was 0"),
]  # fmt: skip

OTHERWISE = {
    "model.schedule.interval": "of another scheduler, see test_optimizers.py",
    "model.schedule.kwargs": "of another scheduler, see test_optimizers.py",
    "model.schedule.poly.power": "of another schedule, see test_poly.py",
    "model.schedule.poly.warmup_steps": "of another schedule, see test_poly.py",
    "model.schedule.poly.warmup_ratio": "of another schedule, see test_poly.py",
    "model.pretrained": "spent; the run says so",
    "model.data_spec.num_classes": "from the data, as the class names",
    "model.data_spec.class_names": "from the data, see data.class_names",
    "model.data_spec.preprocessing": "from the data, see data.image_size",
    "model.data_spec.multi_label": "from the data",
    "model.data_spec.palette": "from the data, of masks",
    "model.distill.teacher": "of a distilled run, see test_distilled_runs.py",
    "model.distill.kind": "likewise",
    "model.distill.weight": "likewise",
    "model.distill.temperature": "likewise",
    "model.distill.name": "likewise",
    "model.finetuning.allow_random": "a checkpoint's weights are not random",
    "model.execution.compile": "compiles the model that was restored",
    "model.execution.compile_mode": "likewise",
    "data.root": "other images are said class by class, see test_same_data.py",
    "data.split.val_fraction": "refused where images are held back, see test_same_data.py",
    "data.split.seed": "likewise",
    "data.split.num_folds": "likewise",
    "data.split.fold": "likewise",
    "data.manifest.path_column": "of a manifest",
    "data.manifest.label_column": "of a manifest",
    "data.multi_label": "goes with another manifest, see data.root",
    "data.real_labels": "of validate",
}


def options(cls: type, prefix: str) -> set[str]:
    """Return the keys of a class's arguments, with groups replaced by their options."""
    groups = {name: option for name, option in nested_options(cls).items() if name != "augmentation"}
    plain = {f"{prefix}.{name}" for name in inspect.signature(cls).parameters if name not in groups}
    return plain.union(*(options(option, f"{prefix}.{name}") for name, option in groups.items()))


def test_every_option_is_covered() -> None:
    decided = {key for key, *_ in (*EFFECTS, *REFUSALS)} | set(OTHERWISE)
    known = options(ClassificationTask, "model") | options(ImageFolderDataModule, "data")
    assert known == {key for key in decided if not key.startswith("trainer.")}


@pytest.fixture(scope="module")
def words(make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Train one epoch of three AdamW steps; the arguments end with the checkpoint to resume from."""
    folder = tmp_path_factory.mktemp("run")
    root = make_folder(folder / "data", {"train": 10, "val": 2})
    words = [
        "fit", *SMALL, "--data.root", root, "--data.batch_size", 10, "--trainer.max_epochs", 1, "--model.lr", 0.01,
        "--trainer.accelerator", "cpu", "--trainer.default_root_dir", folder / "runs", "--model.loss.mix.mixup", 0,
        "--model.ema_decay", "null", "--model.schedule.warmup_epochs", 0,
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cli.py"])
        main([str(word) for word in words])
    return [
        *words,
        "--trainer.max_epochs",
        3,
        "--ckpt_path",
        folder / "runs/quickstart/version_0/checkpoints/last.ckpt",
    ]


def test_options_that_take_effect(
    cli: Cli, words: list[object], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO")
    changed = [word for key, value, *_ in EFFECTS for word in (f"--{key}", value)]
    cli(*words, *changed, "--trainer.default_root_dir", tmp_path, "--trainer.callbacks+=tests.cli.moments.Seen")
    for key, _, actual, expected in EFFECTS:
        assert actual() == expected, key
    assert "the average starts from the checkpoint's weights" in caplog.text
    stored = torch.load(words[-1], weights_only=True)["state_dict"]
    assert all(torch.equal(value, stored[f"model.{key}"]) for key, value in (Seen.average or {}).items())
    assert len(Seen.average or {}) == len(stored)


TYPICAL = {"model.name", "model.optimizer.name", "model.schedule.name", "data.class_names", "model.finetuning.freeze"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        pytest.param(*row, id=f"{row[0]} {row[1]}", marks=[pytest.mark.slow] * (row[0] not in TYPICAL))
        for row in REFUSALS
    ],
)
def test_options_that_are_rejected(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str], tmp_path: Path, key: str, value: object,
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(SystemExit) as exit_:
        cli(
            *words,
            "--trainer.default_root_dir",
            tmp_path / "runs",
            f"--{key}",
            *(value if isinstance(value, list) else [value]),
        )
    assert exit_.value.code == 1
    [error] = capsys.readouterr().err.splitlines()
    assert message in error
    assert f"--model.pretrained {words[-1]}" in error or "--model.pretrained CHECKPOINT" in error or key == "model.name"
    assert not list(tmp_path.glob("runs/**/version_*/*"))


@pytest.mark.slow
def test_the_average_can_be_dropped(cli: Cli, words: list[object], trained: Path, tmp_path: Path) -> None:
    averaged = trained / "checkpoints/last.ckpt"
    more = ["--model.ema_decay", "null", "--trainer.max_epochs", 3, "--trainer.limit_train_batches", 1]
    cli("fit", *SMALL, *more, "--trainer.default_root_dir", tmp_path, "--ckpt_path", averaged)
    [path] = tmp_path.glob("**/last.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    assert not any(key.startswith("model_ema") for key in state)
    assert any(key.startswith("model_ema") for key in torch.load(averaged, weights_only=True)["state_dict"])


@pytest.mark.slow
def test_pretrained_is_not_loaded_again(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    limit = ["--trainer.limit_train_batches", 1, "--trainer.max_epochs", 2, "--trainer.default_root_dir", tmp_path]
    cli(*words, "--model.pretrained", "gone.safetensors", *limit)
    assert "Not used:   model.pretrained gone.safetensors" in capsys.readouterr().out
    [saved] = tmp_path.glob("**/config.yaml")
    assert "pretrained: gone.safetensors" in saved.read_text()


def test_frozen_runs_resume(
    cli: Cli, words: list[object], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frozen weights come from the checkpoint and are not loaded again."""
    more = [
        *words[: words.index("--ckpt_path")], "--model.pretrained", trained / "checkpoints/best.ckpt",
        "--model.finetuning.freeze", "backbone", "--run_name", "probe", "--trainer.default_root_dir", tmp_path,
    ]  # fmt: skip
    cli(*more, "--trainer.max_epochs", 1)
    cli(*more, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    assert "Continues:" in capsys.readouterr().out
    [path] = tmp_path.glob("**/last.ckpt")
    assert torch.load(path, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("batch_size", [5, pytest.param(15, marks=pytest.mark.slow)])
def test_the_schedule_continues_by_epochs(
    cli: Cli, words: list[object], tmp_path: Path, batch_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """After one of two epochs, with 3 steps of 10 images, the learning rate is halfway and ends at the minimum."""
    caplog.set_level("INFO")
    cli(*words, "--trainer.max_epochs", 2, "--data.batch_size", batch_size, "--trainer.default_root_dir", tmp_path,
        "--trainer.log_every_n_steps", 1)  # fmt: skip
    steps = 30 // batch_size
    assert f"The number of steps per epoch has changed: the schedule continues from step {steps} of {2 * steps}." in (
        caplog.text
    )
    [path] = tmp_path.glob("**/metrics.csv")
    with path.open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    cosine = [1e-5 + (0.01 - 1e-5) * (1 + math.cos(math.pi * step / (2 * steps))) / 2 for step in range(2 * steps)]
    assert rates[-steps:] == pytest.approx(cosine[steps:], rel=1e-6)
