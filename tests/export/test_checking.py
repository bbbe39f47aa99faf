"""A file that differs from its checkpoint is refused and leaves nothing."""

from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export import pt2
from inceptionnext_lit.export.checking import Checked
from inceptionnext_lit.export.formats import FORMATS
from tests.export.conftest import Export

GOOD = Checked(64, "photos", 1e-6, 64, 1e-6, 1e-4, 64, (), from_pixels=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difference": 2e-4}, "its probabilities by 0.0002 on 64 images, more than 0.0001; nothing was written."),
        ({"difference": nan}, "its probabilities by nan on 64 images"),
        ({"features": nan}, "its features by nan on 64 images"),
        ({"features": 0.002}, "its features by 0.002 on 64 images, more than 0.001; nothing"),
        ({"features": 2e-4, "from_pixels": False}, "its features by 0.0002 on 64 images, more than 0.0001; nothing"),
        (
            {"as_predicted": 63, "others": (("a.png", "cat", "dog"),)},
            "The ONNX file gives 63 of 64 images the label that predict gives; nothing was written. Others (predict's "
            "label, the file's): a.png (cat, dog).",
        ),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    GOOD.refuse(FORMATS["onnx"])
    replace(GOOD, features=None, as_predicted=64).refuse(FORMATS["onnx"])
    replace(GOOD, features=9e-4).refuse(FORMATS["onnx"])
    with pytest.raises(UserError) as refused:
        replace(GOOD, **changes).refuse(FORMATS["onnx"])  # type: ignore[arg-type]
    assert message in str(refused.value)


def test_a_wrong_file_leaves_nothing(
    export: Export, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pt2.ModuleSession.run
    monkeypatch.setattr(
        pt2.ModuleSession, "run", lambda self, images: [np.roll(one, 1, axis=1) for one in run(self, images)]
    )
    with pytest.raises(SystemExit):
        export("x.pt2", "--format", "pt2", "--dynamic", "batch")
    assert "The torch.export file differs from the checkpoint: its probabilities by 0." in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["best.ckpt"]
