import argparse
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import jsonargparse
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_load import load_plain, read_metadata

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}


class Dangerous:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def assert_same(content: dict[str, torch.Tensor]) -> None:
    assert content.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(content[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.ckpt", "w.safetensors", "weights"])
def test_the_format_is_detected_from_the_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for zipped in (True, False):
        torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
        for mmap in (False, True):
            assert_same(load_plain(path, mmap=mmap))
        assert read_metadata(path) == {}
    save_file(TENSORS, path, metadata={"model": "inceptionnext_atto"})
    assert_same(load_plain(str(path)))
    assert read_metadata(str(path)) == {"model": "inceptionnext_atto"}
    save_file(TENSORS, path)
    assert read_metadata(path) == {}


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("environment", [None, "1"])
def test_code_is_rejected_and_not_run(
    tmp_path: Path, name: str, zipped: bool, environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    marker = tmp_path / "ran"
    path = tmp_path / name
    torch.save({**TENSORS, "x": Dangerous(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as refused:
        load_plain(path)
    assert str(refused.value) == (
        f"The file {path} contains code (posix.system) besides weights; it was refused and nothing in it was run."
    )
    assert not marker.exists()


def test_the_arguments_of_timms_training_script_are_plain_data(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "args": argparse.Namespace(lr=0.1)}, tmp_path / "checkpoint.pth.tar")
    content = load_plain(tmp_path / "checkpoint.pth.tar")
    assert content["args"].lr == 0.1
    assert_same(content["state_dict"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5), (np.float32(0.5), 0.5), (np.int64(3), 3), (np.bool_(True), True), (np.str_("x"), "x"),
        (np.longdouble(2), 2), (np.complex64(1j), 1j), (np.datetime64("2020-01-02"), np.datetime64("2020-01-02")),
        (argparse.Namespace(lr=np.float32(0.5), data=PurePosixPath("a/b")), None),
        (SimpleNamespace(lr=0.1, inner=argparse.Namespace(seed=np.int32(1))), None),
        (jsonargparse.Namespace(lr=0.1), argparse.Namespace(lr=0.1)),
        (Path("a/b"), PurePosixPath("a/b")),
        ({"best": [np.float64(1.0)]}, None),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_plain_values_besides_weights_are_loaded(tmp_path: Path, value: object, expected: object, zipped: bool) -> None:
    torch.save({"state_dict": TENSORS, "x": value}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    content = load_plain(tmp_path / "w.pth")
    assert content["x"] == (value if expected is None else expected)
    assert_same(content["state_dict"])


def test_an_array_besides_weights(tmp_path: Path) -> None:
    torch.save({**TENSORS, "mean": np.array([0.5, 0.25])}, tmp_path / "w.pth")
    assert load_plain(tmp_path / "w.pth")["mean"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    "wrap", [lambda x: [np.ones(1), x], lambda x: argparse.Namespace(x=x), lambda x: SimpleNamespace(x=x)]
)
def test_code_within_plain_values_is_rejected(tmp_path: Path, wrap: Callable[[object], object]) -> None:
    marker = tmp_path / "ran"
    torch.save({**TENSORS, "x": wrap(Dangerous(marker))}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"contains code \(posix\.system\) besides weights"):
        load_plain(tmp_path / "evil.pth")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"The checkpoint .*x\.pth is empty \(0 bytes\)"),
        (b"dear diary, today I trained a model\n", "is not a checkpoint, or is damaged"),
        (b"PK\x03\x04 and then nothing", "is not a checkpoint, or is damaged"),
        ((20).to_bytes(8, "little") + b'{"a": "not a header"}', "is not a checkpoint, or is damaged"),
    ],
)
def test_files_that_are_not_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_plain(path)


@pytest.mark.parametrize("left", [-3, 40])
def test_a_safetensors_file_that_was_cut_off(tmp_path: Path, left: int) -> None:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path, metadata={"model": "a"})
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match="damaged"):
        load_plain(path)
    if left < 0:
        with pytest.raises(UserError, match="damaged"):
            read_metadata(path)


def test_missing_folder_and_not_a_dictionary(tmp_path: Path) -> None:
    for read in (load_plain, read_metadata):
        with pytest.raises(UserError, match=r"^No checkpoint at .*nope\.pth; check the path\.$"):
            read(tmp_path / "nope.pth")
        with pytest.raises(UserError, match="is a folder, not a checkpoint"):
            read(tmp_path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth contains a list, but a checkpoint is a dictionary"):
        load_plain(tmp_path / "list.pth")
