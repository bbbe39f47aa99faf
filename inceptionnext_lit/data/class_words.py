"""Words for classes that are named by a WordNet ID, from timm's tables of ImageNet: ``n02123045`` is a tabby."""

import csv
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from inceptionnext_lit.wording import printable

_WNID = re.compile(r"n\d{8}")
_INFO = ("data", "_info")  # where timm keeps its tables
_REMEMBERED: dict[str, str] = {}  # those that an exported file brings, for programs without timm
_LEMMAS, _CLASSES = "imagenet_synset_to_lemma.txt", "imagenet_synsets.txt"


def is_wnid(name: str) -> bool:
    """Return whether a name has the form of a WordNet ID of a noun: an ``n`` and eight digits."""
    return _WNID.fullmatch(name) is not None


def class_words(name: str) -> str | None:
    """Return the words of a WordNet ID, such as ``tabby, tabby cat`` for ``n02123045``, or None.

    They are those of :class:`timm.data.ImageNetInfo` for the classes of ImageNet-1k, -12k, -21k and -22k.

    Args:
        name: Name of a class.
    """
    return _REMEMBERED.get(name) or _words().get(name) if is_wnid(name) else None


def remember_words(words: Mapping[str, str]) -> None:
    """Add words of WordNet IDs to those of timm's tables.

    Args:
        words: Words by ID.
    """
    _REMEMBERED.update(words)


def joined_words(label: str) -> str | None:
    """Return the words of a predicted label, which may be several names joined by ``|``; None if none has words."""
    words = [class_words(name) for name in label.split("|")]
    return "|".join(word or "" for word in words) if any(words) else None


def first_word(name: str) -> str:
    """Return the first of a class's words, such as ``tabby``; the name itself if it has none."""
    return (class_words(name) or name).partition(",")[0] if is_wnid(name) else name


def with_words(name: str) -> str:
    """Return the name of a class for display, followed by its first word: ``n02123045 (tabby)``.

    Args:
        name: Name of a class; one without words is returned unchanged.
    """
    word = first_word(name)
    return name if word == name else f"{name} ({word})"


def display_name(name: str) -> str:
    """Return the name of a class with its first word, and with control characters escaped."""
    return printable(with_words(name))


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the WordNet IDs of ImageNet-1k's classes in index order, which is sorted order."""
    text = _read(_CLASSES)
    if text is None:
        from timm.data import ImageNetInfo

        return tuple(ImageNetInfo().label_names())
    return tuple(text.split())


@cache
def _words() -> dict[str, str]:
    text = _read(_LEMMAS)
    if text is None and find_spec("timm") is None:
        return {}
    if text is None:
        from timm.data import ImageNetInfo

        words: dict[str, str] = ImageNetInfo("imagenet-22k").label_descriptions(as_dict=True)
        return words
    return {wnid: words for wnid, words in csv.reader(text.splitlines(), delimiter="\t")}


def _read(table: str) -> str | None:
    """Return one of timm's tables without importing timm, which takes seconds; None if it is elsewhere."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent.joinpath(*_INFO, table)
    return file.read_text(encoding="utf-8") if file.is_file() else None
