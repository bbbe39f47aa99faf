"""Render the templates of pages, with the style and the script that they share."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup


def render(name: str, content: dict[str, Any]) -> str:
    """Render a page as HTML that needs no other file and no network.

    Args:
        name: The template: a file next to this module.
        content: Its variables; text is escaped, except SVG.
    """
    parts = files(__package__)

    def load(name: str) -> str:
        return parts.joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(load),
    )
    environment.finalize = lambda value: Markup(value) if str(value).startswith("<svg") else value
    style, script = (Markup(load(f"page.{end}")) for end in ("css", "js"))
    return environment.get_template(name).render(content, style=style, script=script)
