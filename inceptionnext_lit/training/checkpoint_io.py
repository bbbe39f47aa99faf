"""Read and write checkpoint files so that neither a crash nor a stranger's file does harm."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_load import check_finite, load_plain
from inceptionnext_lit.safe_save import replacing


def read_checkpoint(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a Lightning checkpoint on the CPU; code in it is never run.

    Args:
        path: The file.
        mmap: Leave tensors on disk until they are used; for a look at the small parts of a large file.

    Returns:
        The checkpoint's dictionary, which holds at least ``"state_dict"``.

    Raises:
        UserError: If the file does not exist, is empty, is no checkpoint, or holds more than plain data.
    """
    content = load_plain(path, mmap=mmap)
    if "state_dict" not in content:
        raise UserError(f"The file {path} is no Lightning checkpoint: it has no 'state_dict' entry.")
    return content


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint that is read once and used for all that a command takes from it.

    Attributes:
        path: The file.
        content: Its dictionary; tensors stay on disk until they are used.
    """

    path: str
    content: dict[str, Any]


def open_checkpoint(path: str | Path) -> OpenCheckpoint:
    """Open a Lightning checkpoint whose weights are finite.

    Args:
        path: The file.

    Raises:
        UserError: As :func:`read_checkpoint`; and if a weight is NaN or infinite.
    """
    content = read_checkpoint(path, mmap=True)
    check_finite(content["state_dict"], f"The checkpoint {path}")
    return OpenCheckpoint(os.fspath(path), content)


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoint files are complete or absent, and hold plain data only.

    Args:
        opened: A checkpoint that is not read again, even if its file has changed since; None if there is none.
    """

    def __init__(self, opened: OpenCheckpoint | None = None) -> None:
        self._opened = opened

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write beside the target, flush to disk, then rename over it, so that the old file stays until then.

        Args:
            checkpoint: What to write.
            path: The target file.
            storage_options: Not used; part of Lightning's signature.

        Raises:
            UserError: If the file system does not take it, for instance because it is full.
        """
        target = Path(path)
        try:
            with replacing(target) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            if (reason := _system_error(error)) is None:
                raise
            raise UserError(_write_failure(target, checkpoint, reason)) from error

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read with :func:`read_checkpoint`, whatever the caller asks for.

        Args:
            path: The file.
            map_location: Not used; tensors come to the CPU and Lightning moves them.
            weights_only: Not used; only plain data is ever loaded.

        Returns:
            The checkpoint's dictionary.

        Raises:
            UserError: As :func:`read_checkpoint`.
        """
        if self._opened is not None and self._opened.path == os.fspath(path):
            content: dict[str, Any] = tree_map_only(Tensor, Tensor.clone, self._opened.content)
            self._opened = None  # the file keeps its place on the disk as long as it is open
            return content
        return read_checkpoint(os.fspath(path))


def _system_error(error: BaseException | None) -> OSError | None:
    """What the system said; torch reports a failed write with an error of its own on top."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _write_failure(target: Path, checkpoint: dict[str, Any], reason: OSError) -> str:
    needed = sum(tensor.nbytes for tensor in _tensors(checkpoint))
    try:
        free = f"{shutil.disk_usage(target.parent).free:,}"
    except OSError:
        free = "an unknown number of"
    kept = f"the one before, {target}, is intact" if target.exists() else "there was none before"
    return (
        f"The checkpoint {target} could not be written: {reason.strerror}. It needs about {needed:,} bytes, and {free} "
        f"bytes are free there; {kept}. Make room, then continue with --ckpt_path last."
    )


def _tensors(checkpoint: dict[str, Any]) -> Iterator[Tensor]:
    yield from (leaf for leaf in tree_leaves(checkpoint) if isinstance(leaf, Tensor))
