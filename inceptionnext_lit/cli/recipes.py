"""Recipes that ship with the toolkit, and their lookup by name for ``--config``."""

import difflib
from pathlib import Path

import inceptionnext_lit
from inceptionnext_lit.errors import UsageError
from inceptionnext_lit.program import usage_name

_PACKAGE = Path(inceptionnext_lit.__file__).parent
_INSTALLED = _PACKAGE / "configs"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"  # the latter in a clone
_SUFFIX = ".yaml"


def names() -> list[str]:
    """Return the names of the shipped recipes, such as ``tiny`` and ``finetune/folder``, sorted by folder."""
    paths = sorted(FOLDER.rglob(f"*{_SUFFIX}"), key=lambda path: (path.parent != FOLDER, path))
    return [path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths]


def first_line(name: str) -> str:
    """Return the first line of a recipe's header."""
    with (FOLDER / f"{name}{_SUFFIX}").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").removeprefix("Purpose: ").rstrip()


def resolve_configs(words: list[str]) -> list[str]:
    """Replace the names of recipes on a command line by their files.

    Args:
        words: Arguments after the program's name.

    Returns:
        The arguments, with a path after each ``--config``.

    Raises:
        UsageError: If neither a file nor a recipe has the given name.
    """
    resolved = list(words)
    for index, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key != "--config":
            continue
        if equals:
            resolved[index] = f"{key}={find_config(value)}"
        elif index + 1 < len(words):
            resolved[index + 1] = find_config(words[index + 1])
    return resolved


def find_config(value: str) -> str:
    """Find the file that ``--config VALUE`` refers to.

    Args:
        value: A path, a path without its suffix, the name of a shipped recipe, or a whole config as YAML text.

    Returns:
        The path, or the text unchanged.

    Raises:
        UsageError: If nothing has that name; the message gives the nearest names.
    """
    if "{" in value or "\n" in value or value.endswith(":") or ": " in value:  # YAML text
        return value
    path = Path(value).expanduser()
    for own in (path, path.with_name(f"{path.name}{_SUFFIX}") if path.name else path):
        if own.is_file() or own.is_fifo():
            return str(own)
    name = value.removesuffix(_SUFFIX).removeprefix("configs/")
    if name in names():
        return str(FOLDER / f"{name}{_SUFFIX}")
    raise UsageError(_not_found(value, name))


def _not_found(value: str, name: str) -> str:
    """Return the message for a recipe that was not found, with the nearest names."""
    path = Path(value)
    within = [own for own in names() if own.startswith(f"{name.rstrip('/')}/")]
    if path.is_dir() or within:
        inside = within or sorted(str(file) for file in path.glob(f"*{_SUFFIX}"))
        choice = f"give a file in it, such as {' or '.join(inside[:3])}." if inside else "give a YAML file."
        return f"--config is {value}, a folder; {choice}"
    spellings: dict[str, list[str]] = {}
    for own in sorted(names(), key=lambda own: own.count("/")):
        for spelling in {Path(own).name, own}:  # match finetune/folder by 'folder' too
            spellings.setdefault(spelling, []).append(own)
    if path.parent.is_dir():
        spellings |= {str(file): [str(file)] for file in path.parent.glob("*.y*ml")}
    close = difflib.get_close_matches(name, spellings, n=3, cutoff=0.75)
    near = dict.fromkeys(own for spelling in close for own in spellings[spelling])
    hint = f"did you mean {' or '.join(near)}?" if near else f"{usage_name()} recipes lists the recipes."
    return f"No file {value}, and no recipe of that name; {hint}"
