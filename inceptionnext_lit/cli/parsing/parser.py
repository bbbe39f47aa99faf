"""Command-line parser whose errors are one sentence with the nearest valid key."""

import argparse
import functools
import inspect
import operator
import pkgutil
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

import yaml
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser

from inceptionnext_lit.cli.parsing.help import command_page
from inceptionnext_lit.cli.parsing.key_hints import nearest_keys
from inceptionnext_lit.cli.parsing.optimizers import explain_class
from inceptionnext_lit.cli.recipes.recipe_yaml import install, load_recipe
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data_spec import ClassNames
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import YamlLoader, command_parsers, options, set_type, type_of
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.renamed import explain_renamed
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.self_contained import nested_options

_NOT_READ = "names that were given, not read from a checkpoint"


def _as_it_is(names: Any) -> ClassNames:
    if not isinstance(names, ClassNames):
        raise ValueError(_NOT_READ)
    return names


def _as_yaml(dumper: yaml.SafeDumper, names: ClassNames) -> yaml.Node:
    # YAML cannot hold bytes that are not UTF-8, which Python has as surrogates
    return dumper.represent_list(name.encode("utf-8", "backslashreplace").decode() for name in names)


register_type(ClassNames, serializer=_as_it_is, deserializer=_as_it_is)
yaml.SafeDumper.add_representer(ClassNames, _as_yaml)
for _first, _resolvers in YamlLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        if _tag.endswith(":float"):  # quotes names such as 1e3, which are numbers to the loader, not to YAML 1.1
            yaml.SafeDumper.add_implicit_resolver(_tag, _pattern, [_first])

DEFAULT_CLASSES: dict[str, type] = {"data": ImageFolderDataModule, "model": ClassificationTask}


