"""A program in PostScript that looks like an image file by its name, and the program that would run it."""

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
    """Puts a ``gs`` on the path that leaves a file behind when it is called; returns that file."""
    mark = folder / "gs_was_called"
    program = folder / "bin/gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {mark}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # where Pillow keeps whether it found one
    return mark
