"""Reading weight files and checkpoints that may come from a stranger: plain data only, code is never run."""

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
# What training scripts store beside weights, as plain as numbers and dictionaries: scalars and arrays of NumPy, and
# their arguments. Some are read as a simpler class than the one that the file names; that one is not imported.
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


def load_plain(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a file of torch's or of safetensors' on the CPU; its content, not its ending, says which it is.

    Args:
        path: The file.
        mmap: Leave torch's tensors on disk until they are used; for a look at the small parts of a large file.

    Returns:
        The dictionary in it: of tensors, or with tensors somewhere inside. An earlier checkpoint's options have their
        present names.

    Raises:
        UserError: If the file does not exist, is empty, damaged or no dictionary, or holds more than plain data.
    """
    _check_local(path)
    path = Path(path)
    _check_readable(path)
    try:
        content = load_file(path) if _is_safetensors(path) else _load_torch(path, mmap)
    except Exception as error:  # on a foreign file torch raises whatever its bytes happen to lead to
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"The file {path} holds code ({found[1]}) beside weights; it was refused and nothing in it was run."
            ) from error
        raise UserError(f"The file {path} is not a checkpoint, or is damaged; nothing in it was run.") from error
    if not isinstance(content, dict):
        raise UserError(f"The file {path} holds a {type(content).__name__}, but a checkpoint is a dictionary.")
    update_checkpoint(content)
    return content


def check_finite(tensors: Mapping[str, Any], source: str | Path) -> None:
    """Refuse weights that are no numbers, with which every image would get the same wrong label.

    Args:
        tensors: Tensors by name, such as a checkpoint's ``state_dict``; of other values nothing is said.
        source: What messages call them.

    Raises:
        UserError: If a tensor holds NaN or infinite values.
    """
    dense = {name: t for name, t in tensors.items() if isinstance(t, torch.Tensor) and t.layout == torch.strided}
    if broken := [name for name, t in dense.items() if t.is_floating_point() and not t.isfinite().all()]:
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise UserError(
            f"{source} holds NaN or infinite numbers in {', '.join(broken[:_NAMED])}{more}; use an earlier checkpoint."
        )


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read what a safetensors file says about itself.

    Args:
        path: The file.

    Returns:
        Its metadata; empty where there is none, and for files of other kinds.

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
    # torch goes by this ending, even where the content is its own
    mmap = mmap and path.suffix != ".safetensors" and zipfile.is_zipfile(path)
    with torch.serialization.safe_globals(_PLAIN), path.open("rb") as file:
        # said outright, weights_only also holds where TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set
        return torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)


def _check_local(path: str | Path) -> None:
    if found := re.match(r"([A-Za-z][\w+.-]+)://", str(path)):
        raise UserError(
            f"{path} is an address ({found[1]}); checkpoints are read from files only. Download it, look at where it "
            "comes from, and name the file."
        )


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder, not a checkpoint; name the file in it.")
        if not path.is_file():
            raise UserError(f"There is no checkpoint at {path}; check the path.")
        if path.stat().st_size == 0:
            raise UserError(f"The checkpoint {path} is empty (0 bytes); use another one.")
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error


def _is_safetensors(path: Path) -> bool:
    """Whether the file starts as safetensors do: the header's length in 8 bytes, then the header, which is JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8
