import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.recipes import REPO


def test_the_committed_picture_is_what_the_script_draws(tmp_path: Path) -> None:
    target = tmp_path / "architecture.svg"
    subprocess.run([sys.executable, REPO / "scripts/draw_architecture.py", target], check=True)
    drawn, committed = target.read_text(), (REPO / "docs/architecture.svg").read_text()
    # another release of matplotlib may round coordinates differently, but draws the same objects
    assert re.findall(r'<g id="(\w+)">', drawn) == re.findall(r'<g id="(\w+)">', committed)
    assert len(re.findall(r'<g id="text_\d+">', drawn)) > 30


def test_the_readme_s_tables_are_put_between_their_markers() -> None:
    fill = runpy.run_path(str(REPO / "scripts/fill_readme.py"))["fill"]
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    before, tables, after = re.split(r"<!-- budget: (?:begin|end) -->\n", readme)
    assert tables.startswith("\n### Table 1: ImageNet-1K\n")
    assert fill(readme, tables.strip("\n") + "\n") == readme
    filled = fill(readme, "new\n")
    assert filled == f"{before}<!-- budget: begin -->\n\nnew\n\n<!-- budget: end -->\n{after}"
    with pytest.raises(ValueError, match="does not have the markers"):
        fill("no markers", "new\n")


def test_the_committed_comparison_of_recipes_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(REPO / "scripts/compare_recipes.py"))
    known = yaml.safe_load((REPO / "scripts/recipe_sources.yaml").read_text(encoding="utf-8"))
    names = [name for source in known["sources"] for name in source["recipes"]]
    assert sorted(names) == sorted(path.stem for path in (REPO / "configs").glob("*.yaml") if path.stem != "quickstart")
    recipes = {name: script["load"](name) for name in names}
    text = script["page"](known, recipes)
    assert text == (REPO / "docs/recipes.md").read_text(encoding="utf-8")
    assert "| peak rate | 0.004 | `--lr` | = | = | = | = | = | fidelity/test_rates |" in text
    for module in {ingredient.checked for ingredient in script["INGREDIENTS"]} - {""}:
        assert (REPO / f"tests/{module}.py").is_file()
    atto = {"sources": known["sources"][1:2], "elsewhere": {}}
    assert "**bf16-mixed**" in script["page"](atto | {"reasons": {"precision": "…", "seed": "…"}}, recipes)
    with pytest.raises(KeyError, match="'precision'"):
        script["page"](atto | {"reasons": {"seed": "…"}}, recipes)
    recipes["atto"].model.lr = 2e-3
    with pytest.raises(KeyError, match="'peak rate'"):
        script["page"](atto | {"reasons": {"precision": "…", "seed": "…"}}, recipes)


def test_images_to_time_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_jpegs.py", str(tmp_path), "--images", "100", "--size", "50x40"])
    runpy.run_path(str(REPO / "scripts/make_jpegs.py"), run_name="__main__")
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert [len(list((tmp_path / split).rglob("*.jpg"))) for split in ("train", "val")] == [90, 10]
    assert len({path.read_bytes() for path in paths}) == 100
    with Image.open(paths[0]) as image:
        assert (image.size, image.mode) == ((50, 40), "RGB")
