"""Metadata in torch's ``.pt2`` archives, which are zip files.

Archives of torch 2.8 and later have all entries in a folder. Graphs of torch 2.7 have theirs at the top.
"""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.metadata import KEY

_OLD_GRAPH = "serialized_exported_program.json"
_OLD_EXTRA = f"extra_files/{KEY}"
_INT8_OPERATORS = b"quantized_decomposed"


def stamp(file: Path, text: str) -> None:
    """Store metadata where ``torch.export.load`` finds it with ``extra_files``.

    Args:
        file: The archive, which is extended.
        text: The metadata as JSON.
    """
    with zipfile.ZipFile(file, "a") as archive:
        names = archive.namelist()
        archive.writestr(_OLD_EXTRA if _OLD_GRAPH in names else f"{names[0].partition('/')[0]}/extra/{KEY}", text)


def check_archive(file: Path) -> None:
    """Refuse a file that is not such an archive, on which torch prints its own tracebacks, or has damaged entries.

    Torch does not compare entries with their checksums, and would compute with damaged weights.

    Args:
        file: The file.

    Raises:
        UserError: If it is another file, cut off, or damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            is_one = _is_graph(archive.namelist()) and archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error):
        is_one = False
    if not is_one:
        raise UserError(f"{file} is damaged, or not a file of torch.export; export it again.")


def is_old(file: Path) -> bool:
    """Return whether torch 2.7 has written an archive.

    Args:
        file: The archive.
    """
    with zipfile.ZipFile(file) as archive:
        return _OLD_GRAPH in archive.namelist()


def has_int8(file: Path) -> bool:
    """Return whether the graph in an archive has layers in int8.

    Args:
        file: The archive.
    """
    with zipfile.ZipFile(file) as archive:
        graphs = [name for name in archive.namelist() if name == _OLD_GRAPH or name.endswith("/models/model.json")]
        return any(_INT8_OPERATORS in archive.read(name) for name in graphs)


def stored_text(file: Path) -> str | None:
    """Return the metadata of an archive; None if it has none.

    Args:
        file: The archive.
    """
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name == _OLD_EXTRA or name.endswith(f"/extra/{KEY}"):
                return archive.read(name).decode("utf-8")
    return None


def has_machine_code(file: Path) -> bool:
    """Return whether an archive was compiled for a machine.

    Args:
        file: The file; one that is not an archive was not.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return any("/data/aotinductor/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _is_graph(names: Iterable[str]) -> bool:
    return any(name == _OLD_GRAPH or name.endswith("/archive_format") for name in names)
