"""How messages word numbers and foreign text, such as the names of files and classes."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def did_you_mean(
    word: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.6, otherwise: str | None = None
) -> str:
    """A question for the names that a word may have been meant for.

    Args:
        word: What was given.
        known: What could have been.
        most: How many are asked for.
        cutoff: How alike they have to be, from 0 to 1.
        otherwise: What to say if none is; all that are known, if not given.
    """
    known = list(known)
    near = get_close_matches(word, known, n=most, cutoff=cutoff)
    if not near and otherwise is not None:
        return otherwise
    return f"did you mean {' or '.join(near or known)}?"


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop; the error's type where there is no message."""
    return str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__


def printable(text: str) -> str:
    """A name with what would spoil a line or hide (control signs, odd spaces, undecodable bytes) as escapes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def printable_lines(text: str) -> str:
    """Text of several lines, each of them :func:`printable`."""
    return "\n".join(printable(line) for line in text.split("\n"))


def listed(names: Sequence[str], limit: int = 3) -> str:
    """The first names, printable, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit:,} more" if len(names) > limit else "")
