"""Put exported files in their place only when they are complete and checked."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import Format
from inceptionnext_lit.safe_save import flush_folder, obstacle, partial_prefix


def metadata_file(output: Path) -> Path:
    """Return the file beside an exported one with its metadata: ``model.onnx.json``."""
    return output.with_name(f"{output.name}.json")


def check_output(output: Path, one: Format, sources: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse an unsuitable output before anything is computed.

    Args:
        output: The file to write.
        one: Its format.
        sources: Files that are never replaced.
        overwrite: Whether other files may exist.

    Raises:
        UserError: If it has another suffix, exists, is one of the sources, holds one of them, is a folder that export
            has not written, or cannot be written.
    """
    if output.suffix != one.suffix:
        raise UserError(f"--output is {output}; it must end in {one.suffix}.")
    for file in (output, metadata_file(output)):
        if any(_holds(file, source) for source in sources):
            raise UserError(f"--output would replace {file}, which it is made from; give another name.")
        if os.path.lexists(file) and not overwrite:
            raise UserError(f"{file} already exists; add --overwrite to replace it, or give another --output.")
        target = file.with_name(f".{file.name}") if os.path.isdir(file) and one.is_own_folder(file) else file
        if (code := obstacle(target)) is not None:
            raise UserError(f"--output {file} cannot be written: {os.strerror(code)}; give another one.")


@contextmanager
def staging(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder, whose content is moved next to the output at the end.

    The output itself is moved last. After an error, or a kill, nothing new is in its place. A folder is replaced as a
    whole: the old one is renamed before, and removed at the end.

    Args:
        output: The file to write.
        overwrite: Whether files that another program has written there in the meantime are replaced.

    Raises:
        UserError: If there are such files, and they are not.
        SystemExit: After SIGTERM, so that the temporary folder is removed.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.TemporaryDirectory(prefix=partial_prefix(output), suffix=".partial", dir=output.parent)
    with _unwound_by_sigterm(), temporary as folder:
        staged = Path(folder) / output.name
        yield staged
        others = sorted(path for path in Path(folder).iterdir() if path != staged)
        for path in (*others, staged):
            _flush(path)
        targets = [output.with_name(path.name) for path in (*others, staged)]
        if not overwrite and (found := next((path for path in targets if os.path.lexists(path)), None)):
            raise UserError(
                f"{found} was written by another program during the export, and is kept; add --overwrite to replace "
                "it, or give another --output."
            )
        if staged.is_dir() and os.path.lexists(output):
            os.replace(output, Path(folder) / "replaced")
        elif others and output.is_file():
            output.unlink()  # it must not be there with the new other files
        for path in (*others, staged):
            os.replace(path, output.with_name(path.name))
        flush_folder(output.parent)


@contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def floats(staged: Path) -> Iterator[Path]:
    """Yield a path of the same name for the file in floats that an int8 file is made from, which is removed at the end.

    Args:
        staged: The path of the int8 file.
    """
    with tempfile.TemporaryDirectory(prefix=".floats.", dir=staged.parent.parent) as folder:
        yield Path(folder) / staged.name


def _flush(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle)


def _holds(output: Path, source: Path) -> bool:
    """Return whether a file is the source, or a folder has it inside."""
    found = Path(os.path.realpath(source))
    return Path(os.path.realpath(output)) in (found, *found.parents)
