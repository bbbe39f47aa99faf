"""YAML as recipes are meant: a key stands once, names stay text, and a leading zero makes no octal number."""

import re
from typing import Any, ClassVar

import yaml
from jsonargparse import set_loader

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import YamlLoader, yaml_load

_INT = "tag:yaml.org,2002:int"
_MERGE = "tag:yaml.org,2002:merge"
_LISTS_OF_NAMES = ("class_names",)


class RecipeLoader(YamlLoader):  # type: ignore[misc]
    """The parser's own loader, but for what YAML 1.1 would make of names such as ``no`` and ``0010``."""

    # YAML 1.1 takes 0010 for 8 and 1:30 for 90
    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _INT]
        for first, resolvers in YamlLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are texts.

        Raises:
            UserError: If a key stands twice.
        """
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UserError(
                    f"the key {key.value!r} stands twice, in lines {lines[key.value]} and {line}; remove one"
                )
            lines[key.value] = line
        for key, line in lines.items():
            if (other := _line_of(node, key.split("."))) is not None and "." in key:
                raise UserError(f"the key {key!r} stands twice, in lines {other} and {line}; remove one")
        self.flatten_mapping(node)  # which takes in what <<: *anchor stands for; own keys come last and win
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
    """Where a nested key stands, such as ``lr`` in ``model``."""
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value == path[0]:
            if len(path) == 1:
                return int(key.start_mark.line) + 1
            return _line_of(value, path[1:]) if isinstance(value, yaml.MappingNode) else None
    return None


def _construct_int(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if re.match(r"[-+]?0[xb]", text) else int(text)


_WHOLE_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
RecipeLoader.add_implicit_resolver(_INT, _WHOLE_NUMBER, list("-+0123456789"))
RecipeLoader.add_constructor(_INT, _construct_int)


def load_recipe(text: str, path: str = "") -> Any:
    """What a recipe or a value of the command line says.

    Args:
        text: YAML.
        path: The recipe's file, for messages; empty for a value of the command line.

    Raises:
        UserError: If a key stands twice.
        yaml.YAMLError: If it is no YAML.
    """
    value = yaml_load(text)
    if not isinstance(value, dict | list):  # of plain values the parser keeps the text, where it takes texts
        return value
    try:
        value = yaml.load(text, Loader=RecipeLoader)
        return _unfolded(value) if path and isinstance(value, dict) else value
    except UserError as error:
        raise UserError(f"{path or text}: {error}.") from error


def _unfolded(recipe: dict[Any, Any]) -> dict[Any, Any]:
    """A recipe with ``data.root: X`` in ``data``, if that stands there too: the parser would take only one of both."""
    unfolded = {key: value for key, value in recipe.items() if "." not in key}
    for key, value in recipe.items():
        first, *names = key.split(".")
        if names and not (isinstance(unfolded.get(first), dict) and _put(unfolded[first], names, value)):
            unfolded[key] = value
    return unfolded


def _put(group: dict[Any, Any], names: list[str], value: Any) -> bool:
    """Put a value into nested groups, of classes among their ``init_args``; whether there is a place for it."""
    inside = group if names[0] in ("class_path", "init_args") else group.get("init_args", group)
    if len(names) == 1:
        inside[names[0]] = value
        return True
    within = inside.setdefault(names[0], {})
    return isinstance(within, dict) and _put(within, names[1:], value)


def install() -> None:
    """Let all parsers read YAML in this way."""
    set_loader("yaml", load_recipe, exceptions=(yaml.YAMLError,))
