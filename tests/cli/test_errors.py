"""Wrong input gets one sentence that says what is wrong and what to do, an exit code, and leaves no partial files."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inceptionnext_lit.cli.preflight import check_start_method
from inceptionnext_lit.errors import UserError
from tests.recipes import REPO, SMALL

Cli = Callable[..., None]
MakeFolder = Callable[..., Path]


@pytest.fixture
def refused(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail; return its one-line error."""

    def run(*words: object, code: int = 1) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as exit_:
            cli(*words)
        assert exit_.value.code == code
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert "Traceback" not in error
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0].removeprefix("error: ")

    return run


@pytest.fixture
def folder(make_folder: MakeFolder, tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"train": 8, "val": 4})


def test_a_missing_imagenet(refused: Callable[..., str], tmp_path: Path) -> None:
    message = refused("fit", "--config", REPO / "configs/iso_s.yaml", "--data.root", "no/such/imagenet")
    assert "no/such/imagenet does not exist" in message
    assert "ROOT/train/CLASS/*.jpg" in message
    assert "--data.root ROOT" in message
    assert "--data.root" in refused("fit", "--config", REPO / "configs/iso_s.yaml")


def test_folders_without_classes(refused: Callable[..., str], tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty" in refused("fit", *SMALL, "--data.root", empty)
    loose = tmp_path / "loose"
    shutil.copytree(folder / "train" / "bag", loose)
    assert "loose" in refused("fit", *SMALL, "--data.root", loose)


def test_one_class_only(refused: Callable[..., str], make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "one", {"train": 4, "val": 2}, classes=("bag",))
    message = refused("fit", *SMALL, "--data.root", root)
    assert "bag" in message
    assert "one class" in message.lower() or "only class" in message.lower()


def test_an_empty_class_folder(refused: Callable[..., str], folder: Path) -> None:
    (folder / "train" / "void").mkdir()
    message = refused("fit", *SMALL, "--data.root", folder, "--data.batch_size", 4)
    assert str(folder / "train" / "void") in message


@pytest.mark.slow
def test_a_class_in_val_that_train_lacks(refused: Callable[..., str], folder: Path) -> None:
    shutil.copytree(folder / "val" / "bag", folder / "val" / "zebra")
    message = refused("fit", *SMALL, "--data.root", folder, "--data.batch_size", 4)
    assert "zebra" in message
    assert "train" in message


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str], workers: int) -> None:
    broken = folder / "val" / "coat" / "broken.png"
    broken.write_text("not an image")
    words = ["fit", *SMALL, "--data.root", folder, "--data.batch_size", 4, "--trainer.max_epochs", 1]
    with pytest.raises(SystemExit) as exit_:
        cli(*words, "--data.num_workers", workers)
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert str(broken) in lines[0]
    assert "Traceback" not in error


def test_a_batch_larger_than_the_data_set(refused: Callable[..., str], folder: Path) -> None:
    message = refused("fit", *SMALL, "--data.root", folder, "--data.batch_size", 25)
    assert "batch_size of 25" in message
    assert "24 training images" in message
    assert "--data.batch_size" in message


def test_a_global_batch_that_cannot_be_divided(refused: Callable[..., str], folder: Path) -> None:
    words = ["--data.root", folder, "--data.batch_size", 4, "--data.global_batch_size", 10]
    message = refused("fit", *SMALL, *words)
    assert message.startswith(
        "10 images per step (data.global_batch_size) are not a multiple of 4 (data.batch_size) × 1 device"
    )
    assert message.endswith(
        "choose --data.batch_size 2 or 5, or --data.global_batch_size 8 or 12 (to which model.lr must be adapted)."
    )


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("inceptionnext_tiny", 16),
        pytest.param("inceptionnext_iso_small", 12, marks=pytest.mark.slow),
        ("vit_tiny_patch16_224", 12),
    ],
)
def test_an_image_size_that_the_model_cannot_take(
    refused: Callable[..., str], folder: Path, model: str, size: int
) -> None:
    words = ["--data.root", folder, "--data.batch_size", 4, "--data.image_size", size]
    message = refused("fit", *SMALL, "--model.name", model, *words)
    assert model in message
    assert str(size) in message
    assert "--data.image_size" in message


def test_an_unknown_model(refused: Callable[..., str], folder: Path) -> None:
    message = refused("fit", *SMALL, "--data.root", folder, "--model.name", "inceptionext_tiny")
    assert "inceptionext_tiny" in message
    assert "inceptionnext_tiny" in message


@pytest.mark.slow
def test_model_arguments_that_the_model_does_not_take(refused: Callable[..., str], folder: Path) -> None:
    message = refused("fit", *SMALL, "--data.root", folder, "--model.kwargs", "{dept: 3}")
    assert "dept" in message
    assert "model.kwargs" in message


