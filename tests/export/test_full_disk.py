"""Disks that are full while a file is exported: on Linux, ``/dev/full`` refuses every byte."""

import errno
import sys
from pathlib import Path

import pytest
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.aoti import compile_program
from inceptionnext_lit.export.openvino import save_model
from inceptionnext_lit.export.pt2 import save_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A folder whose model files take no byte."""
    for name in ("model.pt2", "model.xml", "model.bin"):
        (tmp_path / name).symlink_to("/dev/full")
    return tmp_path


def program() -> torch.export.ExportedProgram:
    return torch.export.export(torch.nn.Linear(64, 64), (torch.zeros(1, 64),))


def test_graphs_of_torch(full: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as failed:
        save_program(program(), full / "model.pt2")
    assert failed.value.errno == errno.ENOSPC


@pytest.mark.slow
def test_machine_code(full: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as failed:
        compile_program(program(), full / "model.pt2")
    assert failed.value.errno == errno.ENOSPC


def test_openvino(full: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model = openvino.convert_model(program(), example_input=torch.zeros(1, 64))
    with pytest.raises(UserError, match=r"^OpenVINO could not write model\.xml: .* bytes are free on its"):
        save_model(model, full / "model.xml")
