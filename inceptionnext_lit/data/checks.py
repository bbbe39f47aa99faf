"""Early checks of the data configuration."""

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence

from inceptionnext_lit.errors import UserError


def check(name: str, value: object, is_valid: bool, expected: str) -> None:
    """Reject an invalid value of the data configuration.

    Args:
        name: The key below ``data``, such as ``image_size``.
        value: The given value.
        is_valid: Whether it is valid.
        expected: Description of the valid values.

    Raises:
        UserError: If the value is not valid.
    """
    if not is_valid:
        raise UserError(f"data.{name} is {value}, but must be {expected}.")


def twin_key(name: str) -> str:
    """Normalize a class name, ignoring case, spaces, underscores, hyphens and Unicode form."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def twins(names: Iterable[str]) -> list[list[str]]:
    """Group class names with the same :func:`twin_key`, in groups of two or more."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(twin_key(name), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def warn_of_twins(names: Iterable[str]) -> None:
    """Warn once about class names that look like the same class."""
    if found := twins(names):
        listed = "; ".join(" and ".join(map(repr, group)) for group in found)
        warnings.warn(f"These class names look like one class each: {listed}. Merge them if they are.", stacklevel=2)


def enumerate_names(names: Sequence[str], limit: int = 20) -> str:
    """Join the first names of a list with commas, followed by the number of remaining ones."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
