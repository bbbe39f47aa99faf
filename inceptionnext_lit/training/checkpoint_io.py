"""Reading and writing checkpoint files so that neither a crash nor a stranger's file does harm."""

import contextlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from inceptionnext_lit.errors import UserError


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
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a checkpoint; name the .ckpt file in it.")
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; check the path given as --ckpt_path.")
    if path.stat().st_size == 0:
        raise UserError(f"The checkpoint {path} is empty (0 bytes); use another one of the run.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except Exception as error:  # on a foreign file torch raises whatever its bytes happen to lead to
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"The file {path} holds code ({found[1]}) beside weights; it was refused and nothing in it was run."
            ) from error
        raise UserError(f"The file {path} is not a checkpoint, or is damaged; nothing in it was run.") from error
    if not isinstance(content, dict) or "state_dict" not in content:
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
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o666 & ~_umask())  # mkstemp's own mode shuts out the rest of a team
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
            raise

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
        return read_checkpoint(Path(path))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
