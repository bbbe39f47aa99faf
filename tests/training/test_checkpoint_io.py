import os
import pickle
from pathlib import Path

import pytest
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO, open_checkpoint, read_checkpoint
from tests.forked import run_code


class Dangerous:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_round_trip_and_mode(tmp_path: Path) -> None:
    target = tmp_path / "new" / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"state_dict": {"a": torch.arange(3)}, "epoch": 4}, target)
    content = read_checkpoint(target)
    assert content["epoch"] == 4
    torch.testing.assert_close(content["state_dict"]["a"], torch.arange(3))
    assert [path.name for path in target.parent.iterdir()] == ["last.ckpt"]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"state_dict": {}, "epoch": 1}, target)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        SafeCheckpointIO().save_checkpoint({"state_dict": {}, "bad": lambda: None}, target)
    assert read_checkpoint(target)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("environment", [None, "1"])
def test_code_is_refused_and_not_run(
    tmp_path: Path, zipped: bool, environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    marker = tmp_path / "ran"
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "x": Dangerous(marker)}, path, _use_new_zipfile_serialization=zipped)
    for mmap in (False, True):
        with pytest.raises(UserError, match=rf"{path} contains code \(posix\.system\)"):
            read_checkpoint(path, mmap=mmap)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"dear diary, today I trained a model\n", "not a checkpoint, or is damaged"),
        (bytes(range(256)) * 4, "not a checkpoint, or is damaged"),
        (b"PK\x03\x04 and then nothing", "not a checkpoint, or is damaged"),
    ],
)
def test_files_that_are_not_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    for mmap in (False, True):
        with pytest.raises(UserError, match=message):
            read_checkpoint(path, mmap=mmap)


@pytest.mark.parametrize("address", ["https://example.org/evil.ckpt", "s3://bucket/last.ckpt", "file:///x.ckpt"])
def test_urls_are_refused(address: str) -> None:
    with pytest.raises(UserError, match=rf"^{address} is a URL \(\w+\); checkpoints are read from local files only"):
        read_checkpoint(address)
    with pytest.raises(UserError, match=r"is a URL"):
        SafeCheckpointIO().load_checkpoint(address)


def test_a_full_disk(tmp_path: Path) -> None:
    """Run in a process with a real file-size limit of a million bytes."""
    script = """
import resource, signal, sys, torch
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
SafeCheckpointIO().save_checkpoint({"state_dict": {"a": torch.zeros(1_000_000)}, "epoch": 2}, sys.argv[1])
"""
    target = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"state_dict": {}, "epoch": 1}, target)
    done = run_code(script, [target], tmp_path)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith(
        f"inceptionnext_lit.errors.UserError: The checkpoint {target} could not be written: File too"
    )
    assert "about 4,000,000 bytes" in message
    assert f"the previous one, {target}, is intact" in message
    assert read_checkpoint(target)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_missing_folder_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No checkpoint at .*nope\.ckpt"):
        read_checkpoint(tmp_path / "nope.ckpt")
    with pytest.raises(UserError, match="is a folder"):
        read_checkpoint(tmp_path)
    torch.save({"model": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="no 'state_dict' entry"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)


def test_an_open_checkpoint_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"state_dict": {"a": torch.arange(3.0)}, "epoch": 1}, path)
    opened = open_checkpoint(path)
    SafeCheckpointIO().save_checkpoint({"state_dict": {"a": torch.zeros(3)}, "epoch": 2}, path)
    reader = SafeCheckpointIO(opened)
    first, second, other = reader.load_checkpoint(path), reader.load_checkpoint(path), reader.load_checkpoint(str(path))
    assert [content["epoch"] for content in (first, second, other)] == [1, 2, 2]
    torch.testing.assert_close(first["state_dict"]["a"], torch.arange(3.0))
    first["state_dict"]["a"].zero_()
    torch.testing.assert_close(opened.content["state_dict"]["a"], torch.arange(3.0))


def test_a_checkpoint_with_nan_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"state_dict": {"a": torch.tensor([1.0, float("nan")])}}, path)
    with pytest.raises(UserError, match=rf"The checkpoint {path} contains NaN or infinite values in a;"):
        open_checkpoint(path)
