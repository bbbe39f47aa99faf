"""Read and write checkpoint files safely: a crash leaves no partial file, and untrusted files cannot run code."""

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
from inceptionnext_lit.safe_load import check_finite, load_plain, read_metadata
from inceptionnext_lit.safe_save import replacing


def read_checkpoint(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a Lightning checkpoint on the CPU; code in it is never run.

    Args:
        path: The file.
        mmap: Leave tensors on disk until they are used, for reading small parts of a large file.

    Returns:
        The checkpoint's dictionary, with at least ``"state_dict"``.

    Raises:
        UserError: If the file does not exist, is empty, is not a checkpoint, or contains more than plain data.
    """
    content = load_plain(path, mmap=mmap)
    if "state_dict" not in content:
        name = read_metadata(path).get("model", "NAME")
        raise UserError(
            f"The file {path} is not a Lightning checkpoint: it has no 'state_dict' entry. If it is a file of weights, "
            f"give it with its model: --model.name {name} --model.pretrained {path}."
        )
    return content


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint that is opened once and shared by everything that a command reads from it.

    Attributes:
        path: The file.
        content: Its dictionary; tensors stay on disk until they are used.
    """

    path: str
    content: dict[str, Any]


def open_checkpoint(path: str | Path) -> OpenCheckpoint:
    """Open a Lightning checkpoint and check that its weights are finite.

    Args:
        path: The file.

    Raises:
        UserError: As for :func:`read_checkpoint`, or if a weight is NaN or infinite.
    """
    content = read_checkpoint(path, mmap=True)
    check_finite(content["state_dict"], f"The checkpoint {path}")
    return OpenCheckpoint(os.fspath(path), content)


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are complete or absent, and contain plain data only.

    Args:
        opened: A checkpoint to use without reading its file again, even if the file has changed since.
    """

    def __init__(self, opened: OpenCheckpoint | None = None) -> None:
        self._opened = opened

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write to a temporary file, flush it to disk, then rename it over the target, which stays intact until then.

        Args:
            checkpoint: The content.
            path: The target file.
            storage_options: Not used; part of Lightning's signature.

        Raises:
            UserError: If the file system refuses the file, for instance because it is full.
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
        """Read a checkpoint with :func:`read_checkpoint`.

        Args:
            path: The file.
            map_location: Not used; tensors are loaded on the CPU and moved by Lightning.
            weights_only: Not used; only plain data is loaded.

        Returns:
            The checkpoint's dictionary.

        Raises:
            UserError: As for :func:`read_checkpoint`.
        """
        if self._opened is not None and self._opened.path == os.fspath(path):
            content: dict[str, Any] = tree_map_only(Tensor, Tensor.clone, self._opened.content)
            self._opened = None  # an open file uses disk space even after it is replaced
            return content
        return read_checkpoint(os.fspath(path))


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the operating system's error, which torch wraps in its own when a write fails."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _write_failure(target: Path, checkpoint: dict[str, Any], reason: OSError) -> str:
    needed = sum(tensor.nbytes for tensor in _tensors(checkpoint))
    try:
        free = f"{shutil.disk_usage(target.parent).free:,}"
    except OSError:
        free = "an unknown number of"
    kept = f"the previous one, {target}, is intact" if target.exists() else "there is no previous one"
    return (
        f"The checkpoint {target} could not be written: {reason.strerror}. It needs about {needed:,} bytes, and {free} "
        f"bytes are free; {kept}. Free up space, then continue with --ckpt_path last."
    )


def _tensors(checkpoint: dict[str, Any]) -> Iterator[Tensor]:
    yield from (leaf for leaf in tree_leaves(checkpoint) if isinstance(leaf, Tensor))