class CommandParser(LightningArgumentParser):
    """LightningCLI's parser with readable help and one-sentence errors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        install()
        kwargs["allow_abbrev"] = False  # also for the parsers that jsonargparse creates for classes
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Any = None, *further: Any, **named: Any) -> Any:
        """Parse; jsonargparse passes the null of a nested option to the parser of its class as the text ``None``."""
        if isinstance(args, list) and len(args) == 1 and re.fullmatch(r"--[\w.]+=None", str(args[0])):
            args = [f"{args[0].removesuffix('None')}null"]
        return super().parse_args(args, *further, **named)

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Return a command's help text; the program's overview is printed without this parser.

        It has the keys of the classes that the command line or its recipes name.
        """
        if not any(action.dest == "trainer.max_epochs" for action in options(self)):
            return str(super().format_help(formatter))
        return command_page(self, {key: self._class_of(key) for key in DEFAULT_CLASSES})

    def _class_of(self, key: str) -> type:
        path = getattr(self.get_default(key), "class_path", "")
        found: type = pkgutil.resolve_name(path) if "." in path else DEFAULT_CLASSES[key]
        return found

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one clear sentence and exit with code 2.

        Args:
            message: jsonargparse's own message.
            ex: Its cause.
        """
        if not self.exit_on_error:  # a nested parser; the outer one explains
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        print_error(explain(message, ex, known_keys(parser)))
        sys.exit(2)


def whole_numbers_first(parser: argparse.ArgumentParser) -> None:
    """Parse ``1`` as an int if a key takes ``int`` and ``float``: one batch, and not 1.0, which means all of them.

    ``typing`` caches one object for ``Union[int, float]`` and ``Union[float, int]``, in the order that was created
    first, and jsonargparse tries the types in that order, so the value would depend on earlier imports.

    Args:
        parser: A command's parser, changed in place.
    """
    for action in options(parser):
        types = list(get_args(type_of(action)))
        if int in types and float in types and types.index(float) < types.index(int):
            first, second = types.index(float), types.index(int)
            types[first], types[second] = int, float
            set_type(action, functools.reduce(operator.or_, types))


def named_classes(words: Sequence[str]) -> dict[str, dict[str, str]]:
    """Find the classes that replace the default ones before the command line is parsed.

    jsonargparse starts from the default class and keeps its values of arguments that the other class has too, even if
    they do not validate there.

    Args:
        words: Words after the program's name, recipes as paths.

    Returns:
        Defaults for a parser: under ``model`` and ``data`` the class path, if it is a dotted path that can be imported.
    """
    paths: dict[str, Any] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        key, equals, value = word.partition("=")
        value = value if equals else following
        for name in DEFAULT_CLASSES:
            if key in (f"--{name}", f"--{name}.class_path"):
                paths[name] = value
            elif key == "--config" and (path := _class_in_recipe(value, name)) is not None:
                paths[name] = path
    return {name: {"class_path": path} for name, path in paths.items() if _is_class(path)}


def _class_in_recipe(path: str, name: str) -> Any:
    try:
        recipe = load_recipe(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, UserError, yaml.YAMLError):  # the parser says what is wrong with it
        return None
    if not isinstance(recipe, dict):
        return None
    given = recipe.get(name)
    return recipe.get(f"{name}.class_path", given.get("class_path") if isinstance(given, dict) else given)


def _is_class(path: Any) -> bool:
    if not isinstance(path, str) or "." not in path:
        return False
    try:
        return isinstance(pkgutil.resolve_name(path), type)
    except Exception:  # the parser says what is wrong with it
        return False


def other_classes(config: Any) -> dict[str, dict[str, str]]:
    """Return the classes that a command uses instead of the default ones.

    Args:
        config: Its parsed arguments.

    Returns:
        Parser defaults: the class path of ``model`` and of ``data``, where it is not the default.
    """
    paths = {key: config[key].class_path for key in DEFAULT_CLASSES}
    return {
        key: {"class_path": path}
        for key, path in paths.items()
        if pkgutil.resolve_name(path) is not DEFAULT_CLASSES[key]  # the parser has imported it
    }


def known_keys(parser: argparse.ArgumentParser) -> list[str]:
    """Return every key of a command, nested ones as ``data.root``."""
    keys = {action.dest for action in options(parser) if action.dest not in ("help", argparse.SUPPRESS)}
    for subparser in command_parsers(parser).values():
        keys.update(known_keys(subparser))
    for prefix, cls in DEFAULT_CLASSES.items():
        keys.update(f"{prefix}.{key}" for key in _constructor_keys(cls))
    return sorted(key for key in keys if not key.endswith(".help"))


def _constructor_keys(cls: type) -> list[str]:
    nested = [f"{name}.{key}" for name, option in nested_options(cls).items() for key in _constructor_keys(option)]
    return [*inspect.signature(cls).parameters, *nested]


def explain(message: str, ex: BaseException | None, known: list[str]) -> str:
    """Turn jsonargparse's message into a sentence: what, where, what to do.

    Args:
        message: The message, which may have several lines.
        ex: The exception; its innermost cause is the most precise.
        known: Valid keys.

    Returns:
        The sentence.
    """
    parent, leaf = None, ex
    while leaf is not None and leaf.__cause__ is not None:
        parent, leaf = leaf, leaf.__cause__
    place = _place(message)
    if (class_error := explain_class(message)) is not None:
        return class_error
    if (unknown := _unknown_key(message)) is not None:
        # 'trainer.max_epoch' is complete, but a class's key lacks the key of the class
        key = ".".join([place, unknown]) if place and not unknown.startswith(place) else unknown
        return explain_renamed(key) or _explain_unknown(key, known)
    if found := re.search(r"unrecognized arguments: ([^-\s]\S*)", message):
        return (
            f"A key is expected instead of {found[1]!r}; keys begin with --, and images follow the command predict "
            "directly."
        )
    if place and (found := re.search(r"Unable to load config ['\"](.*?)['\"]$", message, re.MULTILINE)):
        inside = [key for key in known if key.startswith(f"{place}.")]
        given = "null" if found[1] in ("null", "None") else repr(found[1])  # null in a nested group becomes None
        group = f"{place} is {given}, but it is a group of options: {' or '.join(inside[:3])}."
        return explain_renamed(place) or group
    if place and isinstance(leaf, UnicodeDecodeError):
        inside = [key for key in known if key.startswith(f"{place}.")]
        return f"{place} is a file that is not text, but it is a group of options: {' or '.join(inside[:3])}."
    if place in DEFAULT_CLASSES and (found := re.search(r"dot import path string: (\S+)", message)):
        meant = {"model": "the name of a model is model.name", "data": "a folder of images is data.root"}[place]
        return f"{place} is {found[1]!r}, which is not a class; {meant}."
    if place:
        reason = _plain_types(_reason(message, parent, leaf))
        if dotted := re.search(r"Expected dict.* Got value: Namespace\((\w+)=(.*)\)$", reason):
            return f"{place} is a dictionary, whose keys have no dots in a recipe; give {{{dotted[1]}: {dotted[2]}}}."
        return f"{place}: {reason}"
    return re.sub(r"\s*\n\s*", " ", message.strip())


def _explain_unknown(key: str, known: list[str]) -> str:
    if key in known:  # keys of the default classes
        return (
            f"{key} is set, in a recipe or on the command line, but the class used instead of "
            f"{DEFAULT_CLASSES[key.partition('.')[0]].__name__} does not take it; leave it out."
        )
    near = nearest_keys(key, known)
    hint = f"did you mean {' or '.join(near)}?" if near else "the command's --help all lists every key."
    return f"Unknown key {key!r}; {hint}"


def _reason(message: str, parent: BaseException | None, leaf: BaseException | None) -> str:
    """Return why a value was rejected."""
    reason = str(leaf or message)
    if reason == _NOT_READ:  # what is wrong with names that were given is in the message
        reason = next(iter(re.findall(r"^\s*- (Expected .+)$", message, re.MULTILINE)), reason)
        parent = None
    if alternatives := re.findall(r"^\s*- (Expected .+)$", str(parent), re.MULTILINE):
        value = re.search(r"Given value: (.*)", str(parent))
        reason = " or ".join(alternatives) + (f". Got value: {value[1]}" if value else "")
    if re.search(r"Expected a <class 'str'>\. Got value: (True|False|None|[-+.\d])", str(parent) + reason):
        reason += "; quote strings that YAML reads as a number or a boolean, such as 'no'"
    return reason


def _place(message: str) -> str:
    """Return the full key that a message is about, such as ``model.loss.name``; empty if it has none."""
    keys = re.findall(r'Parser key "([\w.]+)"', message)
    if given := re.search(r"NestedArg\(key='([\w.]+)'", message):
        if len(keys) > 1 and given[1].partition(".")[0] == keys[-1]:
            keys[-1] = given[1]
        elif given[1] not in keys:
            keys.append(given[1])
    if (unknown := _unknown_key(message)) is not None and keys:
        # the place does not include the unknown key
        keys[-1] = "" if unknown.startswith(f"{keys[-1]}.") else keys[-1].removesuffix(unknown).removesuffix(".")
    return ".".join(key for key, before in zip(keys, ["", *keys], strict=False) if key not in ("", before))


def _plain_types(reason: str) -> str:
    """Return jsonargparse's reason in plain words on one line."""
    reason = re.sub(r"\ba <class '(?:\w+\.)*(\w+)'>", r"\1", reason)
    reason = reason.replace("NoneType", "null").replace(" or Expected ", " or ")
    reason = re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", reason)
    return re.sub(r"\s*\n\s*", " ", reason.strip())


def _unknown_key(message: str) -> str | None:
    for pattern in (
        r"Option '([\w.]+)' is not accepted",
        r"does not accept option '([\w.]+)'",
        r"unrecognized arguments: (?:--?)([\w.-]+)",
    ):
        if found := re.search(pattern, message):
            return found[1]
    return None
