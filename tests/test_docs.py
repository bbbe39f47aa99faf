"""The site: each page is in a toctree, each link has a target, and the generated pages are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inceptionnext_lit.cli import COMMANDS, TOOLS
from tests.pages import DOCS, SITE, toctree
from tests.recipes import REPO

PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
WRITTEN = [*PAGES, *sorted(REPO.glob("*.md")), *sorted((REPO / ".github").rglob("*.md"))]


def anchors(text: str) -> set[str]:
    """Return the headings' anchors, as GitHub and MyST create them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_one_toctree() -> None:
    listed = [path for page in PAGES for path in toctree(page)]
    assert sorted(listed) == [page for page in PAGES if page != DOCS / "index.md"]
    assert sorted(SITE) == PAGES


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(REPO)))
def test_links_and_images_have_targets(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), f"{target}: there is no such heading"


def test_every_command_has_a_page() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "reference/cli").glob("*.md")}
    assert sorted(pages.keys() - {"index"}) == sorted(COMMANDS | TOOLS)
    for name in COMMANDS | TOOLS:
        assert pages[name] == f"# {name}\n\n```{{cli-command}} {name}\n```\n"


def test_every_folder_of_the_package_has_a_page() -> None:
    folders = {path.parent.name for path in (REPO / "inceptionnext_lit").glob("*/__init__.py")} - {"cli"}
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "reference/api").glob("*.md")}
    assert pages.keys() - {"index"} == folders
    architecture = (DOCS / "develop/architecture.md").read_text(encoding="utf-8")
    for folder in folders:
        assert f"```{{api-package}} inceptionnext_lit.{folder}\n" in pages[folder]
        assert f"| `{folder}` |" in architecture


@pytest.mark.slow
def test_the_site_builds_without_warnings_or_network(tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    command = [sys.executable, "-m", "sphinx", *options, DOCS, site]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"", html)
        loaded += re.findall(r"<link[^>]*\shref=\"([^\"]+)\"", html)
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s+)['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet
    fit = (site / "reference/cli/fit.html").read_text(encoding="utf-8")
    assert 'id="fit-data.root"' in fit
    assert 'id="fit-trainer.max_epochs"' in fit
    task = (site / "reference/api/tasks.html").read_text(encoding="utf-8")
    assert 'id="inceptionnext_lit.tasks.base.BaseTask"' in task
