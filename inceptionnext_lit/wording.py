"""How messages word numbers and foreign text, such as the names of files and classes."""

from collections.abc import Sequence


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


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
