"""The files that ``explain`` writes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_save import obstacle

ENDINGS = (".png", ".svg")
_GRID = "grid.png"
MOST_ROWS = 50
"""Maximum number of images in a grid; a taller one is not legible."""


def grid_files(output: Path, paths: Sequence[str], *, into_folder: bool = False) -> list[Path]:
    """Return the files of heat maps: into a folder one per image, and the grid as the last one.

    Args:
        output: A file or a folder.
        paths: The images.
        into_folder: Whether it is a folder whatever its name; one that exists always is.

    Raises:
        UserError: If the file has another ending, or there are too many images for one figure.
    """
    into_folder = into_folder or output.is_dir()
    if output.suffix.lower() in ENDINGS and not into_folder:
        if len(paths) > MOST_ROWS:
            raise UserError(
                f"{len(paths):,} images do not fit into one figure, which takes {MOST_ROWS}; give a folder as --output."
            )
        return [output]
    if output.suffix and not into_folder:
        raise UserError(
            f"--output is {output}; give a file that ends in {' or '.join(ENDINGS)}, or a folder, as {output}{os.sep} "
            "if it has a dot."
        )
    taken = {Path(_GRID).stem}
    files = []
    for path in paths:
        stem = name = Path(path).stem
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        files.append(output / f"{name}.png")
    return [*files, output / _GRID]


def spectrum_files(output: Path, *, into_folder: bool = False) -> list[Path]:
    """Return the files of spectra and receptive fields, or the one with all numbers.

    Args:
        output: A file.
        into_folder: Whether a folder was given.

    Raises:
        UserError: If it has another ending, or is a folder.
    """
    if into_folder or output.is_dir():
        raise UserError(f"--output is the folder {output}; with --spectrum give a .png, .svg or .json file.")
    if output.suffix.lower() == ".json":
        return [output]
    if output.suffix.lower() not in ENDINGS:
        raise UserError(f"--output is {output}; with --spectrum give a file that ends in .png, .svg or .json.")
    return [output, output.with_stem(f"{output.stem}_erf")]


def check_files(files: Sequence[Path], inputs: Sequence[str] = (), *, overwrite: bool) -> None:
    """Refuse outputs that exist or cannot be written, before anything is computed.

    Args:
        files: The files.
        inputs: The images, which are never replaced.
        overwrite: Whether other files may exist.

    Raises:
        UserError: If one exists, or its folder cannot be written.
    """
    images = {os.path.realpath(path) for path in inputs}
    for file in files:
        if os.path.exists(file) and os.path.realpath(file) in images:
            raise UserError(f"{file} is one of the images, which are not replaced; give another --output.")
        if os.path.isdir(file):
            raise UserError(f"{file} is a folder, where a figure would be written; give another --output.")
        if os.path.exists(file) and not overwrite:
            raise UserError(f"{file} already exists; add --overwrite to replace it, or give another --output.")
    if (code := obstacle(files[0])) is not None:
        raise UserError(f"{files[0]} cannot be written: {os.strerror(code)}; give another --output.")


@contextmanager
def saving(file: Path) -> Iterator[None]:
    """Turn an error of writing a file into one sentence.

    Args:
        file: The file that the block writes.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}; give another --output.") from error
