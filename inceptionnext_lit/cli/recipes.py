"""The recipes that ship with the toolkit, and how ``--config`` finds them by name."""

import difflib
from pathlib import Path

import inceptionnext_lit
from inceptionnext_lit.errors import UsageError
from inceptionnext_lit.program import usage_name

_PACKAGE = Path(inceptionnext_lit.__file__).parent
_INSTALLED = _PACKAGE / "configs"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"  # which is where a clone has them
_SUFFIX = ".yaml"


def names() -> list[str]:
    """Names of the recipes that ship, such as ``tiny`` and ``finetune/folder``, in the order of the folders."""
    paths = sorted(FOLDER.rglob(f"*{_SUFFIX}"), key=lambda path: (path.parent != FOLDER, path))
    return [path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths]


def first_line(name: str) -> str:
    """The first line of a recipe's comment."""
    with (FOLDER / f"{name}{_SUFFIX}").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").removeprefix("Purpose: ").rstrip()


def resolve_configs(words: list[str]) -> list[str]:
    """Replace the names of recipes on a command line by their files.

    Args:
        words: Words after the program's name.

    Returns:
        The words, with a path after each ``--config``.

    Raises:
        UsageError: If there is neither a file nor a recipe of a name.
    """
    resolved = list(words)
    for place, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key != "--config":
            continue
        if equals:
            resolved[place] = f"{key}={find_config(value)}"
        elif place + 1 < len(words):
            resolved[place + 1] = find_config(words[place + 1])
    return resolved


def find_config(value: str) -> str:
    """The file that ``--config VALUE`` means.

    Args:
        value: A path, a path without its ending, the name of a recipe that ships, or a whole configuration as text.

    Returns:
        The path; the text as it is.

    Raises:
        UsageError: If there is nothing of that name; with the nearest names.
    """
    if "{" in value or "\n" in value or value.endswith(":") or ": " in value:  # YAML in the place of a file
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
    """What is there instead of a recipe or a file."""
    path = Path(value)
    within = [own for own in names() if own.startswith(f"{name.rstrip('/')}/")]
    if path.is_dir() or within:
        inside = within or sorted(str(file) for file in path.glob(f"*{_SUFFIX}"))
        choice = f"name a file in it, such as {' or '.join(inside[:3])}." if inside else "name a YAML file."
        return f"--config is {value}, a folder; {choice}"
    # 'folder' is as near to finetune/folder as its own name is
    spellings = {spelling: own for own in names() for spelling in (Path(own).name, own)}
    if path.parent.is_dir():
        spellings |= {str(file): str(file) for file in path.parent.glob("*.y*ml")}
    near = dict.fromkeys(
        spellings[spelling] for spelling in difflib.get_close_matches(name, spellings, n=3, cutoff=0.75)
    )
    hint = f"did you mean {' or '.join(near)}?" if near else f"{usage_name()} recipes lists the recipes."
    return f"There is no file {value}, and no recipe of that name; {hint}"
