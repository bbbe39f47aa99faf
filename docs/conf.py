"""How Sphinx builds the site: ``make docs``."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

from inceptionnext_lit import __version__  # noqa: E402  (found by the line above)

project = "inceptionnext_lit"
author = "the authors of inceptionnext_lit"
version = release = __version__
copyright = "the authors of inceptionnext_lit"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "api_reference", "cli_reference"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # so that links to headings work as they do on GitHub

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

nitpicky = True
nitpick_ignore_regex = [  # other packages, whose references are on the network
    (r"py:.*", r"(?!inceptionnext_lit).*"),
    (r"py:class", r".*\.(T|_T|_R|Batch|Table|LayoutType|ModuleType|CheckedType|CheckedResult)"),  # type variables
]

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {  # nothing that is fetched from the network
    "logo": {"text": project},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    # none where tables need the width
    "secondary_sidebar_items": {"**": ["page-toc"], "benchmarks": [], "paper": [], "recipes": []},
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}


def leave_out_fields(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out the entries of named tuples, which their class describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> None:
    """Connect what this file adds."""
    app.connect("autodoc-skip-member", leave_out_fields)
