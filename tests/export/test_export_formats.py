"""Every format that runs here, for models of every kind; those of phones are in test_export_mobile.py."""

import json
from pathlib import Path

import pytest

from inceptionnext_lit import ExportedClassifier, load_classifier
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS, Format, format_of
from tests.export.conftest import CALIBRATION, Export, assert_same

MODELS = {
    "inceptionnext_iso_nano": {},
    "inceptionnext_atto": {},
    "metanext_attn_nano": {},
    "deit_tiny_patch16_224": {"img_size": 64},
}
ONE_SIZE = {"deit_tiny_patch16_224"}
MOBILE = ("executorch", "coreml", "litert")
RUN = [one for one in FORMATS.values() if one.name not in MOBILE]
STEPS = {"image_size": 64, "crop_pct": 0.9}


def names(one: Format) -> str:
    return one.name


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("one", RUN, ids=names)
def test_models(export: Export, photos: list[str], one: Format, name: str) -> None:
    """From pixels, with features and several labels."""
    arguments = {"name": name, "kwargs": MODELS[name], "preprocessing": STEPS, "calibration": CALIBRATION}
    file = export(f"x{one.suffix}", "--format", one.name, "--features", multi_label=True, **arguments)
    assert format_of(file) is one
    content = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert content["check"]["predict"]["same_labels"] == 64
    assert content["check"]["max_probability_difference"] <= one.tolerance
    assert_same(load_classifier(file).predict(photos), load_classifier("best.ckpt", device="cpu").predict(photos), 5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("one", [one for one in RUN if one.name != "aoti"], ids=names)
def test_models_from_tensors(
    export: Export, photos: list[str], capsys: pytest.CaptureFixture[str], one: Format, name: str
) -> None:
    """Logits, for images of any size where the model takes them."""
    words = ["--format", one.name, "--input", "tensor"]
    arguments = {"name": name, "kwargs": MODELS[name], "preprocessing": STEPS}
    if name in ONE_SIZE:
        with pytest.raises(SystemExit):
            export(f"x{one.suffix}", *words, "--dynamic", "batch,size", **arguments)
        assert "it takes images of one size only; leave size out of --dynamic" in capsys.readouterr().err
        assert sorted(path.name for path in Path().iterdir()) == ["best.ckpt", "photos"]
    sizes = [] if name in ONE_SIZE else ["--dynamic", "batch,size"]
    file = export(f"x{one.suffix}", *words, *sizes, **arguments)
    found, expected = load_classifier(file), load_classifier("best.ckpt", device="cpu")
    assert isinstance(found, ExportedClassifier)
    assert_same(found.predict(photos), expected.predict(photos), 1e-5)
    assert_same([found.predict(path)[0] for path in photos], expected.predict(photos), 1e-5)


@pytest.mark.slow
def test_openvino_has_two_files(export: Export, photos: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = export("x.xml", "--format", "openvino", "--dynamic", "batch")
    assert {path.name for path in Path().glob("x*")} == {"x.bin", "x.xml", "x.xml.json"}
    expected = load_classifier("best.ckpt", device="cpu").predict(photos)
    assert_same(load_classifier(file).predict(photos), expected)
    Path("x.bin").rename("y.bin")
    with pytest.raises(UserError, match=r"x\.xml has no weights: x\.bin is missing next to it\.$"):
        load_classifier(file)
    with pytest.raises(SystemExit):
        export("x.xml", "--format", "openvino")
    assert "x.xml already exists; add --overwrite to replace it" in capsys.readouterr().err
    export("x.xml", "--format", "openvino", "--input", "tensor", "--overwrite")
    assert_same(load_classifier(file).predict(photos), expected)
