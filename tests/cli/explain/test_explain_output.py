"""The command explain: which files it writes, and names and images of unusual kinds."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from inceptionnext_lit.cli.explain import drawing, output
from inceptionnext_lit.cli.explain.output import check_files, saving
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.explain.attribution import explain
from inceptionnext_lit.reports.explain.measure import read_image
from inceptionnext_lit.safe_save import obstacle
from inceptionnext_lit.tasks.loading import load_random

Cli = Callable[..., None]
Captured = pytest.CaptureFixture[str]
NANO = "inceptionnext_nano"


@pytest.fixture
def photos(tmp_path: Path, sample: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("bag", "coat"):
        (folder / name).mkdir(parents=True)
        shutil.copy(sorted((sample / "val" / name).iterdir())[0], folder / name / "1.png")
    return folder


def error_of(cli: Cli, capsys: Captured, *words: object, code: int = 1) -> str:
    with pytest.raises(SystemExit) as exit_:
        cli("explain", *words)
    assert exit_.value.code == code
    return capsys.readouterr().err


def test_what_tells_models_and_images_apart(photos: Path, trained: Path, cli: Cli, capsys: Captured) -> None:
    for folder in ("first", "second"):
        Path(folder).mkdir()
        shutil.copy(trained / "checkpoints/best.ckpt", folder)
    cli("explain", "first/best.ckpt", "second/best.ckpt", "photos", "--output", "grid.svg")
    svg = Path("grid.svg").read_text()
    for text in (">first/best.ckpt</", ">second/best.ckpt</", ">bag/1.png</", ">coat/1.png</"):
        assert text in svg, text
    printed = capsys.readouterr().out
    assert "photos/bag/1.png: second/best.ckpt: " in printed
    message = error_of(cli, capsys, "first/best.ckpt", NANO, "photos", "--layer", "blocks.1", "--output", "b.svg")
    assert message.startswith(f"error: {NANO} (random weights): The model has no layer 'blocks.1'; did you mean ")
    assert message.endswith("? Give --layer once per model, in their order.\n")


@pytest.mark.slow
def test_a_grid_of_the_first_images(photos: Path, cli: Cli, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST_ROWS", 1)
    cli("explain", NANO, "photos", "--output", "maps.v2/")
    assert sorted(os.listdir("maps.v2")) == ["1.png", "1_2.png", "grid.png"]
    assert capsys.readouterr().out.endswith("Written to maps.v2/grid.png\ngrid.png shows the first 1 of 2 images.\n")
    assert Image.open("maps.v2/grid.png").size == Image.open("maps.v2/1.png").size
    monkeypatch.setattr(output, "MOST_ROWS", 1)
    message = error_of(cli, capsys, NANO, "photos", "--output", "a.png")
    assert message == "error: 2 images do not fit into one figure, which takes 1; give a folder as --output.\n"
    cli("explain", NANO, "photos/bag/1.png", "--output", "maps.v2", "--overwrite")  # it exists
    assert "shows the first" not in capsys.readouterr().out


@pytest.mark.slow
def test_maps_without_a_pattern_say_so(photos: Path, cli: Cli, capsys: Captured) -> None:
    task = load_random(NANO)
    image = str(photos / "bag/1.png")
    pixels = read_image(task, image)
    target = next(number for number in range(1000) if explain(task, pixels, target=number).remark == "no evidence")
    cli("explain", NANO, image, "--class", target, "--output", "a.svg")
    assert ">no evidence</" in Path("a.svg").read_text()
    assert "; no evidence: nothing in the map of this layer speaks for the class\n" in capsys.readouterr().out
    deit = "deit_tiny_patch16_224"
    cli("explain", deit, image, "--layer", "blocks.11", "--class", "tench", "--output", "b.svg")
    printed = capsys.readouterr().out
    assert (
        "; no evidence: the class does not depend on the map of this layer, but perhaps on its class token" in printed
    )
    assert printed.startswith(f"{deit} (random weights): gradcam for n01440764 (tench), layer blocks.11\n")
    svg = Path("b.svg").read_text()
    for text in (">no evidence</", ">blocks.11</", ">gradcam for n01440764 (tench)</"):
        assert text in svg, text


@pytest.mark.slow
def test_names_that_are_not_utf_8(photos: Path, trained: Path, cli: Cli, capsys: Captured) -> None:
    place = os.fsdecode(b"caf\xe9")
    os.mkdir(place)
    shutil.copy(photos / "bag/1.png", f"{place}/{place}.png")
    shutil.copy(trained / "checkpoints/best.ckpt", f"{place}/{place}.ckpt")
    for suffix in ("svg", "png"):
        cli("explain", f"{place}/{place}.ckpt", f"{place}/{place}.png", "--output", f"{place}/map.{suffix}")
        printed = capsys.readouterr().out
        assert r"caf\udce9/caf\udce9.png: caf\udce9.ckpt: " in printed
        assert rf"Written to caf\udce9/map.{suffix}" in printed
    assert r">caf\udce9.png</" in Path(f"{place}/map.svg").read_text()
    cli("explain", f"{place}/{place}.ckpt", place, "--output", f"{place}/maps", "--method", "occlusion")
    assert len(os.listdir(f"{place}/maps")) == 3  # of the image, of map.png and the grid
    capsys.readouterr()
    cli("explain", "--spectrum", f"{place}/{place}.ckpt", "--data.root", photos, "--output", f"{place}/spectrum.svg")
    assert r"caf\udce9.ckpt" in capsys.readouterr().out
    assert r">caf\udce9.ckpt</" in Path(f"{place}/spectrum.svg").read_text()


@pytest.mark.slow
def test_images_of_unusual_kinds(photos: Path, cli: Cli, capsys: Captured) -> None:
    Image.new("RGB", (2000, 10), "red").save("wide.png")
    Image.new("1", (12_000, 12_000)).save("bomb.png")
    message = error_of(cli, capsys, NANO, "wide.png", "bomb.png", "--output", "map.svg")
    assert message == (
        "Not read: bomb.png: it has 12,000×12,000 pixels, more than the limit of 120,000,000\n"
        "error: 1 image could not be read and left out.\n"
    )
    assert ">(central part)</" in Path("map.svg").read_text()


def test_an_interrupt(photos: Path, cli: Cli, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return explain(*arguments)

    monkeypatch.setattr(drawing, "explain", interrupted)
    assert error_of(cli, capsys, NANO, "photos", "--output", "maps", code=130) == "Interrupted; written: maps/1.png.\n"
    assert os.listdir("maps") == ["1.png"]
    calls.clear()
    message = error_of(cli, capsys, NANO, "photos", "--output", "grid.png", code=130)
    assert message == "Interrupted; nothing was written.\n"
    assert not Path("grid.png").exists()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    assert obstacle(tmp_path / "new/file.png") is None
    assert list(tmp_path.iterdir()) == []
    assert obstacle(Path("/proc/file.png")) is not None
    with pytest.raises(UserError) as error, saving(Path("maps/1.png")):
        raise OSError(28, "No space left on device")
    assert str(error.value) == "maps/1.png cannot be written: No space left on device; give another --output."


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.png cannot be written: File name too long; give another --output\.$"):
        check_files([tmp_path / f"{'x' * 300}.png"], overwrite=False)
