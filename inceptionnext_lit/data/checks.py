"""Early checks of what a user configures."""

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence

from inceptionnext_lit.errors import UserError


def check(name: str, value: object, is_valid: bool, expected: str) -> None:
    """Refuses a value of the data configuration.

    Args:
        name: The key below ``data``, such as ``image_size``.
        value: What was given.
        is_valid: Whether it is in order.
        expected: The valid values, in words.

    Raises:
        UserError: If it is not in order.
    """
    if not is_valid:
        raise UserError(f"data.{name} is {value}, but must be {expected}.")


def twin_key(name: str) -> str:
    """What class names have in common that differ in case, spaces, underscores, hyphens or Unicode form alone."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def twins(names: Iterable[str]) -> list[list[str]]:
    """Class names with the same :func:`twin_key`, as groups of two or more."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(twin_key(name), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def warn_of_twins(names: Iterable[str]) -> None:
    """Warn once of class names that look like one class under two names."""
    if found := twins(names):
        listed = "; ".join(" and ".join(map(repr, group)) for group in found)
        warnings.warn(f"These class names look like one class each: {listed}. Merge them if they are.", stacklevel=2)


def enumerate_names(names: Sequence[str], limit: int = 20) -> str:
    """The first names of a list with commas between them, and how many more there are."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
