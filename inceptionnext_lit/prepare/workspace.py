"""The output folder of ``prepare``: one process at a time, and never over files of somebody else."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from inceptionnext_lit.data.sources.prepared import STATE
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.record import FILE, MANIFEST
from inceptionnext_lit.prepare.replacing import SCENES, SPLITS, discard, restore, set_aside
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.wording import printable

LOCK = ".prepare.lock"
DOWNLOADS = "source"  # of image files, which stay there
HIDDEN_DOWNLOADS = ".source"  # of arrays, next to class folders
UNFINISHED = ".unfinished"  # of ImageNet: images that are not checked yet
MISSING = "missing.txt"  # of ImageNet: names of missing images
MOVED = ".moved"  # the images were moved there, so they may be the only copy


@contextlib.contextmanager
def claimed(
    output: Path, name: str, source: Path | None, *, overwrite: bool, wait: Callable[[], object] | None = None
) -> Iterator[None]:
    """Create the output folder if needed, and lock it for this process.

    The lock is released when the process ends, however it ends.

    Args:
        output: The folder.
        name: The data set.
        source: What was downloaded; it may be, or be in, the output folder.
        overwrite: Whether to replace what ``prepare`` has written there before, once the new data set is complete; it
            is restored if nothing of the new one can be written.
        wait: Called before waiting for another process; None to raise instead.

    Raises:
        UserError: If another process works there, or the folder contains something else.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; name a folder with --output.")
    _check_content(output, name, source, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK).open("a") as lock:
        _lock(lock, output, wait)
        _check_content(output, name, source, overwrite=overwrite)
        if overwrite:
            _clear(output, name)
        if read_state(output) is None:
            with replacing(output / STATE) as partial:
                partial.write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")
        try:
            yield
        except UserError:
            begun = (*SPLITS, *SCENES, MANIFEST, DOWNLOADS, HIDDEN_DOWNLOADS, UNFINISHED, MISSING, MOVED)
            if not any((output / entry).exists() for entry in begun):  # nothing to continue
                (output / STATE).unlink(missing_ok=True)
            if not any((output / entry).exists() for entry in (*SPLITS, *SCENES, MANIFEST, UNFINISHED)):
                restore(output)
            raise
        discard(output)


def read_state(output: Path) -> str | None:
    """Return the name of the data set that a folder belongs to; None if ``prepare`` has not begun there."""
    try:
        state = json.loads((output / STATE).read_text(encoding="utf-8"))
        return str(state["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_content(output: Path, name: str, source: Path | None, *, overwrite: bool) -> None:
    if not output.is_dir():
        return
    earlier = read_state(output)
    if earlier is not None:
        if earlier != name and not overwrite:
            raise UserError(
                f"{output} already belongs to the data set {printable(earlier)}; name another folder with --output, "
                "or replace it with --overwrite."
            )
        return
    others = sorted(entry for entry in os.listdir(output) if entry != LOCK)
    is_source = source is not None and source.resolve().is_relative_to(output.resolve())
    mine = [entry for entry in others if entry in (*SPLITS, *SCENES, MANIFEST, FILE)]
    if others and (mine or not is_source):
        raise UserError(
            f"{output} is not empty (it has {printable((mine or others)[0])}) and was not written by prepare; name a "
            "new folder with --output."
        )


def _clear(output: Path, name: str) -> None:
    """Set aside what an earlier run has written; downloads of the same data set stay."""
    if (earlier := read_state(output)) is None:
        return
    if (output / MOVED).exists():
        raise UserError(
            f"{output} has images that were moved there (--mode move) and may be the only copy; --overwrite does not "
            "delete them; move them elsewhere, or name another folder with --output."
        )
    set_aside(output, (UNFINISHED, *((DOWNLOADS, HIDDEN_DOWNLOADS) if earlier != name else ())))


def _lock(file: IO[str], output: Path, wait: Callable[[], object] | None) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if wait is None:
            raise UserError(
                f"Another process is preparing a data set in {output}; wait for it, or name another folder with "
                "--output."
            ) from error
        wait()
        fcntl.flock(file, fcntl.LOCK_EX)
