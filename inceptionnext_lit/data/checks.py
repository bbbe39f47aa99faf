"""Early checks of what a user configures."""

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
