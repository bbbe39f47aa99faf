"""The command explain: its figures, what it prints, and what bad input gets."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from inceptionnext_lit.cli.explain.arguments import split_arguments
from inceptionnext_lit.cli.explain.options import BY_LAYER, EXAMPLES, METHODS
from inceptionnext_lit.data.class_words import with_words
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.explain import attribution
from inceptionnext_lit.tasks.loading import load_random

Cli = Callable[..., None]
Captured = pytest.CaptureFixture[str]
NANO = "inceptionnext_nano"


@pytest.fixture
def checkpoint(trained: Path) -> Path:
    return trained / "checkpoints/best.ckpt"


@pytest.fixture
def photos(tmp_path: Path, sample: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("bag", "coat")):
        shutil.copy(sorted((sample / "val" / name).iterdir())[0], folder / f"{number}.png")
    return folder


def error_of(cli: Cli, capsys: Captured, *words: object, code: int = 1) -> str:
    with pytest.raises(SystemExit) as exit_:
        cli("explain", *words)
    assert exit_.value.code == code
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_grid_of_a_checkpoint_and_a_random_model(photos: Path, checkpoint: Path, cli: Cli, capsys: Captured) -> None:
    cli("explain", checkpoint, NANO, "photos", "--output", "grid.svg")
    printed = capsys.readouterr().out.splitlines()
    titles = ("best.ckpt", f"{NANO} (random weights)")
    expected = [f"photos/{number}.png: {title}: LABEL" for number in (0, 1) for title in titles]
    assert printed[:2] == [
        "best.ckpt: gradcam for the predicted class, layer blocks.2",
        f"{NANO} (random weights): gradcam for the predicted class, layer stages.3.blocks.0",
    ]
    assert [re.sub(r": [^:]+ \d\.\d{3}(; .*)?$", ": LABEL", line) for line in printed[2:]] == [
        *expected,
        "Written to grid.svg",
    ]
    label = printed[2].split(": ")[2].split("; ")[0]
    svg = Path("grid.svg").read_text()
    layers = (">blocks.2</", ">stages.3.blocks.0</", ">gradcam for the predicted class</")
    for text in (">best.ckpt</", f">{NANO}</", ">(random weights)</", ">0.png</", ">1.png</", f">{label}</", *layers):
        assert text in svg, text
    assert svg.count("<image ") == 6  # 2 images × (the image and 2 models)
    assert len(svg) < 300_000
    before = Path("grid.svg").read_bytes()
    message = error_of(cli, capsys, NANO, "photos", "--output", "grid.svg")
    assert message == "error: grid.svg already exists; add --overwrite to replace it, or give another --output.\n"
    assert Path("grid.svg").read_bytes() == before
    cli("explain", NANO, "photos/1.png", "--output", "grid.svg", "--overwrite")
    assert Path("grid.svg").read_text().count("<image ") == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_into_a_folder(photos: Path, cli: Cli, capsys: Captured, method: str) -> None:
    shutil.copy(photos / "1.png", photos / "grid.png")
    cli("explain", "photos", NANO, "--output", "maps", "--method", method, "--class", 3, "--alpha", "1")
    assert sorted(path.name for path in Path("maps").iterdir()) == ["0.png", "1.png", "grid.png", "grid_2.png"]
    sizes = [Image.open(f"maps/{name}.png").size for name in ("0", "grid")]
    assert sizes[0][0] == sizes[1][0] == 340  # 2 columns of 1.7 inches at 100 pixels
    assert sizes[1][1] > 2.5 * sizes[0][1] - 100
    assert f", map for {with_words(load_random(NANO).class_names[3])} 0.00" in capsys.readouterr().out
    assert "maps/0.png already exists" in error_of(cli, capsys, "photos/0.png", NANO, "--output", "maps")


@pytest.mark.slow
def test_a_checkpoint_of_another_model(photos: Path, checkpoint: Path, cli: Cli, capsys: Captured) -> None:
    for words in ([f"resnet18={checkpoint}"], ["resnet18", "--model.pretrained", checkpoint]):
        message = error_of(cli, capsys, *words, "photos/1.png", "--output", "map.png")
        assert re.fullmatch(
            r"error: .*best\.ckpt is a checkpoint of \w+, not of resnet18; give it without resnet18=\.\n", message
        )
    assert not Path("map.png").exists()


def test_images_are_never_replaced_and_names_are_not_math(photos: Path, cli: Cli, capsys: Captured) -> None:
    name = r"price $5_to_\foo^$.png"
    shutil.copy(photos / "1.png", name)
    before = Path(name).read_bytes()
    message = error_of(cli, capsys, NANO, name, "--output", f"./{name}", "--overwrite")
    assert message.endswith("is one of the images, which are not replaced; give another --output.\n")
    assert Path(name).read_bytes() == before
    cli("explain", NANO, name, "--output", "map.svg")
    assert f">{name}</" in Path("map.svg").read_text()


def test_methods_of_the_help_are_those_of_the_report() -> None:
    assert METHODS == attribution.METHODS
    assert BY_LAYER == attribution.BY_LAYER
    assert "NAME=true" in EXAMPLES


def test_classes_and_layers(photos: Path, checkpoint: Path, cli: Cli, capsys: Captured) -> None:
    cli("explain", checkpoint, NANO, "photos/0.png", "--layer", "blocks.1", "--layer", "stages.2", "--class", "1",
        "--output", "a.png")  # fmt: skip
    cli("explain", checkpoint, "photos/0.png", "--class", "coat", "--output", "b.png")
    assert "coat" in capsys.readouterr().out
    message = error_of(cli, capsys, checkpoint, "photos/0.png", "--class", "cot", "--output", "c.png")
    assert message == "error: best.ckpt has no class 'cot'; did you mean coat?\n"
    message = error_of(cli, capsys, checkpoint, "photos/0.png", "--class", "10", "--output", "c.png")
    assert message == "error: best.ckpt has no class 10; give a name, or an index from 0 to 9.\n"
    message = error_of(cli, capsys, checkpoint, "photos/0.png", "--class", "-1", "--output", "c.png")
    assert message == "error: best.ckpt has no class -1; give a name, or an index from 0 to 9.\n"
    message = error_of(cli, capsys, checkpoint, "photos/0.png", "--class", "umbrella", "--output", "c.png")
    assert message.startswith("error: best.ckpt has no class 'umbrella'; it has ")
    assert message.endswith("and 7 more, or give an index from 0 to 9.\n")
    message = error_of(cli, capsys, checkpoint, "photos/0.png", "--layer", "block.1", "--output", "c.png")
    assert message.startswith("error: best.ckpt: The model has no layer 'block.1'; did you mean blocks.1 or ")
    message = error_of(cli, capsys, NANO, "photos/0.png", "--layer", "a", "--layer", "b", "--output", "c.png")
    assert message == "error: --layer was given 2 times for 1 model; give it once, or once per model.\n"
    message = error_of(cli, capsys, NANO, "photos", "--layer", "stages.2", "--method", "occlusion", "--output", "c.png")
    assert "The method occlusion explains the input and has no layer; leave out --layer" in message
    assert not Path("c.png").exists()


@pytest.mark.slow
def test_unreadable_images_are_listed(photos: Path, cli: Cli, capsys: Captured) -> None:
    (photos / "2.png").write_text("no image")
    with pytest.raises(SystemExit) as exit_:
        cli("explain", NANO, "photos", "--output", "grid.svg")
    assert exit_.value.code == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "Not read: photos/2.png: its content is not an image of a known format\n"
        "error: 1 image could not be read and left out.\n"
    )
    assert "Written to grid.svg" in captured.out
    assert Path("grid.svg").read_text().count("<image ") == 4
    message = error_of(cli, capsys, NANO, "photos/2.png", "--output", "none.png")
    assert message == (
        "error: No image could be read. The first, photos/2.png: its content is not an image of a known format.\n"
    )
    assert not Path("none.png").exists()


def test_arguments_are_models_or_images(photos: Path, checkpoint: Path, cli: Cli, capsys: Captured) -> None:
    words = ["resnet50", "photos", "resnet50.a1_in1k=true", "photos/*.png", str(checkpoint), "sample"]
    models, images = split_arguments(words)
    assert models == ["resnet50", "resnet50.a1_in1k=true", str(checkpoint)]
    assert images == ["photos", "photos/*.png", "sample"]
    with pytest.raises(UserError, match=r"^resnt50 is neither .*nor the name of a model; did you mean resnet50"):
        split_arguments(["resnt50"])
    with pytest.raises(UserError, match=r"^gone.ckpt does not exist; give a checkpoint or a file of weights"):
        split_arguments(["gone.ckpt"])
    for given, expected in {
        ("photos", "--output", "a.png"): "Name what to explain: a checkpoint of fit, or a model such as",
        (NANO, "--output", "a.png"): "No images were named; give image files, folders or patterns",
        (NANO, "photos", "--output", "a.pdf"): "--output is a.pdf; give a file that ends in .png or .svg, or a folder",
        (NANO, "photos/*.jpg", "--output", "a.png"): "No images that match photos/*.jpg. Check the pattern",
        (f"{NANO}=gone.pt", "photos", "--output", "a.png"): f"gone.pt does not exist; give {NANO}=true",
        (NANO, "resnet18", "photos", "--model.pretrained", "w.pt", "--output", "a.png"): "give each its own, as NAME",
        (NANO, "photos", "--device", "gpu", "--output", "a.png"): "The device 'gpu' cannot be used here",
    }.items():
        assert expected in error_of(cli, capsys, *given)
    assert "needs --output FILE_OR_FOLDER" in error_of(cli, capsys, NANO, "photos", code=2)
    assert "--alpha: '2' is not a number from 0 to 1" in error_of(cli, capsys, NANO, "--alpha", "2", code=2)
    assert "Unknown key '--clas'; did you mean --class or --layer?" in error_of(cli, capsys, "--clas", "2", code=2)


def test_weights_from_a_file(photos: Path, checkpoint: Path, cli: Cli, capsys: Captured) -> None:
    cli("convert", checkpoint, "--output", "best.safetensors")
    cli("explain", "best.safetensors", checkpoint, "photos", "--output", "a.png")
    lines = [line.split(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("photos/")]
    assert len(lines) == 4
    assert lines[::2] == lines[1::2]  # the same predictions
    name = "inceptionnext_iso_micro"
    cli("explain", f"{name}=best.safetensors", "photos", "--output", "b.png")
    assert f"photos/0.png: {name} (best.safetensors): {lines[0]}" in capsys.readouterr().out
    cli("explain", name, "photos", "--output", "c.png", "--model.pretrained", "best.safetensors")
    assert f"photos/0.png: {name} (best.safetensors): {lines[0]}" in capsys.readouterr().out
    torch.save({"weight": torch.zeros(1)}, "plain.pt")
    message = error_of(cli, capsys, "plain.pt", "photos", "--output", "d.png")
    assert message == "error: plain.pt does not say which model it belongs to; give it as NAME=plain.pt.\n"


def test_spectrum(photos: Path, checkpoint: Path, cli: Cli, capsys: Captured) -> None:
    words = ["--spectrum", checkpoint, NANO, "--data.root", "sample", "--images", "3"]
    cli("explain", *words, "--output", "out/spectrum.svg")
    printed = capsys.readouterr().out
    assert printed.startswith("3 images from sample\nAmplitude at the highest frequency")
    assert printed.endswith("Written to out/spectrum.svg\nWritten to out/spectrum_erf.svg\n")
    spectrum, field = (Path(f"out/spectrum{end}.svg").read_text() for end in ("", "_erf"))
    for text in (">best.ckpt</", f">{NANO}</", ">normalized depth</", ">frequency (π)</", ">relative log amplitude</"):
        assert text in spectrum, text
    assert field.count("<image ") == 2
    cli("explain", *words, "--output", "all.json")
    found = json.loads(Path("all.json").read_text())
    assert found["images"] == 3
    assert [model["model"] for model in found["models"]] == ["best.ckpt", f"{NANO} (random weights)"]
    isotropic, staged = found["models"]
    assert isotropic["image_size"] == [28, 28]
    assert [level["level"] for level in staged["spectrum"]] == [f"stages.{number}" for number in range(3)]
    assert [level["depth"] for level in staged["spectrum"]] == pytest.approx([0, 1 / 3, 2 / 3])
    for level in staged["spectrum"]:
        assert level["relative_log_amplitudes"][0] == 0
        assert level["highest"] == level["relative_log_amplitudes"][-1]
    areas = staged["receptive_field"]["areas"]
    assert [area["share"] for area in areas] == [0.2, 0.3, 0.5, 0.99]
    assert [f"{area['side']} px, {area['area_ratio']:.1%}" for area in areas] == re.findall(
        r"\d+ px, [\d.]+%", next(line for line in printed.splitlines() if line.startswith(NANO))
    )
    message = error_of(cli, capsys, *words, "--output", "out/spectrum.svg")
    assert message.startswith("error: out/spectrum.svg already exists; add --overwrite")
    Path("out/spectrum.svg").unlink()
    assert "out/spectrum_erf.svg already exists" in error_of(cli, capsys, *words, "--output", "out/spectrum.svg")


@pytest.mark.slow
def test_spectrum_and_maps_do_not_mix(photos: Path, cli: Cli, capsys: Captured) -> None:
    words = ["--spectrum", NANO, "--data.root", "photos", "--output"]
    assert "photos is not a model; name the images of --spectrum with --data.root" in error_of(
        cli, capsys, *words, "a.svg", "photos"
    )
    assert "with --spectrum give a file that ends in .png, .svg or .json" in error_of(cli, capsys, *words, "a")
    message = error_of(cli, capsys, *words, "a.svg", "--class", "1", code=2)
    assert message == "error: --spectrum and --class do not go together; leave out one of them.\n"
    message = error_of(cli, capsys, NANO, "photos", "--data.root", "photos", "--output", "a.svg", code=2)
    assert message == "error: --data.root needs --spectrum; name images without a key, or add --spectrum.\n"
    message = error_of(cli, capsys, "--spectrum", NANO, "--output", "a.svg", code=2)
    assert message == "error: --spectrum needs --data.root FOLDER, the images to measure on.\n"
    assert "--output is the folder photos; with --spectrum give a .png, .svg or .json file" in error_of(
        cli, capsys, *words, "photos"
    )
    (photos / "2.png").write_text("no image")
    assert "error: 1 image could not be read and left out.\n" in error_of(cli, capsys, *words, "a.json")
    assert json.loads(Path("a.json").read_text())["images"] == 2


@pytest.mark.parametrize("library", ["captum", "matplotlib"])
def test_without_a_library(
    photos: Path, cli: Cli, capsys: Captured, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    message = error_of(cli, capsys, NANO, "photos", "--output", "a.png")
    assert f"need {library}; install it with pip install 'inceptionnext-lit[explain]'.\n" in message
