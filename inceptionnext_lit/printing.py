"""The way from messages to a terminal: what is foreign in them (names of files and classes) cannot control it."""

import sys
from typing import Any

from rich.console import Console

from inceptionnext_lit.wording import printable, printable_lines


class LineConsole(Console):
    """A console for whole lines of plain text, none of which is a terminal's escape sequence."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False)

    def print(self, *objects: Any, **kwargs: Any) -> None:
        """Print text, of which control signs come as escapes."""
        super().print(*(printable_lines(str(text)) for text in objects), **kwargs)


def print_error(sentence: str, process: int = 0) -> None:
    """Print one sentence on stderr.

    Args:
        sentence: What is wrong, where, and what to do.
        process: Rank of the process that says so; the first one need not be named.
    """
    print(f"error{f' (process {process})' * (process > 0)}: {printable(sentence)}", file=sys.stderr)
