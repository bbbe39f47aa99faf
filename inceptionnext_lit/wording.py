"""Numbers, lists and untrusted text, such as file and class names, in messages."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the singular or the plural."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def did_you_mean(
    word: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.6, otherwise: str | None = None
) -> str:
    """Return a question that suggests names similar to a word.

    Args:
        word: What was given.
        known: The valid names.
        most: Maximum number of suggestions.
        cutoff: Minimum similarity, from 0 to 1.
        otherwise: What to return if no name is similar; by default all valid names are suggested.
    """
    known = list(dict.fromkeys(known))
    near = get_close_matches(word, known, n=most, cutoff=cutoff)
    if not near and otherwise is not None:
        return otherwise
    return f"did you mean {' or '.join(near or known)}?"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its period, or the error's type if there is no message."""
    return str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__


def printable(text: str) -> str:
    """Escape what could hide or break a line: control characters, unusual spaces and undecodable bytes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """Apply :func:`printable` to each line of a text."""
    return "\n".join(printable(line) for line in text.split("\n"))


def listed(names: Sequence[str], limit: int = 3) -> str:
    """Return the first names, printable, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit:,} more" if len(names) > limit else "")
