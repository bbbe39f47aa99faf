import re
import subprocess
import sys
from pathlib import Path

from tests.recipes import REPO


def test_the_committed_picture_is_what_the_script_draws(tmp_path: Path) -> None:
    target = tmp_path / "architecture.svg"
    subprocess.run([sys.executable, REPO / "scripts/draw_architecture.py", target], check=True)
    drawn, committed = target.read_text(), (REPO / "docs/architecture.svg").read_text()
    # another release of matplotlib may round coordinates differently, but draws the same objects
    assert re.findall(r'<g id="(\w+)">', drawn) == re.findall(r'<g id="(\w+)">', committed)
    assert len(re.findall(r'<g id="text_\d+">', drawn)) > 30
