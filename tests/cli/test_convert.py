"""The command ``convert``: its output, and errors for wrong input."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from inceptionnext_lit.program import exact_name
from inceptionnext_lit.tasks import ClassificationTask

pytestmark = [
    pytest.mark.filterwarnings("ignore:model.schedule.min_lr is"),  # a learning rate at which weights do not change
]

MICRO = "inceptionnext_iso_micro"
Convert = Callable[..., list[str]]
Refused = Callable[..., str]


@pytest.fixture
def convert(cli: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Convert:
    """Run the command in this process; return the lines that it prints."""

    def run(*words: object) -> list[str]:
        capsys.readouterr()
        cli("convert", *words)
        out, error = capsys.readouterr()
        assert error == ""
        return out.splitlines()

    return run


@pytest.fixture
def refused(cli: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the command, which must fail and change nothing; return its one-line error."""

    def files() -> dict[str, bytes | None]:
        return {str(path): path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    def run(*words: object, code: int = 1) -> str:
        capsys.readouterr()
        before = files()
        with pytest.raises(SystemExit) as exit_:
            cli("convert", *words)
        assert exit_.value.code == code
        out, error = capsys.readouterr()
        assert (out, error[:7], error.count("\n")) == ("", "error: ", 1)
        assert files() == before
        return error.removeprefix("error: ").rstrip("\n")

    return run


def logits(model: nn.Module) -> Tensor:
    images = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(images)


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_runs_checkpoint(trained: Path, convert: Convert, tmp_path: Path, name: str) -> None:
    checkpoint = trained / f"checkpoints/{name}.ckpt"
    before = checkpoint.read_bytes()
    assert convert(checkpoint, "--output", f"new/{name}.safetensors") == [
        f"new/{name}.safetensors: {MICRO}, averaged weights, 10 classes, 59,854 parameters",
        f"Next: {exact_name()} fit --model.name {MICRO} --model.pretrained new/{name}.safetensors "
        "--data.image_size 28 --data.root FOLDER",
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{name}.safetensors"]
    assert checkpoint.read_bytes() == before

    task = ClassificationTask.load_from_checkpoint(checkpoint, weights_only=True)
    model = timm.create_model(MICRO, num_classes=10)
    model.load_state_dict(load_file(tmp_path / f"new/{name}.safetensors"), strict=True)
    torch.testing.assert_close(logits(model), logits(task), rtol=0, atol=1e-6)
    with safe_open(tmp_path / f"new/{name}.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["weights"] == "ema"
    assert json.loads(metadata["class_names"]) == task.class_names
    assert json.loads(metadata["preprocessing"]) == task.preprocessing


def test_raw_weights_with_every_tensor_listed(trained: Path, convert: Convert, tmp_path: Path) -> None:
    first, *tensors, last = convert(
        "--details", "--weights", "raw", "--output", tmp_path / "raw.safetensors", trained / "checkpoints/last.ckpt"
    )
    assert first == f"{tmp_path}/raw.safetensors: {MICRO}, raw weights, 10 classes, 59,854 parameters"
    stored = load_file(tmp_path / "raw.safetensors")
    assert sorted(tensors) == sorted(f"{name}: loaded" for name in stored)
    assert last.startswith("Next: ")
    state = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in stored.items():
        assert torch.equal(tensor, state[f"model.{name}"])
    assert not torch.equal(stored["stem.weight"], state["model_ema.module.stem.weight"])


@pytest.mark.slow
def test_the_next_command_runs_as_it_was_printed(
    trained: Path, cli: Callable[..., None], convert: Convert, tmp_path: Path
) -> None:
    output = tmp_path / "two words.safetensors"
    *_, line = convert(trained / "checkpoints/best.ckpt", "--output", output)
    words = shlex.split(line.removeprefix(f"Next: {exact_name()} ").replace("FOLDER", "sample"))
    short = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, "--trainer.limit_val_batches", 1]
    still = ["--model.lr", 1e-9, "--model.schedule.warmup_epochs", 0, "--model.schedule.min_lr", 1e-9]
    cli(*words, *short, "--trainer.accelerator", "cpu", "--data.num_workers", 0, *still)
    trained_on = torch.load(tmp_path / "runs/folder/version_0/checkpoints/last.ckpt", weights_only=True)
    assert trained_on["global_step"] == 1
    for name, tensor in load_file(output).items():
        if not name.partition(".norm.")[2].startswith(("running_", "num_")):  # changed by one batch
            torch.testing.assert_close(trained_on["state_dict"][f"model.{name}"], tensor, rtol=0, atol=1e-6)


def test_an_existing_output_is_replaced(trained: Path, convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "out.safetensors").write_text("old")
    convert(trained / "checkpoints/last.ckpt", "--output", "out.safetensors")
    assert len(load_file(tmp_path / "out.safetensors")) == 51
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]


def test_in_a_new_process(
    trained: Path, shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    # only the checkpoint is available, and no network
    checkpoint = shutil.copy(trained / "checkpoints/best.ckpt", tmp_path / "carried.ckpt")
    done = shell("convert", checkpoint, "--output", "x.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"x.safetensors: {MICRO}, averaged weights, 10 classes, 59,854 parameters\nNext: ")


def test_help(cli: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("convert", "--help")
    page = capsys.readouterr().out
    assert exit_.value.code == 0
    assert page.startswith(
        "usage: python cli.py convert CKPT --output FILE.safetensors [--weights ema|raw] [--details]\n"
    )
    assert page.count("\n  python cli.py convert ") == 2
    for key in ("CKPT", "--output FILE.safetensors", "--weights {ema,raw}", "--details"):
        assert f"\n  {key} " in page or f"\n  {key}\n" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "python cli.py convert needs CKPT, --output; see its --help."),
        (["x.ckpt"], "python cli.py convert needs --output; see its --help."),
        (["--output", "x.safetensors"], "python cli.py convert needs CKPT; see its --help."),
        (["x.ckpt", "--outptu", "x.safetensors"], "Unknown key '--outptu'; did you mean --output?"),
        (["x.ckpt", "--out", "x.safetensors"], "Unknown key '--out'; did you mean --output?"),
        (["--detials"], "Unknown key '--detials'; did you mean --details?"),
        (["x.ckpt", "--output"], "--output: expected one argument."),
    ],
)
def test_wrong_command_lines(refused: Refused, words: list[str], message: str) -> None:
    assert refused(*words, code=2) == message


def test_unknown_weight_set(refused: Refused) -> None:
    message = refused("x.ckpt", "--output", "x.safetensors", "--weights", "avg", code=2)
    assert message.replace("'", "") == "--weights: invalid choice: avg (choose from ema, raw)."


def test_invalid_outputs(trained: Path, refused: Refused, tmp_path: Path) -> None:
    checkpoint = trained / "checkpoints/best.ckpt"
    (tmp_path / "file").touch()
    (tmp_path / "folder.safetensors").mkdir()
    long = f"{'x' * 300}.safetensors"
    for output, reason in {
        "x.pth": "is x.pth; it must end in .safetensors.",
        "file/new/x.safetensors": "file/new/x.safetensors cannot be written: Not a directory; give another one.",
        "folder.safetensors": "folder.safetensors cannot be written: Is a directory; give another one.",
        long: f"{long} cannot be written: File name too long; give another one.",
    }.items():
        assert refused(checkpoint, "--output", output) == f"The output {reason}"
        assert refused("not/read/yet.ckpt", "--output", output) == f"The output {reason}"
    shutil.copy(checkpoint, tmp_path / "odd.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "odd.safetensors")
    for output in ("odd.safetensors", "./odd.safetensors", "link.safetensors"):
        message = f"The output {Path(output)} is the checkpoint itself; give it another name."
        assert refused("odd.safetensors", "--output", output) == message


def test_a_folder_without_permission(
    trained: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root
    message = refused(trained / "checkpoints/best.ckpt", "--output", "new/x.safetensors")
    assert message == "The output new/x.safetensors cannot be written: Permission denied; give another one."


def test_a_disk_that_fills_up(trained: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "x.safetensors").write_text("old")
    monkeypatch.setattr("inceptionnext_lit.models.weights.save_file", full)
    message = refused(trained / "checkpoints/best.ckpt", "--output", "x.safetensors")
    assert message == "x.safetensors cannot be written: No space left on device."


def test_files_that_are_not_checkpoints_of_a_classifier(trained: Path, refused: Refused, tmp_path: Path) -> None:
    assert refused("no.ckpt", "--output", "new/x.safetensors") == "No checkpoint at no.ckpt; check the path."
    message = refused(trained, "--output", "x.safetensors")
    assert message == f"{trained} is a folder, not a checkpoint; give the path of a file in it."
    (tmp_path / "text.ckpt").write_text("weights, honestly")
    message = refused("text.ckpt", "--output", "x.safetensors")
    assert message == "The file text.ckpt is not a checkpoint, or is damaged; nothing in it was run."
    content = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    torch.save(content["state_dict"], tmp_path / "bare.pth")
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "foreign.ckpt")
    for name in ("bare.pth", "foreign.ckpt"):
        assert refused(name, "--output", "x.safetensors") == (
            f"{name} is not a checkpoint of a classifier: it does not name its model. "
            f"Use it with fit directly: --model.name NAME --model.pretrained {name}."
        )


def test_output_of_convert_is_not_a_checkpoint(trained: Path, convert: Convert, refused: Refused) -> None:
    convert(trained / "checkpoints/best.ckpt", "--output", "once.safetensors")
    message = refused("once.safetensors", "--output", "twice.safetensors")
    assert re.match(
        r"once\.safetensors is not a checkpoint of a classifier.* --model\.pretrained once\.safetensors\.$", message
    )


def test_averages_that_were_not_kept(trained: Path, refused: Refused, tmp_path: Path) -> None:
    content = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    state = content["state_dict"]
    raw = {name: tensor for name, tensor in state.items() if not name.startswith("model_ema.")}
    torch.save(content | {"state_dict": raw}, tmp_path / "raw.ckpt")
    message = refused("raw.ckpt", "--output", "x.safetensors", "--weights", "ema")
    assert message == "No averaged weights in raw.ckpt, only raw ones; ask for those."


class TouchFile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_a_checkpoint_with_code(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": {}, "hyper_parameters": TouchFile()}, tmp_path / "evil.ckpt")
    message = refused("evil.ckpt", "--output", "x.safetensors")
    assert message.startswith("The file evil.ckpt contains code (posix.system) besides weights; it was refused")


def test_an_unknown_model(trained: Path, refused: Refused, tmp_path: Path) -> None:
    content = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    content["hyper_parameters"]["name"] = "inceptionnext_iso_mikro"
    torch.save(content, tmp_path / "x.ckpt")
    message = refused("x.ckpt", "--output", "x.safetensors")
    assert message.startswith(f"Unknown model 'inceptionnext_iso_mikro'. The nearest names are: {MICRO}, ")
