"""The page that ``COMMAND --help all`` prints: every key, the common ones first, without docstring markup."""

import argparse
import re
from typing import Any

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser

from inceptionnext_lit.cli import COMMANDS
from inceptionnext_lit.cli.parsing.screens import usage
from inceptionnext_lit.cli.tools import sentence
from inceptionnext_lit.lightning_compat import option, options
from inceptionnext_lit.tasks.self_contained import nested_options

# set by the data or by a checkpoint, not by users
_LINKED = {"data": {"class_names"}, "model": {"data_spec"}}
_FIRST = (
    "config",
    "print_config",
    "run_name",
    "ckpt_path",
    "output",
    "resume",
    "overwrite",
    "probabilities",
    "unsure_below",
    "compile",
    "seed_everything",
    "find_lr",
    "report",
)
_TITLES = {"checkpoint": "Which epoch is kept as best.ckpt", "trainer": "Lightning's Trainer"}
# accepted but not listed: the toolkit handles these itself, or they make no sense on a command line
_UNLISTED = {
    "trainer.barebones",
    "trainer.enable_autolog_hparams",
    "trainer.enable_model_summary",
    "trainer.inference_mode",
    "trainer.model_registry",
    "trainer.reload_dataloaders_every_n_epochs",
    "trainer.use_distributed_sampler",
}
_HELP = {
    "config": "Recipe: a YAML file, or a name from the command recipes. Later ones win, and keys win over all.",
    "print_config": "Print the resolved recipe and stop.",
    "ckpt_path": "Checkpoint: to continue from in fit, to evaluate or apply in the other commands.",
    "seed_everything": "Seed of all random numbers; true draws one.",
}


def command_page(parser: argparse.ArgumentParser, classes: dict[str, type]) -> str:
    """Write the help page of one command.

    Args:
        parser: The command's parser.
        classes: The class behind each of the parser's subclass keys, such as ``data`` and ``model``.

    Returns:
        The page, ready to print.
    """
    command = parser.prog.rsplit(" ", 1)[-1]
    page = _all_keys(parser, classes, command)
    for action in options(page):
        action.help = _without_markup(action.help) if action.help != argparse.SUPPRESS else action.help
        if action.dest in classes:
            action.help = argparse.SUPPRESS  # a file for a single class; --config covers it
    return str(page.format_help())


def _all_keys(parser: argparse.ArgumentParser, classes: dict[str, type], command: str) -> ArgumentParser:
    """Return a page of every key of the command that a user may want to set."""
    page = ArgumentParser(prog=command, usage=usage(command), description=sentence(COMMANDS[command]), add_help=False)
    actions = {action.dest: action for action in options(parser)}
    fit_only: set[str] = set() if command == "fit" else {"run_name", "checkpoint", "find_lr", "report"}
    for key in _FIRST:
        if key in actions and key not in fit_only:
            _add(page, key, _HELP.get(key, actions[key].help), actions[key])
    for key, cls in classes.items():
        linked = _LINKED[key] - (set() if command == "fit" else {"class_names"})  # a file of weights may have none
        groups = {name: group for name, group in nested_options(cls).items() if name not in linked}
        page.add_class_arguments(cls, key, skip=linked | groups.keys())
        for name, options_class in groups.items():
            page.add_class_arguments(options_class, f"{key}.{name}")
        shown = {action.dest for action in options(page)}
        for name, meaning in _meanings(cls, key).items():
            if name in shown:
                option(page, name).help = meaning
    for group in (title for title in _TITLES if title not in fit_only):
        section = page.add_argument_group(_TITLES[group])
        for dest, action in actions.items():
            if dest.startswith(f"{group}.") and not dest.endswith(".help") and dest not in _UNLISTED:
                _add(section, dest, _first_sentence(action.help), action)
    return page


def _meanings(cls: type, key: str) -> dict[str, str | None]:
    """Return a class's docstring text for each of its groups of options, including nested ones."""
    meanings = {param.arg_name: param.description for param in docstring_parser.parse(cls.__doc__ or "").params}
    described: dict[str, str | None] = {}
    for name, group in nested_options(cls).items():
        described |= {f"{key}.{name}": meanings.get(name)} | _meanings(group, f"{key}.{name}")
    return described


def _add(page: Any, key: str, meaning: str | None, action: argparse.Action) -> None:
    """Add a key with its default, or a switch as a flag."""
    if isinstance(action, ActionYesNo) or action.nargs == 0:
        page.add_argument(f"--{key}", action="store_true", help=meaning)
    else:
        page.add_argument(f"--{key}", metavar=key.rpartition(".")[2].upper(), help=meaning, default=action.default)


def _without_markup(text: Any) -> str:
    flat = re.sub(r":\w+:`~?([^`<]+)(?:<[^>]*>)?`", r"\1", " ".join(str(text or "").split()))
    return flat.replace("``", "")


def _first_sentence(text: Any) -> str:
    """Return the first sentence of a library's argument description, without markup."""
    sentence = re.split(r"(?<=[a-z`\"')])\.(?:\s|$)", _without_markup(text), maxsplit=1)[0].rstrip(".")
    return f"{sentence}." if sentence else ""
