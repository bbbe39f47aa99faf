"""Create a virtual environment with the oldest releases that pyproject.toml allows.

Each dependency with a lower bound, including those of the extras ``test`` and ``docs``, is installed in the oldest
release in the registry that the bound allows.

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
    """Return the requirements of the project and of its development extras.

    Args:
        pyproject: The parsed pyproject.toml.
    """
    project = pyproject["project"]
    extras = [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in (*project["dependencies"], *extras)]


def lower_bound(requirement: Requirement) -> Version | None:
    """Return the version after ``>=``, or None."""
    bounds = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    return max(bounds, default=None)


def oldest(requirement: Requirement, available: Iterable[str]) -> Version:
    """Return the oldest available release that a requirement allows.

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
    """Return all releases that pip finds for this interpreter.

    Args:
        name: Name of a package.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    [line] = re.findall(r"^Available versions: (.*)$", printed, re.MULTILINE)
    return str(line).split(", ")


def pins() -> list[str]:
    """Return a pin such as ``torch==2.6.0`` per requirement with a lower bound, and report pins above the bound."""
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
    """Create the environment, or list its pins."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of the environment to create or update")
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
