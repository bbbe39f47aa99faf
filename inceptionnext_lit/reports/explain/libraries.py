"""The optional libraries of heat maps and figures."""

import importlib.util

from inceptionnext_lit.errors import UserError


def check_captum() -> None:
    """Raise a UserError if captum, which computes heat maps, is not installed."""
    _check("captum", "Heat maps")


def check_matplotlib() -> None:
    """Raise a UserError if matplotlib, which draws figures, is not installed."""
    _check("matplotlib", "Figures")


def _check(library: str, purpose: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise UserError(f"{purpose} need {library}; install it with pip install 'inceptionnext-lit[explain]'.")
