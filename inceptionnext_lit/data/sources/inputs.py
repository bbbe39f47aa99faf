"""Resolve the inputs of a prediction to the paths of image files."""

import glob
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from inceptionnext_lit.data.sources.columns import ColumnNames, find_columns, known_names
from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES, is_image_file, is_skipped, list_images, natural_key
from inceptionnext_lit.data.sources.manifest import read_paths
from inceptionnext_lit.data.sources.scan import Scan
from inceptionnext_lit.data.tables import is_table, open_table
from inceptionnext_lit.errors import UserError

_USUAL = ColumnNames()


def resolve_inputs(
    inputs: Sequence[str],
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    columns: ColumnNames = _USUAL,
    note: Callable[[str], object] = warnings.warn,
    ignored: Counter[str] | None = None,
) -> list[str]:
    """List the images that the inputs match, each once, in the order of the inputs.

    Args:
        inputs: Each an image file, a folder (at any depth, in natural order), a pattern with ``*``, ``?``, ``[…]`` or
            ``**`` for any depth (only images, in natural order), or a manifest with a column ``path``.
        suffixes: Suffixes of image files in folders, patterns and manifests.
        columns: Unusual names of the manifests' columns.
        note: Called with remarks on how a manifest was read.
        ignored: Counter that the skipped images are added to, by their folder, such as ``@eaDir``.

    Returns:
        The paths, relative if given so.

    Raises:
        UserError: If an input does not match any image.
    """
    left_out: Counter[str] = Counter() if ignored is None else ignored
    paths = [path for name in inputs for path in _resolve(os.path.expanduser(name), suffixes, columns, note, left_out)]
    if len(inputs) == 1 and os.path.isdir(os.path.expanduser(inputs[0])):
        return paths  # a walk visits each file once
    return list(_each_once(paths))


def _resolve(
    name: str,
    suffixes: Collection[str],
    columns: ColumnNames,
    note: Callable[[str], object],
    ignored: Counter[str],
) -> list[str]:
    if os.path.isdir(name):
        with Scan(name) as scan:
            found = list_images(name, suffixes, scan)
        ignored.update(scan.ignored)
        where, advice = f"below {name}", "Name another folder"
    elif os.path.isfile(name):
        if not is_table(name) or (name.lower().endswith(".txt") and not _names_images(Path(name), columns)):
            return [name]
        found, notes = read_paths(name, columns=columns, suffixes=suffixes)
        for sentence in notes:
            note(sentence)
        where, advice = f"in the manifest {name}", "Fill in its column of paths"
    elif glob.has_magic(name):
        named = {part for part in name.split(os.sep) if is_skipped(part)}  # an @eaDir in the pattern is not skipped
        matches = []
        for path in glob.iglob(name, recursive=True):
            if is_image_file(path, suffixes) and os.path.isfile(path):
                if junk := [part for part in path.split(os.sep) if is_skipped(part) and part not in named]:
                    ignored[junk[0]] += 1
                else:
                    matches.append(path)
        found, where, advice = sorted(matches, key=natural_key), f"that match {name}", "Check the pattern"
    else:
        raise UserError(f"{name} does not exist. Name a folder of images, an image file, a pattern or a manifest.")
    if not found:
        raise UserError(f"No images {where}. {advice}.")
    return found


def _names_images(path: Path, columns: ColumnNames) -> bool:
    """Return whether a text file is a manifest, and not a note among the images."""
    try:
        table = open_table(path, lambda names: known_names(names, columns))
        return "path" in find_columns(path, table.names, columns, needed=("path",))
    except UserError:
        return False


def _each_once(paths: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for path in paths:
        place = os.path.abspath(path)
        if place not in seen:
            seen.add(place)
            yield path
