"""Import classes of other packages by their paths."""

from importlib import import_module
from typing import TypeVar

from inceptionnext_lit.errors import UserError

T = TypeVar("T")


def import_subclass(path: str, base: type[T], key: str) -> type[T]:
    """Import a class by its path.

    Args:
        path: Module and name, such as ``torch.optim.RAdam``.
        base: What it must be a subclass of.
        key: The option that names it, for messages.

    Raises:
        UserError: If it cannot be imported or is not a subclass of ``base``.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key} is {path!r}, which cannot be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{key} is {path!r}, which is not a subclass of torch's {base.__name__}.")
    return found
