"""Check options with a fixed set of values when they are set in Python, as the command line does by their types."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from inceptionnext_lit.errors import UserError


def check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a text that is not among the values of an option; values of other types pass.

    Raises:
        UserError: If it is refused; it names the key and all choices.
    """
    if isinstance(value, str) and value not in choices:
        raise UserError(f"{key} is {value!r}; choose one of {', '.join(choices)}.")


def check_choices(options: Any, key: str) -> None:
    """Refuse a text in a dataclass whose annotation is a ``Literal`` without it.

    Args:
        options: An instance of a dataclass.
        key: Where its fields are on the command line, such as ``model.loss``.

    Raises:
        UserError: If a value is refused.
    """
    for name, choices in choices_of(type(options)).items():
        check_choice(f"{key}.{name}", getattr(options, name), choices)


def choices_of(cls: type) -> dict[str, tuple[str, ...]]:
    """Return the texts that the fields of a dataclass with a ``Literal`` type may have, by the field's name."""
    found = {}
    for name, hint in get_type_hints(cls).items():
        types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        values = [value for one in types if get_origin(one) is Literal for value in get_args(one)]
        if values and str not in types:
            found[name] = tuple(value for value in values if isinstance(value, str))
    return found