@pytest.mark.parametrize(
    ("words", "wrong", "right"),
    [
        (["--trainer.max_epoch", 3], "trainer.max_epoch", "trainer.max_epochs"),
        (["--trainer.max_ep", 3], "trainer.max_ep", "trainer.max_epochs"),
        (["--data.batch", 3], "data.batch", "data.batch_size"),
        (["--conf", "x"], "conf", "config"),
        (["--data.batchsize", 3], "data.batchsize", "data.batch_size"),
        (["--data.roo", "x"], "data.roo", "data.root"),
        (["--model.loss.mix.mixupp", 1], "model.loss.mix.mixupp", "model.loss.mix.mixup"),
        (["--model.schedule.warmup_epoch", 1], "model.schedule.warmup_epoch", "model.schedule.warmup_epochs"),
        (["--data.augmentation.hflp", 1], "data.augmentation.hflp", "data.augmentation.hflip"),
        (["--modl.lr", 1], "modl.lr", "model.lr"),
        (["--modl.lrr", 1], "modl.lrr", "model"),
        (["--max_epochs", 3], "max_epochs", "trainer.max_epochs"),
        (["--trainer.max-epochs=3"], "trainer.max-epochs", "trainer.max_epochs"),
        (["--ckpt_pth", "x"], "ckpt_pth", "ckpt_path"),
    ],
)
def test_misspelled_and_abbreviated_keys(
    refused: Callable[..., str], words: list[object], wrong: str, right: str
) -> None:
    message = refused("fit", *words, code=2)
    found = re.fullmatch(r"Unknown key '(.+)'; did you mean (\S+).*\?", message)
    assert found is not None, message
    assert (found[1], found[2].rstrip("?")) == (wrong, right)


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("trainer:\n  max_epoch: 3\n", "trainer.max_epoch", "trainer.max_epochs"),
        ("model:\n  nam: x\n", "model.nam", "model.name"),
        ("model:\n  class_path: ClassificationTask\n  init_args:\n    nam: x\n", "model.nam", "model.name"),
        ("data:\n  augmentation:\n    erasin: 1\n", "data.augmentation.erasin", "data.augmentation.erasing"),
    ],
)
def test_misspelled_keys_in_a_recipe(
    refused: Callable[..., str], tmp_path: Path, text: str, wrong: str, right: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    message = refused("fit", "--config", "recipe.yaml", code=2)
    assert f"Unknown key {wrong!r}" in message
    assert right in message


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [("model", "resnet18", "the name of a model is model.name"), ("data", "photos", "a folder of images is data.root")],
)
def test_a_value_instead_of_a_class(refused: Callable[..., str], key: str, value: str, meant: str) -> None:
    assert refused("fit", *SMALL, f"--{key}", value, code=2) == f"{key} is {value!r}, which is not a class; {meant}."


def test_values_of_the_wrong_type(refused: Callable[..., str]) -> None:
    assert refused("fit", "--model.lr", "fast", code=2) == "model.lr: Expected float or one of 'auto'. Got value: fast"
    message = refused("fit", "--data.augmentation", "srong", code=2)
    assert message.startswith("data.augmentation: ")
    assert "'strong'" in message
    assert "data.augmentation.hflip is 7.0" in refused("fit", "--data.root", "sample", "--data.augmentation.hflip", 7)
    assert "model.lr is -1.0" in refused("fit", *SMALL, "--model.lr", -1)
    assert "'Foo'" in refused("fit", "--model", "Foo", code=2)
    assert refused("ft", code=2) == "Unknown command 'ft'; did you mean fit?"
    message = refused("fit", "--model.ema_decay", "x", code=2)
    assert message == "model.ema_decay: Expected float or null. Got value: x"
    assert "seed_everything is -1" in refused("fit", *SMALL, "--seed_everything", -1)
    assert "run_name is '../x'" in refused("fit", *SMALL, "--run_name", "../x")
    message = refused("fit", *SMALL, "--checkpoint.monitor", "val_acc1")
    assert (
        message
        == "checkpoint.monitor is 'val_acc1', which is not logged; did you mean val/acc1 or val/acc5 or val/macro_acc?"
    )
    assert "val_ema/acc1" in refused("fit", *SMALL, "--checkpoint.monitor", "val_ema/acc1")  # without averaged weights


