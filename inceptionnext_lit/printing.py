"""Error messages on stderr, with escaped file and class names so that they cannot control the terminal."""

import sys

from inceptionnext_lit.wording import printable


def print_error(sentence: str, rank: int = 0) -> None:
    """Print one sentence on stderr.

    Args:
        sentence: What is wrong, where, and what to do.
        rank: Rank that reports the error; the first one is not named.
    """
    print(f"error{f' (rank {rank})' * (rank > 0)}: {printable(sentence)}", file=sys.stderr)
