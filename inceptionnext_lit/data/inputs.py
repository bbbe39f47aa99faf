"""What a person names to have labelled, as the paths of image files."""

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from inceptionnext_lit.data.files import IMAGE_SUFFIXES, is_image, list_images, natural_key
from inceptionnext_lit.data.manifest import is_manifest, read_paths
from inceptionnext_lit.errors import UserError


def resolve_inputs(inputs: Sequence[str], suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[str]:
    """Lists the images that are meant, each once, in the order in which they are named.

    Args:
        inputs: Each an image file, a folder (at any depth, in natural order), a pattern with ``*``, ``?``, ``[…]`` or
            ``**`` for any depth (images alone, in natural order), or a manifest with a column ``path``.
        suffixes: Endings of the files that count as images in folders and patterns.

    Returns:
        Paths as they were given: relative ones stay so.

    Raises:
        UserError: If one of them names nothing.
    """
    paths = [path for name in inputs for path in _resolve(os.path.expanduser(name), suffixes)]
    if len(inputs) == 1 and os.path.isdir(os.path.expanduser(inputs[0])):
        return paths  # a walk meets each file once
    return list(_each_once(paths))


def _resolve(name: str, suffixes: Collection[str]) -> list[str]:
    if os.path.isdir(name):
        found, where, advice = (
            list_images(Path(name), suffixes),
            f"below {name}",
            "Name another folder with --data.root",
        )
    elif os.path.isfile(name):
        if not is_manifest(name):
            return [name]
        found, where, advice = read_paths(name), f"in the manifest {name}", "Fill in its column path"
    elif glob.has_magic(name):
        matches = (
            path for path in glob.iglob(name, recursive=True) if is_image(path, suffixes) and os.path.isfile(path)
        )
        found, where, advice = sorted(matches, key=natural_key), f"that match {name}", "Check the pattern"
    else:
        raise UserError(
            f"{name} does not exist. Name a folder of images, or one image file, a pattern or a manifest, after "
            "the word predict or with --data.root."
        )
    if not found:
        raise UserError(f"There are no images {where}. {advice}.")
    return found


def _each_once(paths: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for path in paths:
        place = os.path.abspath(path)
        if place not in seen:
            seen.add(place)
            yield path
