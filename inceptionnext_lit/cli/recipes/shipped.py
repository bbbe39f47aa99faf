"""Recipes that ship with the toolkit, and their lookup by name for ``--config``."""

import difflib
from pathlib import Path

import yaml

import inceptionnext_lit
from inceptionnext_lit.errors import UsageError
from inceptionnext_lit.program import usage_name

_PACKAGE = Path(inceptionnext_lit.__file__).parent
_INSTALLED = _PACKAGE / "configs"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"  # the latter in a clone
_SUFFIX = ".yaml"
_NULL = "tag:yaml.org,2002:null"
_NOT_IN_RECIPES = {
    "config": "a recipe cannot include another one; give both, --config BASE --config THIS, of which the last one wins",
    "print_config": "give --print_config on the command line, not in a recipe",
}


def names() -> list[str]:
    """Return the names of the shipped recipes, such as ``tiny`` and ``finetune/folder``, sorted by folder."""
    paths = sorted(FOLDER.rglob(f"*{_SUFFIX}"), key=lambda path: (path.parent != FOLDER, path))
    return [path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths]


def first_line(name: str) -> str:
    """Return the first line of a recipe's header."""
    with (FOLDER / f"{name}{_SUFFIX}").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").removeprefix("Purpose: ").rstrip()


def resolve_configs(words: list[str]) -> list[str]:
    """Replace the names of recipes on a command line by their files, and put recipes before the keys, which win.

    Args:
        words: Arguments after the program's name.

    Returns:
        The arguments, with a path after each ``--config``.

    Raises:
        UsageError: If neither a file nor a recipe has the given name, or it is not a recipe.
    """
    recipes: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if key != "--config":
            others.append(word)
        elif equals:
            recipes.append(f"{key}={find_config(value)}")
        elif (following := next(rest, None)) is not None:
            recipes += [key, find_config(following)]
        else:  # the parser says that the value is missing
            others.append(word)
    first = next((index for index, word in enumerate(others) if word.startswith("-")), len(others))
    return [*others[:first], *recipes, *others[first:]]  # the parser reads from left to right


def find_config(value: str) -> str:
    """Find the file that ``--config VALUE`` refers to.

    Args:
        value: A path, a path without its suffix, the name of a shipped recipe, or a whole config as YAML text.

    Returns:
        The path, or the text unchanged; the text of a pipe, such as ``<(…)``, which can be read once.

    Raises:
        UsageError: If nothing has that name, with the nearest names, or if the file is not a recipe.
    """
    if "{" in value or "\n" in value or value.endswith(":") or ": " in value:  # YAML text
        return value
    path = Path(value).expanduser()
    for own in (path, path.with_name(f"{path.name}{_SUFFIX}") if path.name else path):
        if own.is_file():
            _check(own)
            return str(own)
        if own.is_fifo():
            return _text(own)
    name = value.removesuffix(_SUFFIX).removeprefix("configs/")
    if name in names():
        return str(FOLDER / f"{name}{_SUFFIX}")
    raise UsageError(_not_found(value, name))


def recipe_text(value: str) -> str:
    """Return the text of a recipe that :func:`find_config` found."""
    return _text(Path(value)) if "\n" not in value and Path(value).is_file() else value


def _text(path: Path) -> str:
    """Read a recipe.

    Raises:
        UsageError: If it is not UTF-8.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise UsageError(
            f"--config {path} is {'UTF-16, which older PowerShells write with >' if is_utf16 else 'not UTF-8'}; "
            "save it as UTF-8."
        ) from None


def _check(path: Path) -> None:
    """Reject a file that is not YAML with keys, naming the file and the line, which the parser does not."""
    from inceptionnext_lit.cli.recipes.recipe_yaml import RecipeLoader  # imports the parser

    try:
        root = yaml.compose(_text(path), Loader=RecipeLoader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise UsageError(f"--config {path}{line}: not valid YAML ({problem}).") from error
    if root is None:
        raise UsageError(f"--config {path} is empty; give keys such as model.lr, or leave it out.")
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"--config {path} is not a recipe, which has keys such as data and model.")
    if not any(value.tag != _NULL for _, value in root.value):
        raise UsageError(f"--config {path} sets nothing; give keys such as model.lr, or leave it out.")
    for key, value in root.value:
        if key.value in _NOT_IN_RECIPES and value.tag != _NULL:
            raise UsageError(f"--config {path}, line {key.start_mark.line + 1}: {_NOT_IN_RECIPES[key.value]}.")


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
