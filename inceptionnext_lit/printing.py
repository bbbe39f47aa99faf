"""Error messages on stderr; names of files and classes in them cannot control the terminal."""

import sys

from inceptionnext_lit.wording import printable


def print_error(sentence: str, process: int = 0) -> None:
    """Print one sentence on stderr.

    Args:
        sentence: What is wrong, where, and what to do.
        process: Rank of the process that says so; the first one need not be named.
    """
    print(f"error{f' (process {process})' * (process > 0)}: {printable(sentence)}", file=sys.stderr)
