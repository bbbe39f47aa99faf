"""Every example runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes import REPO


def run(script: str, *words: object, cwd: Path) -> str:
    command = [sys.executable, str(REPO / "examples" / script), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_timm_model(tmp_path: Path) -> None:
    output = run("timm_model.py", cwd=tmp_path)
    assert "logits (2, 10)" in output
    assert "stride 32 features (1, 768, 7, 7)" in output


def test_finetune_folder_then_predict_from_checkpoint(tmp_path: Path, sample: Path) -> None:
    output = run("finetune_folder.py", sample / "val", "--epochs", 8, cwd=tmp_path)
    found = re.search(r"best val/acc1 (\S+) in (\S+best\.ckpt)", output)
    assert found is not None
    assert float(found[1]) > 0.3
    images = sorted((sample / "train" / "trouser").iterdir())[:2]
    output = run("predict_from_checkpoint.py", found[2], *images, cwd=tmp_path)
    assert re.fullmatch(rf"{images[0]}: \S+ \(\d+\.\d%\)\n{images[1]}: \S+ \(\d+\.\d%\)\n", output)


@pytest.mark.parametrize("path", sorted((REPO / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_tested(path: Path) -> None:
    assert f'"{path.name}"' in Path(__file__).read_text()
