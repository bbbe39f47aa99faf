"""Early checks of what a user configures."""

import re
import unicodedata
import warnings
from collections.abc import Iterable

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


def twins(names: Iterable[str]) -> list[list[str]]:
    """Class names that differ in case, spaces, underscores, hyphens or Unicode form alone, as groups of two or more."""
    alike: dict[str, list[str]] = {}
    for name in names:
        plain = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault(re.sub(r"[\s_-]+", " ", plain).strip(), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def warn_of_twins(names: Iterable[str]) -> None:
    """Warn once of class names that look like one class under two names."""
    if found := twins(names):
        listed = "; ".join(" and ".join(map(repr, group)) for group in found)
        warnings.warn(f"These class names look like one class each: {listed}. Merge them if they are.", stacklevel=2)
