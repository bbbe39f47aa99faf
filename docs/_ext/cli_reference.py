"""The directive ``cli-command``: a command's options, taken from the parser that answers its ``--help``."""

import argparse
import inspect
import io
import re
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id
from sphinx.util.typing import ExtensionMetadata, stringify_annotation

from inceptionnext_lit.cli import COMMANDS, main
from inceptionnext_lit.cli.parsing.parser import CommandParser


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Args:
        names: How it is written, such as ``--data.root``; the word itself for a positional argument.
        value: What stands for its value, such as ``ROOT``; empty for a switch.
        type: The type of its value; empty if the parser does not say.
        default: Its default; empty if it has none.
        help: What it does.
    """

    names: tuple[str, ...]
    value: str
    type: str
    default: str
    help: str


@dataclass(frozen=True)
class Group:
    """Options that belong together.

    Args:
        title: The group's title.
        meaning: What its options are about; empty if the title says it.
        options: The options.
    """

    title: str
    meaning: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Command:
    """What is known of a command.

    Args:
        usage: How it is called.
        meaning: What it does; paragraphs.
        examples: Command lines; empty if it gives none.
        groups: Its options.
    """

    usage: str
    meaning: tuple[str, ...]
    examples: str
    groups: tuple[Group, ...]


def read_command(name: str) -> Command:
    """Describe a command from its parser.

    Args:
        name: Name of the command.
    """
    page, types = _ask(name)
    if isinstance(page, str):
        return _read_text(page)
    groups = []
    for group in page._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        options = [_option(action, types) for action in actions if not isinstance(action, argparse._HelpAction)]
        if options:
            groups.append(_group(str(group.title), options, name))
    meaning, examples = _split(str(page.description))
    return Command(_flat(page.format_usage()).removeprefix("usage: "), meaning, examples, tuple(groups))


def _read_text(page: str) -> Command:
    """A command whose keys are those of another one."""
    usage, _, description = page.partition("\n\n")
    meaning, examples = _split(description)
    return Command(usage.removeprefix("usage: "), meaning, examples, ())


def _split(description: str) -> tuple[tuple[str, ...], str]:
    """The paragraphs of a description, and its examples."""
    meaning, _, examples = description.partition("examples:\n")
    return tuple(_flat(part) for part in meaning.split("\n\n") if part.strip()), inspect.cleandoc(f"\n{examples}")


def _flat(text: str) -> str:
    return " ".join(text.split())


def _ask(command: str) -> tuple[argparse.ArgumentParser | str, dict[str, Any]]:
    """What answers a command's ``--help``: a parser or, from a command without one, a text.

    Types come with it, because a parser's help does not name those of the keys that Lightning adds.
    """
    printed: list[argparse.ArgumentParser] = []
    types: dict[str, Any] = {}
    format_page = CommandParser.format_help

    def keep(parser: argparse.ArgumentParser, *_: object) -> str:
        printed.append(parser)
        return ""

    def keep_types(parser: CommandParser, *formatter: Any) -> str:
        types.update({action.dest: getattr(action, "_typehint", None) for action in parser._actions})
        return format_page(parser, *formatter)

    words = [command, "--help", "all"] if command in COMMANDS else [command, "--help"]
    with (
        patch("sys.argv", ["cli.py"]),  # the name of the program in its texts
        patch.object(argparse.ArgumentParser, "format_help", keep),
        patch.object(CommandParser, "format_help", keep_types),
        suppress(SystemExit),
        redirect_stdout(io.StringIO()) as text,
    ):
        main(words)
    return printed[0] if printed else text.getvalue(), types


def _group(title: str, options: list[Option], command: str) -> Group:
    """A group under the name that its keys begin with, if they have one."""
    if shared := options[-1].names[0].removeprefix("--").rpartition(".")[0]:
        return Group(shared, f"{title}.", tuple(options))
    names = {"options": f"Options of {command}", "positional arguments": "Words after the command"}
    return Group(names.get(title, title), "", tuple(options))


def _option(action: argparse.Action, types: dict[str, Any]) -> Option:
    hint = getattr(action, "_typehint", None) or types.get(action.dest)
    own = action.dest.rpartition(".")[2].upper()
    metavar = action.metavar if isinstance(action.metavar, str) and action.metavar[0] not in "[{" else own
    if not action.option_strings:
        return Option((metavar,), "", "", "", _text(action))
    names = tuple(name for name in action.option_strings if not name.endswith("+"))
    if action.nargs == 0:
        return Option(names, "", "", "", _text(action))
    kind = " | ".join(map(str, action.choices)) if action.choices is not None else _type_name(hint)
    known = hint is not None or action.default not in (None, argparse.SUPPRESS)
    return Option(names, metavar, kind, _written(action.default) if known else "", _text(action))


def _text(action: argparse.Action) -> str:
    """What an option does, without the default, which has a place of its own."""
    return re.sub(r"\s*\(default: [^()]*\)", "", _flat(str(action.help or "").replace("%%", "%")))


def _written(value: Any) -> str:
    """A value as one writes it on the command line."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _type_name(hint: Any) -> str:
    """A type as help texts write it, without the names of modules."""
    if hint is None:
        return ""
    name = stringify_annotation(hint, "smart", short_literals=True)
    return re.sub(r"\bNone\b", "null", re.sub(r"~?\b(?:\w+\.)+(?=\w)", "", name).replace("~", ""))


class CliCommand(SphinxDirective):
    """The options of the command that is named."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """How the command is called, what it does, and a section for each group of options."""
        name = self.arguments[0]
        command = read_command(name)
        content: list[nodes.Node] = [nodes.paragraph("", text) for text in command.meaning]
        content += [
            _block(text, kind) for text, kind in ((command.usage, "usage"), (command.examples, "examples")) if text
        ]
        for group in command.groups:
            label = make_id(self.env, self.state.document, "", f"{name}-{group.title}")
            section = nodes.section("", nodes.title("", group.title), ids=[label])
            if group.meaning:
                section += nodes.paragraph("", group.meaning)
            section += [self._entry(name, option) for option in group.options]
            content.append(section)
        return content

    def _entry(self, command: str, option: Option) -> nodes.Node:
        entry = addnodes.desc("", domain="std", objtype="option", desctype="option", classes=["std", "option"])
        entry["no-index"] = entry["noindex"] = False
        for name in option.names:
            label = make_id(self.env, self.state.document, "", f"{command}-{name.lstrip('-')}")
            signature = addnodes.desc_signature("", "", ids=[label], classes=["sig-object"])
            signature += addnodes.desc_name("", name)
            if option.value:
                signature += addnodes.desc_addname("", f" {option.value}")
            self.env.domains.standard_domain.add_program_option(command, name, self.env.docname, label)
            entry += signature
        content = addnodes.desc_content()
        if option.help:
            content += nodes.paragraph("", option.help)
        facts = [(key, text) for key, text in (("type", option.type), ("default", option.default)) if text]
        if facts:
            content += _line(facts)
        entry += content
        return entry


def _block(text: str, kind: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="text", classes=[kind])


def _line(facts: list[tuple[str, str]]) -> nodes.paragraph:
    line = nodes.paragraph(classes=["option-facts"])
    for place, (key, text) in enumerate(facts):
        line += nodes.Text(f"{', ' if place else ''}{key}: ")
        line += nodes.literal("", text)
    return line


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("cli-command", CliCommand)
    return {"parallel_read_safe": True}