def test_an_output_folder_that_cannot_be_written(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refused("fit", *SMALL, "--trainer.default_root_dir", tmp_path / "file" / "runs")
    assert f"{tmp_path}/file/runs cannot be written: Not a directory" in message
    assert "--trainer.default_root_dir" in message


@pytest.mark.slow
def test_a_checkpoint_of_another_model(refused: Callable[..., str], trained: Path) -> None:
    for command in ("fit", "validate", "predict"):
        words = [command, "--ckpt_path", trained / "checkpoints/last.ckpt", "--data.root", "sample"]
        message = refused(*words, "--model.name", "inceptionnext_iso_nano")
        assert "'inceptionnext_iso_micro', not 'inceptionnext_iso_nano'" in message


def test_predicting_on_several_devices(refused: Callable[..., str], trained: Path) -> None:
    words = ["predict", "--ckpt_path", trained / "checkpoints/last.ckpt", "--data.root", "sample"]
    message = refused(*words, "--trainer.devices", 2, "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp_spawn")
    assert "one device, not 2" in message


def test_strategies_that_fork_or_spawn(refused: Callable[..., str], folder: Path) -> None:
    words = ["--data.root", folder, "--data.batch_size", 4, "--trainer.accelerator", "cpu", "--trainer.devices", 2]
    message = refused("fit", *SMALL, *words, "--trainer.strategy", "ddp_notebook")
    assert message == (
        "trainer.strategy is ddp_notebook; give --trainer.strategy ddp, which starts a rank for each device with the "
        "same command line. In a notebook, run that from a terminal or use --trainer.devices 1."
    )
    by_class = ["--trainer.strategy", "lightning.pytorch.strategies.DDPStrategy"]
    message = refused("fit", *SMALL, *words, *by_class, "--trainer.strategy.start_method", "fork")
    assert message.startswith("trainer.strategy is one that starts ranks by fork; give --trainer.strategy ddp")
    for name in ("ddp_spawn", "ddp_fork", "ddp_notebook_find_unused_parameters_true"):
        with pytest.raises(
            UserError, match=f"trainer.strategy is {name.removesuffix('_find_unused_parameters_true')};"
        ):
            check_start_method(name)
    for name in ("ddp", "ddp_find_unused_parameters_true", "auto", "fsdp"):
        check_start_method(name)


def test_files_that_are_not_checkpoints(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "No checkpoint at nope.ckpt" in refused("predict", "--ckpt_path", "nope.ckpt")
    assert "--ckpt_path" in refused("predict", "--data.root", "sample")
    (tmp_path / "empty.ckpt").touch()
    assert "empty.ckpt is empty (0 bytes)" in refused("validate", "--ckpt_path", "empty.ckpt")
    (tmp_path / "text.ckpt").write_text("weights, honestly")
    assert "text.ckpt is not a checkpoint" in refused("test", "--ckpt_path", "text.ckpt")


class TouchFile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_with_code(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": {}, "hyper_parameters": TouchFile()}, tmp_path / "evil.ckpt")
    assert "contains code (posix.system)" in refused(command, "--ckpt_path", "evil.ckpt", "--data.root", "sample")


@pytest.mark.slow
def test_predict_without_images_and_to_nowhere(refused: Callable[..., str], trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "checkpoints/best.ckpt"
    (tmp_path / "void").mkdir()
    assert "No images below" in refused("predict", "--ckpt_path", checkpoint, "--data.root", tmp_path / "void")
    assert "does not exist" in refused("predict", "--ckpt_path", checkpoint, "--data.root", "nowhere")
    message = refused("predict", "--ckpt_path", checkpoint, "--data.root", "sample", "--output", "labels.txt")
    assert message == "--output is labels.txt; it must end in .csv, .jsonl, .json or .parquet."


@pytest.mark.slow
def test_arguments_that_are_not_keys(refused: Callable[..., str], trained: Path, sample: Path) -> None:
    for command in ("fit", "validate", "test"):
        message = refused(command, "photos", "--data.root", "sample", code=2)
        assert message.startswith("A key is expected instead of 'photos'; keys begin with --")
    checkpoint = trained / "checkpoints/best.ckpt"
    message = refused("predict", "--ckpt_path", checkpoint, "photos", code=2)
    assert message.endswith("images follow the command predict directly.")
    message = refused("predict", "photos", "--ckpt_path", checkpoint, "--data.root", "sample")
    assert message == "Images are given twice, by photos after predict and by --data.root; leave one out."
    assert "No images that match *.png" in refused("predict", sample, "*.png", "--ckpt_path", checkpoint)
    message = refused("fit", "--data.root", "[a, b]")
    assert "a, b" in message


def test_resuming_a_run_that_is_finished(refused: Callable[..., str], trained: Path) -> None:
    words = ["fit", *SMALL, "--ckpt_path", trained / "checkpoints/last.ckpt", "--model.ema_decay", 0.9]
    message = refused(*words, "--trainer.max_epochs", 2)
    assert message == "The checkpoint has 2 epochs already; set --trainer.max_epochs above 2."


def test_resuming_on_other_classes(refused: Callable[..., str], trained: Path, make_folder: MakeFolder) -> None:
    root = make_folder(trained.parent / "other", {"train": 8, "val": 4}, classes=("bag", "coat"))
    (root / "train" / "zebra").mkdir()
    shutil.copy(next((root / "train" / "bag").iterdir()), root / "train" / "zebra")
    words = ["fit", "--ckpt_path", trained / "checkpoints/last.ckpt", "--data.root", root, "--data.batch_size", 4]
    message = refused(*words)
    assert "zebra" in message
    assert "ankle-boot" in message


@pytest.mark.slow
def test_freezing_random_weights(refused: Callable[..., str], folder: Path) -> None:
    words = ["fit", *SMALL, "--data.root", folder, "--data.batch_size", 4]
    message = refused(*words, "--model.finetuning.freeze", "backbone")
    assert message.startswith("model.finetuning.freeze backbone keeps random weights")
    assert "--model.finetuning.allow_random true" in message
    assert refused(*words, "--model.finetuning.probe_epochs", 1).startswith("model.finetuning.probe_epochs 1 keeps")
