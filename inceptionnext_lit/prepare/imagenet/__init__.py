"""ImageNet in its usual layouts, as class folders."""

from pathlib import Path
from typing import Literal

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.record import DatasetRecord

Mode = Literal["link", "copy", "move"]


def prepare_imagenet(
    name: str, source: Path | None, output: Path, mode: Mode, subset: tuple[int, int] | None, num_workers: int
) -> DatasetRecord:
    """Arrange ImageNet in class folders; the caller holds the output folder's lock and writes the record.

    Args:
        name: A row of ImageNet in :data:`inceptionnext_lit.data.public.DATASETS`.
        source: What was downloaded.
        output: Where to write ``train/`` and ``val/``; it exists.
        mode: How files get there.
        subset: Number of classes, and of training images of each; None for all.
        num_workers: Number of processes.

    Returns:
        The record of the folder.

    Raises:
        UserError: If it cannot be prepared.
    """
    raise UserError(f"{name} cannot be prepared yet.")
