"""Parser of the commands that do not use the trainer."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import yaml

from inceptionnext_lit.printing import print_error
from inceptionnext_lit.program import as_called, usage_name
from inceptionnext_lit.wording import did_you_mean


class ToolParser(argparse.ArgumentParser):
    """argparse without abbreviated keys, whose errors are one sentence with the nearest valid key.

    Args:
        command: The command's name.
        description: What it does.

    Attributes:
        keys: The valid keys.
        synonyms: Keys that other programs have, with the key that is meant.
    """

    def __init__(self, command: str, description: str) -> None:
        self.keys: list[str] = []
        self.synonyms: dict[str, str] = {}
        super().__init__(
            prog=f"{usage_name()} {command}",
            description=as_called(description),
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        """Add an option; see argparse."""
        action = super().add_argument(*names, **kwargs)
        self.keys.extend(action.option_strings)
        return action

    def error(self, message: str) -> NoReturn:
        """Print one clear sentence and exit with code 2.

        Args:
            message: argparse's own message.
        """
        if found := re.match(r"unrecognized arguments: (\S+)", message):
            key, otherwise = found[1].partition("=")[0], f"{self.prog} --help lists all keys."
            hint = f"did you mean {self.synonyms[key]}?" if key in self.synonyms else None
            hint = hint or did_you_mean(key, self.keys, otherwise=otherwise)
            message = f"Unknown key {found[1]!r}; {hint}"
            if not found[1].startswith("-"):
                message = f"Unexpected argument {found[1]!r}; see {self.prog} --help."
        elif found := re.match(r"argument (\S+): (.*)", message):
            message = f"{found[1].split('/')[-1]}: {found[2].rstrip('.')}."
        elif found := re.match(r"the following arguments are required: (.*)", message):
            message = f"{self.prog} needs {found[1]}; see its --help."
        print_error(message)
        sys.exit(2)


def sentence(meaning: str) -> str:
    """Turn a command's meaning, as in the overview, into a sentence."""
    return f"{meaning[0].upper()}{meaning[1:]}."


def file_path(text: str) -> Path:
    """Convert an argument to a path, with ``~`` expanded."""
    return Path(text).expanduser()


def add_class_names(parser: ToolParser) -> None:
    """Add the option ``--data.class_names`` of commands that take weights of other programs.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "--data.class_names",
        dest="class_names",
        type=_class_names,
        metavar="[NAME, …]",
        help="names of the outputs of weights that do not have them",
    )


def positive(text: str) -> int:
    """Convert an argument to a number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def whole_number(text: str) -> int:
    """Convert an argument to a number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def _class_names(text: str) -> list[str]:
    """Convert an argument ``[NAME, …]`` to names."""
    try:
        names = yaml.load(text, yaml.BaseLoader)  # reads yes and 1 as text
    except yaml.YAMLError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names; give '[NAME, …]'")
    if repeated := next((name for name, times in Counter(names).items() if times > 1), None):
        raise argparse.ArgumentTypeError(f"it has {repeated!r} twice; give the name of each class")
    return names
