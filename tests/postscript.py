"""A PostScript program named like an image file, and the program that would run it."""

from pathlib import Path

import pytest
from PIL import EpsImagePlugin

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
{ } loop
showpage
%%EOF
"""


def fake_ghostscript(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a ``gs`` on the path that creates a file when it is called, and return that file."""
    mark = folder / "gs_was_called"
    program = folder / "bin/gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {mark}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow's cached result of looking for one
    return mark
