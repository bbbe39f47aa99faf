"""The code in the guide to training in Python, and the data module of a trained classifier."""

import re
from pathlib import Path

import pytest

from inceptionnext_lit.data import InputOptions, matching_data
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from tests.forked import run_code
from tests.pages import DOCS, blocks
from tests.small_checkpoint import INPUT


def test_the_code_of_the_guide_runs_in_order(tmp_path: Path) -> None:
    code = "\n".join(blocks("python", DOCS / "guides/python.md"))
    done = run_code(code, [], tmp_path)
    assert done.returncode == 0, done.stderr
    [metrics, batch] = re.findall(r"^[\[(].*$", done.stdout, re.MULTILINE)[-2:]
    assert metrics == "['val/acc1', 'val/acc5', 'val/loss', 'val/macro_acc']"
    assert batch == "(64, 3, 28, 28) torch.float32"
    assert "prepared in another way" not in done.stderr


def test_the_data_of_a_classifier() -> None:
    preprocessing = {**INPUT, "image_size": [28, 32], "crop_mode": "squash", "nodata": 0.0, "exif": "ignore"}
    spec = DataSpec(["b", "a"], preprocessing=preprocessing)  # type: ignore[arg-type]
    data = matching_data(spec, "sample", batch_size=3, num_workers=0)
    assert data.preprocessing == preprocessing
    assert (data.classes, data.batch_size, data.multi_label) == (["b", "a"], 3, False)
    other = matching_data(spec, "sample", image_size=64, input=InputOptions(), multi_label=True)
    assert (other.preprocessing["image_size"], other.preprocessing["mean"]) == (64, [0.485, 0.456, 0.406])
    assert other.multi_label
    with pytest.raises(UserError, match=r"^The model does not say how its images were prepared; create ImageFolder"):
        matching_data(DataSpec(["a"]), "sample")
