"""Exported segmentation models: equal to their checkpoints, run without torch, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inceptionnext_lit import load_classifier, load_segmenter
from inceptionnext_lit.data.transforms.segmentation import TestScale
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS
from inceptionnext_lit.export.segmentation.checking import SceneChecked
from inceptionnext_lit.export.segmentation.resizing import AnyAdaptivePool, FitToScale
from inceptionnext_lit.tasks.segmentation.inference import InferenceOptions
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from tests.pages import DOCS, commands
from tests.small_segmenter import CLASSES, PALETTE, picture, save_segmenter, write_photos

Cli = Callable[..., None]
UPERNET = SegmentationOptions(decoder="upernet", decoder_kwargs={"width": 16, "aux_width": 8})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_photos(tmp_path / "photos")
    (folder / "tiny.png").unlink()
    return folder


@pytest.mark.parametrize("size", [(45, 67), (300, 200), (1100, 700), (64, 64), (7, 500), (128, 64)])
def test_resizing_in_the_graph(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    preprocessing: Any = {"image_size": 64, "scale": [128, 64], "mean": [0.0] * 3, "std": [1.0] * 3}
    expected = TestScale(preprocessing).resize(image).float()
    found = FitToScale([128, 64])(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float())[0]
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1  # byte
    assert (found != expected).float().mean() < 0.03  # halves, where sums are in another order


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pooling_in_the_graph(bins: int) -> None:
    maps = torch.randn(2, 5, 13, 7)
    assert torch.allclose(AnyAdaptivePool(bins)(maps), torch.nn.AdaptiveAvgPool2d(bins)(maps), atol=1e-6)


CASES = [
    pytest.param("openvino", "inceptionnext_iso_micro", None, {}, marks=pytest.mark.slow),
    pytest.param("onnx", "inceptionnext_atto", UPERNET, {"scale": [128, 64]}, marks=pytest.mark.slow),
    pytest.param("openvino", "inceptionnext_atto", UPERNET, {"scale": [128, 64]}, marks=pytest.mark.slow),
    pytest.param("onnx", "inceptionnext_atto", UPERNET, {}, marks=pytest.mark.slow),
    pytest.param("onnx", "resnet10t", None, {"scale": [96, 96]}, marks=pytest.mark.slow),
]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


@pytest.mark.parametrize(("form", "name", "options", "preprocessing"), CASES)
def test_files_give_the_masks_of_the_checkpoint(
    cli: Cli,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
    name: str,
    options: SegmentationOptions | None,
    preprocessing: dict[str, Any],
) -> None:
    save_segmenter(tmp_path / "s.ckpt", name=name, options=options, preprocessing=preprocessing, ema_decay=0.9)
    file = tmp_path / f"s{SUFFIX[form]}"
    cli("export", tmp_path / "s.ckpt", "--format", form, "--output", file, "--check", photos)
    check_file(tmp_path / "s.ckpt", file, photos, capsys.readouterr().out)


def test_the_guide_s_commands(cli: Cli, segmenter_files: Path, tmp_path: Path) -> None:
    file, photos = segmenter_files / "segmenter.onnx", segmenter_files / "photos"
    check_file(segmenter_files / "segmenter.ckpt", file, photos, (segmenter_files / "printed.txt").read_text())
    [predict] = [words for words in commands(DOCS / "guides/export.md") if words[2:4] == ["predict", "segmenter.onnx"]]
    cli(*({"PHOTOS": photos, "segmenter.onnx": file}.get(word, word) for word in predict[2:]))
    assert len(list((tmp_path / "segmented/masks").iterdir())) == 3


def check_file(checkpoint: Path, file: Path, photos: Path, printed: str) -> None:
    """Check that an exported file gives the masks of its checkpoint, and what export has printed and written."""
    assert "pixels to classes and confidence; may vary: batch and size" in printed
    assert "Checked on 3 images" in printed
    content = json.loads((file.parent / f"{file.name}.json").read_text())
    assert (content["task"], content["class_names"], content["palette"]) == ("segmentation", CLASSES, PALETTE)
    assert content["check"]["images"] == 3
    assert content["check"]["max_probability_difference"] < 1e-5
    images = [photos / f"{place}.png" for place in range(3)]
    expected = load_segmenter(checkpoint).predict(images)
    found = load_segmenter(file).predict(images)
    for one, other in zip(expected, found, strict=True):
        assert one.mask.shape == other.mask.shape
        assert (one.mask == other.mask).mean() > 0.995
        assert one.confidence == pytest.approx(other.confidence, abs=2e-3)
    assert len({value for one in found for value in np.unique(one.mask).tolist()}) > 1


def test_the_command_predict(cli: Cli, segmenter_files: Path, tmp_path: Path) -> None:
    photos = segmenter_files / "photos"
    checkpoint, file = segmenter_files / "segmenter.ckpt", segmenter_files / "segmenter.onnx"
    cli("predict", photos, "--ckpt_path", checkpoint, "--output", "a.csv", "--data.num_workers", 0)
    cli("predict", file, photos, "--output", "b.csv", "--polygons", "--overlays", "false")
    assert (tmp_path / "b/polygons.json").is_file()
    assert not (tmp_path / "b/overlays").exists()
    masks = sorted((tmp_path / "b/masks").iterdir())
    assert len(masks) == 3
    for mask in masks:
        one, other = (np.asarray(Image.open(tmp_path / run / "masks" / mask.name)) for run in ("a", "b"))
        assert (one == other).mean() > 0.999
        assert Image.open(tmp_path / "a/masks" / mask.name).getpalette() == Image.open(mask).getpalette()


def test_probabilities_and_tensors(cli: Cli, segmenter_files: Path, photos: Path) -> None:
    checkpoint, file = segmenter_files / "segmenter.ckpt", segmenter_files / "scores.onnx"
    cli("export", checkpoint, "--format", "onnx", "--output", "t.onnx", "--input", "tensor", "--check", photos)
    import onnxruntime

    pixels = np.asarray(picture(64, 64))
    segmenter = load_segmenter(checkpoint)
    expected = segmenter.probabilities(Image.fromarray(pixels))
    [found] = onnxruntime.InferenceSession(file).run(None, {"images": pixels[None]})
    assert found.shape == (1, 3, 64, 64)
    assert np.abs(found[0] - expected).max() < 1e-5
    normalized = ((pixels / 255 - 0.5) / 0.25).astype(np.float32).transpose(2, 0, 1)[None]
    [logits] = onnxruntime.InferenceSession("t.onnx").run(None, {"images": normalized})
    assert np.abs(torch.from_numpy(logits).softmax(dim=1)[0].numpy() - expected).max() < 1e-5
    with pytest.raises(UserError, match=r"t\.onnx takes normalized images only"):
        load_segmenter("t.onnx")
    assert np.array_equal(load_segmenter(file).predict(pixels)[0].mask, expected.argmax(axis=0))


def test_an_onnx_file_needs_no_torch(segmenter_files: Path) -> None:
    code = (
        "import sys; from inceptionnext_lit import load_segmenter; "
        "found = load_segmenter('segmenter.onnx').predict('photos/1.png')[0]; print(found.mask.shape); "
        "print(sorted({'torch', 'timm', 'lightning', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=segmenter_files, capture_output=True, text=True, check=True)
    assert done.stdout == "(50, 90)\n[]\n"


@pytest.mark.slow
def test_windows_are_not_in_the_file_and_this_is_said(
    cli: Cli, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SegmentationOptions(
        decoder="semantic_fpn",
        decoder_kwargs={"width": 16, "head_width": 8},
        inference=InferenceOptions(mode="slide", window=[32, 32], stride=[16, 16], multiple=32),
    )
    save_segmenter(tmp_path / "s.ckpt", options=options)
    cli("export", "s.ckpt", "--format", "onnx", "--output", "s.onnx", "--check", photos)
    out = capsys.readouterr().out
    assert "the file segments each image once, as a whole, and was compared with that" in out
    assert "As predict prepares the images: 100.000% of the pixels" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "litert", "--output", "x.tflite"), "--format litert is for classifiers; give onnx or openvino"),
        (("--format", "onnx", "--output", "x.onnx", "--features"), "--features is for classifiers"),
        (("--format", "onnx", "--output", "x.onnx", "--int8", "photos"), "--int8 is for classifiers"),
        (
            ("--format", "onnx", "--output", "x.onnx", "--input", "tensor", "--probabilities"),
            "--probabilities is for --input pixels",
        ),
    ],
)
def test_what_is_refused(
    cli: Cli, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    save_segmenter(tmp_path / "s.ckpt")
    with pytest.raises(SystemExit):
        cli("export", "s.ckpt", *words)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))


def test_files_of_the_other_kind(
    cli: Cli, segmenter_files: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter, classifier = segmenter_files / "segmenter.onnx", place / "best.onnx"
    with pytest.raises(UserError, match=r"best\.onnx is a classifier; load it with load_classifier"):
        load_segmenter(classifier)
    with pytest.raises(UserError, match=r"segmenter\.onnx is a segmentation model; load it with load_segmenter"):
        load_classifier(segmenter)
    capsys.readouterr()
    for file, words, message in (
        (segmenter, ("--probabilities", "all"), "--probabilities is for classifiers"),
        (classifier, ("--polygons",), "leave it out"),
    ):
        with pytest.raises(SystemExit):
            cli("predict", file, segmenter_files / "photos", *words)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difference": 2e-4}, r"differs from the checkpoint: its probabilities by 0\.0002 on 3 images"),
        ({"difference": float("nan")}, "differs from the checkpoint: its probabilities by nan"),
        ({"same_pixels": 0.998}, r"99\.80% of the pixels have the same class; nothing was written"),
        ({"as_predicted": 0.99, "others": (("a.png", 0.98),)}, r"gives 99\.00% of the pixels .* a\.png \(98\.0%\)"),
    ],
)
def test_files_that_differ_are_refused(changes: dict[str, Any], message: str) -> None:
    good = SceneChecked(3, "photos", difference=9e-5, same_pixels=0.9995, as_predicted=0.996, others=())
    good.refuse(FORMATS["onnx"])
    with pytest.raises(UserError, match=message):
        replace(good, **changes).refuse(FORMATS["onnx"])


def test_a_graph_of_one_orientation_is_refused(
    cli: Cli, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch 2.7 captures it, which makes a constant of comparisons of sizes."""
    save_segmenter(tmp_path / "s.ckpt", preprocessing={"scale": [96, 64]})
    monkeypatch.setattr(torch, "sym_max", max)
    monkeypatch.setattr(torch, "sym_min", min)
    with pytest.raises(SystemExit):
        cli("export", "s.ckpt", "--format", "onnx", "--output", "x.onnx", "--check", photos)
    message = (
        "makes a constant of whether an image is upright, so the file would resize the others wrongly; update torch"
    )
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "s.ckpt"]


