"""Find out whether ``predict`` is asked of an exported file."""

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS

_KEY = "--ckpt_path"
_SUFFIXES = tuple({one.suffix for one in FORMATS.values()})


def is_exported(path: Path) -> bool:
    """Return whether a file has the suffix of an exported one.

    Args:
        path: The file.
    """
    return path.name.lower().endswith(_SUFFIXES)


def exported_file(words: Sequence[str]) -> Path | None:
    """Return the exported file that a command line of ``predict`` names, as its first word or as its checkpoint.

    Args:
        words: Arguments after ``predict``.

    Raises:
        UserError: If one is named among the images.
    """
    named = list(words[:1])
    for word in takewhile(lambda word: not word.startswith("-"), words):
        if word.lower().endswith(_SUFFIXES) and word not in named:
            raise UserError(f"{word} is named like an exported file; give it before the images: predict {word} IMAGES.")
    for place, word in enumerate(words):
        key, _, value = word.partition("=")
        if key == _KEY:
            named.append(value or next(iter(words[place + 1 :]), ""))
    for name in named:
        if name.lower().endswith(_SUFFIXES) and not name.startswith("-"):
            return Path(os.path.expanduser(name))
    return None
