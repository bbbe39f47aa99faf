"""The pages that people read, in the order in which they read them, and what is in their blocks."""

import re
import shlex
from pathlib import Path

from tests.recipes import REPO

DOCS = REPO / "docs"


def toctree(page: Path) -> list[Path]:
    """The pages that the toctrees of a page list."""
    found = []
    for block in blocks("{toctree}", page):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                titled = re.fullmatch(r".*<(.+)>", line)
                found.append(page.parent / f"{titled[1] if titled else line}.md")
    return found


def blocks(language: str, *pages: Path) -> list[str]:
    """What stands in the fenced blocks of a language."""
    pattern = rf"^```{re.escape(language)}\n(.*?)^```"
    return [
        block
        for page in pages
        for block in re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ]


def commands(*pages: Path) -> list[list[str]]:
    """The command lines of some pages, each once."""
    lines = [line for block in blocks("bash", *pages) for line in block.splitlines() if not line.startswith("#")]
    return [shlex.split(line, comments=True) for line in dict.fromkeys(lines)]


def _below(page: Path) -> list[Path]:
    return [page, *(found for listed in toctree(page) for found in _below(listed))]


SITE = _below(DOCS / "index.md")
DEVELOP = [page for page in SITE if page.parent.name == "develop"]
READ = [REPO / "README.md", *(page for page in SITE if page not in DEVELOP)]
