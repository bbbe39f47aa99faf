"""Make a virtual environment with the oldest releases that pyproject.toml allows.

Each dependency that has a lower bound, those of the extras ``test`` and ``docs`` included, is installed in the oldest
release that the registry has and the bound allows.

Usage: python scripts/minimum_versions.py FOLDER | --list
"""

import argparse
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

REPO = Path(__file__).parents[1]
EXTRAS = ("test", "docs")


def requirements(pyproject: dict[str, Any]) -> list[Requirement]:
    """The requirements of the project and of its extras for development.

    Args:
        pyproject: The parsed pyproject.toml.
    """
    project = pyproject["project"]
    extras = [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in (*project["dependencies"], *extras)]


def lower_bound(requirement: Requirement) -> Version | None:
    """The version after ``>=``; None if there is none."""
    bounds = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    return max(bounds, default=None)


def oldest(requirement: Requirement, available: Iterable[str]) -> Version:
    """The oldest available release that a requirement allows.

    Args:
        requirement: A requirement.
        available: Versions that the registry has.

    Raises:
        ValueError: If none of them is allowed.
    """
    allowed = [Version(text) for text in available if requirement.specifier.contains(text)]
    if not allowed:
        raise ValueError(f"The registry has no release of {requirement}; correct the bound in pyproject.toml.")
    return min(allowed, key=lambda version: (version, version.local or ""))


def available_versions(name: str) -> list[str]:
    """All releases that pip finds for this interpreter.

    Args:
        name: Name of a package.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    [line] = re.findall(r"^Available versions: (.*)$", printed, re.MULTILINE)
    return str(line).split(", ")


def pins() -> list[str]:
    """A pin such as ``torch==2.6.0`` for each requirement with a lower bound; one above the bound is announced."""
    pinned = []
    for requirement in requirements(tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))):
        bound = lower_bound(requirement)
        if bound is None:
            continue
        version = oldest(requirement, available_versions(requirement.name))
        if version != bound:
            print(f"{requirement}: the oldest release in the registry is {version}", file=sys.stderr)
        pinned.append(f"{requirement.name}=={version}")
    return pinned


def main() -> None:
    """Make the environment, or list what would be in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where to make the environment, or to update it")
    parser.add_argument("--list", action="store_true", help="print the pins and stop")
    options = parser.parse_args()
    if options.list == (options.folder is not None):
        parser.error("give either a folder or --list")
    pinned = pins()
    if options.list:
        print("\n".join(pinned))
        return
    if not (options.folder / "bin/python").exists():
        venv.create(options.folder, with_pip=True)
    install = [
        str(options.folder / "bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        *pinned,
        "-e",
        f"{REPO}[{','.join(EXTRAS)}]",
    ]
    sys.exit(subprocess.run(install).returncode)


if __name__ == "__main__":
    main()
