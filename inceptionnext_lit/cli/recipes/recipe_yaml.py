"""YAML loader for recipes: no duplicate keys, names stay strings, and a leading zero does not mean octal."""

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import yaml
from jsonargparse import set_loader

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import YamlLoader, yaml_load

_FLOAT = "tag:yaml.org,2002:float"
_INT = "tag:yaml.org,2002:int"
_MERGE = "tag:yaml.org,2002:merge"
_LISTS_OF_NAMES = ("class_names",)


class RecipeLoader(YamlLoader):  # type: ignore[misc]
    """The parser's loader, without YAML 1.1's conversion of names such as ``no`` and ``0010``."""

    # YAML 1.1 reads 0010 as 8 and 1:30 as 90
    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _INT]
        for first, resolvers in YamlLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping whose keys are strings.

        Raises:
            UserError: If a key is given twice.
        """
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UserError(
                    f"the key {key.value!r} is given twice, in lines {lines[key.value]} and {line}; remove one"
                )
            lines[key.value] = line
        for key, line in lines.items():
            if (other := _line_of(node, key.split("."))) is not None and "." in key:
                raise UserError(f"the key {key!r} is given twice, in lines {other} and {line}; remove one")
        self.flatten_mapping(node)  # resolves <<: *anchor; own keys come last and win
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            key.tag = "tag:yaml.org,2002:str"
            if key.value in _LISTS_OF_NAMES and isinstance(value, yaml.SequenceNode):
                for item in value.value:
                    item.tag = "tag:yaml.org,2002:str"
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _line_of(node: Any, path: list[str]) -> int | None:
    """Return the line of a nested key, such as ``lr`` in ``model``."""
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value == path[0]:
            if len(path) == 1:
                return int(key.start_mark.line) + 1
            return _line_of(value, path[1:]) if isinstance(value, yaml.MappingNode) else None
    return None


def _construct_int(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if re.match(r"[-+]?0[xb]", text) else int(text)


def _construct_float(loader: Any, node: Any) -> float | str:
    text: str = loader.construct_scalar(node)
    return text if ":" in text else float(loader.construct_yaml_float(node))  # 1:30.5 is 90.5 in YAML 1.1


_WHOLE_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
RecipeLoader.add_implicit_resolver(_INT, _WHOLE_NUMBER, list("-+0123456789"))
RecipeLoader.add_constructor(_INT, _construct_int)
RecipeLoader.add_constructor(_FLOAT, _construct_float)


class _ValueLoader(RecipeLoader):
    """The loader of values on the command line, where ``None`` is null.

    jsonargparse converts the values of nested options to text by Python's rules, and reads them again.
    """


_ValueLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("None$"), ["N"])


def load_recipe(text: str, path: str = "") -> Any:
    """Load a recipe or a command-line value.

    Args:
        text: YAML.
        path: The recipe's file, for messages; empty for a command-line value.

    Raises:
        UserError: If a key is given twice.
        yaml.YAMLError: If it is not valid YAML.
    """
    value = yaml_load(text)
    if not isinstance(value, dict | list):  # the parser keeps the text of plain values for string options
        if not path and text.lstrip().startswith("#"):  # a name such as #1, which YAML would ignore
            return text
        return yaml.load(text, Loader=RecipeLoader) if isinstance(value, int | float) else value
    try:
        is_value = not path and text.startswith(("{", "["))  # the parser also reads what it has written as a recipe
        value = yaml.load(text, Loader=_ValueLoader if is_value else RecipeLoader)
        return _unfolded(value) if path and isinstance(value, dict) else value
    except UserError as error:
        raise UserError(f"{path or text}: {error}.") from error


def names_as_text(words: Sequence[str]) -> list[str]:
    """Quote the names in lists of names on a command line, as a recipe need not do.

    Args:
        words: The command line.

    Returns:
        The command line, with such lists in JSON; what is not a list of plain values stays as it is.
    """
    quoted = list(words)
    for index, word in enumerate(words):
        key, equals, value = str(word).partition("=")
        if not key.startswith("--") or key.rpartition(".")[2] not in _LISTS_OF_NAMES:
            continue
        if equals:
            quoted[index] = f"{key}={_quoted(value)}"
        elif index + 1 < len(words):
            quoted[index + 1] = _quoted(words[index + 1])
    return quoted


def _quoted(text: str) -> str:
    try:
        names = yaml.load(text, Loader=yaml.BaseLoader)  # reads yes and 1 as text
    except yaml.YAMLError:  # the parser says what is wrong with it
        return text
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return json.dumps(names, ensure_ascii=False) if is_list else text


def _unfolded(recipe: dict[Any, Any]) -> dict[Any, Any]:
    """Move ``data.root: X`` into ``data`` if a group has both, since the parser would use only one of them.

    Raises:
        UserError: If both give the same key.
    """
    unfolded = {key: _unfolded(value) if isinstance(value, dict) else value for key, value in recipe.items()}
    for key in sorted(key for key in recipe if "." in key):  # a group comes before its keys
        names = key.split(".")
        for length in range(len(names) - 1, 0, -1):
            group = unfolded.get(".".join(names[:length]))
            if isinstance(group, dict) and _put(group, names[length:], unfolded[key]):
                del unfolded[key]
                break
    return unfolded


def _put(group: dict[Any, Any], names: list[str], value: Any) -> bool:
    """Set a value in nested groups, for classes in their ``init_args``; return whether that was possible."""
    inside = group if names[0] in ("class_path", "init_args") else group.get("init_args", group)
    if len(names) == 1:
        if names[0] in inside:
            raise UserError(f"the key {names[0]!r} of a group is given twice, with a dot and without; remove one")
        inside[names[0]] = value
        return True
    within = inside.setdefault(names[0], {})
    return isinstance(within, dict) and _put(within, names[1:], value)


def install() -> None:
    """Make all parsers read YAML with this loader, and single numbers by its rules."""
    set_loader("yaml", load_recipe, exceptions=(yaml.YAMLError,))
    YamlLoader.yaml_implicit_resolvers = RecipeLoader.yaml_implicit_resolvers
    YamlLoader.add_constructor(_INT, _construct_int)
    YamlLoader.add_constructor(_FLOAT, _construct_float)