@pytest.mark.slow
def test_a_graph_that_resizes_otherwise_leaves_no_file(
    cli: Cli, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_segmenter(tmp_path / "s.ckpt", preprocessing={"scale": [96, 64]})
    resize = FitToScale.forward
    monkeypatch.setattr(FitToScale, "forward", lambda self, pixels: resize(self, pixels).flip(-1))
    with pytest.raises(SystemExit):
        cli("export", "s.ckpt", "--format", "onnx", "--output", "x.onnx", "--check", photos)
    assert "of the pixels the class that predict gives; nothing was written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "s.ckpt"]


@pytest.mark.parametrize("form", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_images_that_are_too_small(
    cli: Cli, segmenter_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    checkpoint, file = segmenter_files / "segmenter.ckpt", segmenter_files / "segmenter.onnx"
    photos = segmenter_files / "photos"
    if form == "openvino":
        file = tmp_path / "s.xml"
        cli("export", checkpoint, "--format", form, "--output", file, "--check", photos)
        assert "Checked on 3 images" in capsys.readouterr().out
    cli("predict", file, photos, "--output", "o.csv")
    assert "3 predictions written to o.csv" in capsys.readouterr().out
    listed = (tmp_path / "o.unreadable.csv").read_text()
    assert 'tiny.png,"The file cannot segment an image of 1×1 pixels, which may be too small' in listed
    with pytest.raises(UserError, match="The file cannot segment an image of 1×1 pixels"):
        load_segmenter(file).predict(photos / "tiny.png")
    output = tmp_path / f"x{SUFFIX[form]}"
    with pytest.raises(SystemExit):
        cli("export", checkpoint, "--format", form, "--output", output, "--check", photos / "tiny.png")
    assert "None of 1 image of --check can be used. An image of 1×1 pixels is too small" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.slow
def test_a_file_that_predict_does_not_run_suggests_no_predict(
    cli: Cli, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_segmenter(tmp_path / "s.ckpt")
    cli("export", "s.ckpt", "--format", "onnx", "--output", "s.onnx", "--dynamic", "none", "--check", photos)
    out = capsys.readouterr().out
    assert "may vary: nothing; images of 64 x 64 pixels" in out
    assert "Next:" not in out
    with pytest.raises(UserError, match=r"s\.onnx takes images of one size only"):
        load_segmenter("s.onnx")
