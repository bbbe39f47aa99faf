"""Reading and writing checkpoint files so that neither a crash nor a stranger's file does harm."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_leaves

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_load import load_plain
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


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoint files are complete or absent, and hold plain data only."""

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
