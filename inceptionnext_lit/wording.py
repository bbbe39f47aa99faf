"""Numbers, lists and untrusted text, such as file and class names, in messages."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


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


def distinct_ends(paths: Sequence[str | Path]) -> list[str]:
    """Return the shortest end of each path that no other path has: the file's name, or folders and the name.

    Args:
        paths: Paths of files; the same one may be given several times.
    """
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    lengths = dict.fromkeys(parts, 1)
    pending = list(lengths)
    while pending:
        ends = Counter(whole[-lengths[whole] :] for whole in pending)
        pending = [one for one in pending if ends[one[-lengths[one] :]] > 1 and lengths[one] < len(one)]
        for whole in pending:
            lengths[whole] += 1
    return [os.path.join(*whole[-lengths[whole] :]) for whole in parts]


def starting_with(start: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Return the names that begin with a text, the shortest first.

    Args:
        start: The text.
        names: The names.
        most: Maximum number of them.
    """
    found = [name for name in names if start and name.startswith(start)]
    return sorted(found, key=lambda name: (len(name), name))[:most]
