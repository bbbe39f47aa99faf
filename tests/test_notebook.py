"""The package in a notebook kernel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.recipes import REPO, SMALL

SETUP = """
from lightning.pytorch import Trainer
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask

def fit(**settings):
    data = ImageFolderDataModule({root!r}, image_size=28, batch_size=6, num_workers=0)
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3))
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer = Trainer(max_epochs=1, accelerator="cpu", **quiet, **settings)
    trainer.fit(task, data)
    print("val/acc1", round(9 * float(trainer.callback_metrics["val/acc1"]), 4) in range(10))
"""
COMMAND = """
import sys
from inceptionnext_lit.cli import main
main({words!r})
"""
REFUSED = """
try:
    main({words!r})
except SystemExit as exit_:
    print("exit code", exit_.code)
"""


def outputs(cells: list[str], folder: Path) -> list[str]:
    """Return the outputs of a notebook's cells, run in order by one kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return ["".join(map(_text, cell.outputs)) for cell in notebook.cells]


def _text(output: Any) -> str:
    return str(output["text"] if "text" in output else output.get("data", {}).get("text/plain", ""))


@pytest.fixture
def root(make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    return make_folder(tmp_path / "data", {"train": 8, "val": 3})


@pytest.mark.slow
def test_training_from_python_and_by_the_command_line(root: Path, tmp_path: Path) -> None:
    words = ["fit", *SMALL, "--data.root", str(root), "--data.batch_size", "6", "--trainer.max_epochs", "1"]
    words += ["--trainer.accelerator", "cpu"]
    cells = [SETUP.format(root=str(root)), "fit()", COMMAND.format(words=words)]
    cells.append(REFUSED.format(words=[*words, "--trainer.devices", "2"]))
    _, by_python, by_command, of_several = outputs(cells, tmp_path)
    assert "val/acc1 True" in by_python
    assert "Checkpoint: runs/quickstart/version_0/checkpoints/best.ckpt" in by_command
    assert "error: trainer.strategy is one that starts ranks by fork; give --trainer.strategy ddp" in of_several
    assert of_several.endswith("exit code 1\n")
    assert sorted(path.name for path in (tmp_path / "runs/quickstart").iterdir()) == ["version_0"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp_notebook", "ddp_fork"])
def test_training_on_two_devices_from_python(root: Path, tmp_path: Path, strategy: str) -> None:
    _, printed = outputs([SETUP.format(root=str(root)), f"fit(devices=2, strategy={strategy!r})"], tmp_path)
    assert "val/acc1 True" in printed
