"""Read untrusted weight files and checkpoints: plain data only, code is never run."""

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.renamed import update_checkpoint

_NAMED = 4
# Plain data that training scripts store with weights: NumPy scalars and arrays, and parsed arguments. Some classes are
# read as simpler ones, without importing the class that the file names.
_PLAIN: list[Any] = [
    *(type(np.dtype(code)) for code in "?bhilqBHILQefdgFDGUSMm"),
    np.dtype,
    np.ndarray,
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((np.zeros(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    argparse.Namespace,
    SimpleNamespace,
    *((argparse.Namespace, f"jsonargparse.{module}.Namespace") for module in ("namespace", "_namespace")),
    PurePosixPath,
    PureWindowsPath,
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
]
SUFFIXES = (".ckpt", ".safetensors", ".pth", ".pt", ".bin")  # of checkpoints and files of weights


def load_plain(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a torch or safetensors file on the CPU; the format is detected from its content, not its name.

    Args:
        path: The file.
        mmap: Leave torch's tensors on disk until they are used, for reading small parts of a large file.

    Returns:
        The file's dictionary of tensors, possibly nested; options of an earlier checkpoint have their current names.

    Raises:
        UserError: If the file does not exist, is empty or damaged, is not a dictionary, or contains more than plain
            data.
    """
    _check_local(path)
    path = Path(path)
    _check_readable(path)
    try:
        content = load_file(path) if _is_safetensors(path) else _load_torch(path, mmap)
    except Exception as error:  # torch raises many types of errors on other files
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"The file {path} contains code ({found[1]}) besides weights; it was refused and nothing in it was run."
            ) from error
        raise UserError(f"The file {path} is not a checkpoint, or is damaged; nothing in it was run.") from error
    if not isinstance(content, dict):
        raise UserError(f"The file {path} contains a {type(content).__name__}, but a checkpoint is a dictionary.")
    update_checkpoint(content)
    return content


def check_finite(tensors: Mapping[str, Any], source: str | Path) -> None:
    """Refuse NaN or infinite weights, with which every image would get the same wrong label.

    Args:
        tensors: Tensors by name, such as a checkpoint's ``state_dict``; other values are ignored.
        source: What messages call them.

    Raises:
        UserError: If a tensor contains NaN or infinite values.
    """
    dense = {name: t for name, t in tensors.items() if isinstance(t, torch.Tensor) and t.layout == torch.strided}
    if broken := [name for name, t in dense.items() if t.is_floating_point() and not t.isfinite().all()]:
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise UserError(
            f"{source} contains NaN or infinite values in {', '.join(broken[:_NAMED])}{more}; "
            "use an earlier checkpoint."
        )


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata of a safetensors file.

    Args:
        path: The file.

    Returns:
        Its metadata; empty if there is none, or for other file formats.

    Raises:
        UserError: If the file does not exist, is empty or is damaged.
    """
    path = Path(path)
    _check_readable(path)
    if not _is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise UserError(f"The file {path} is not a checkpoint, or is damaged; nothing in it was run.") from error


def _load_torch(path: Path, mmap: bool) -> Any:
    # torch decides by this suffix, even if the content is its own format, and maps no file whose name is not UTF-8
    mmap = mmap and path.suffix != ".safetensors" and zipfile.is_zipfile(path) and _is_utf_8(str(path))
    with torch.serialization.safe_globals(_PLAIN), path.open("rb") as file:
        # an explicit weights_only holds even if TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set
        return torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)


def _is_utf_8(name: str) -> bool:
    return name.encode(errors="replace").decode() == name


def _check_local(path: str | Path) -> None:
    if found := re.match(r"([A-Za-z][\w+.-]+)://", str(path)):
        raise UserError(
            f"{path} is a URL ({found[1]}); checkpoints are read from local files only. Check where it comes from, "
            "download it, and give the path of the file."
        )


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder, not a checkpoint; give the path of a file in it.")
        if not path.is_file():
            raise UserError(f"No checkpoint at {path}; check the path.")
        if path.stat().st_size == 0:
            raise UserError(f"The checkpoint {path} is empty (0 bytes); use another one.")
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error


def _is_safetensors(path: Path) -> bool:
    """Return whether the file starts like safetensors: the header's length in 8 bytes, then a JSON header."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8
