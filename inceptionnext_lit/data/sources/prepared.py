"""Folders that ``prepare`` has written: their record says what to read."""

import json
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError

FILE = "dataset.json"
STATE = ".prepare.json"  # written first; says which data set an unfinished folder belongs to
FORMAT = "inceptionnext_lit/dataset"  # marks our files; other tools also write files of this name
MANIFEST = "manifest.csv"
STATE = ".prepare.json"  # written first; says which data set an unfinished folder belongs to


def read_fields(folder: Path) -> dict[str, Any] | None:
    """Return the fields of a folder's record; None if ``prepare`` has not written the folder, or not finished.

    Args:
        folder: The folder.

    Raises:
        UserError: If the file cannot be read.
    """
    path = folder / FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # another program's file
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Check that it may be read.") from error
    return fields if isinstance(fields, dict) and fields.get("format") == FORMAT else None


def refuse_unfinished(root: Path) -> None:
    """Stop on a folder that ``prepare`` has begun, and not finished.

    Args:
        root: A data folder.

    Raises:
        UserError: If it is such a folder.
    """
    if (root / STATE).is_file() and read_fields(root) is None:
        raise UserError(f"{root} is not completely prepared; give the prepare command that began it again.")


def prepared_root(root: Path) -> Path:
    """Return what to read for a data folder: the manifest in it if ``prepare`` has written one, or else the folder.

    Args:
        root: A data folder or a manifest.

    Raises:
        UserError: If ``prepare`` has begun there, but not finished.
    """
    fields = read_fields(root)
    if fields is None and (root / STATE).is_file():
        raise UserError(
            f"The data set in {root} is incomplete: prepare was stopped there. Give the same prepare command again, or "
            f"delete {root / STATE} if the folder is yours."
        )
    return root / MANIFEST if fields is not None and fields.get("root") == MANIFEST else root


def is_prepared_manifest(path: Path) -> bool:
    """Return whether ``prepare`` has written a manifest, whose labels are exact: ``NA`` is Namibia."""
    return path.name == MANIFEST and prepared_root(path.parent) == path
