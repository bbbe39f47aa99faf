"""Images: the loader, the scan of a folder, transforms, and the datamodule over them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inceptionnext_lit.data.augmentation import Augmentation
    from inceptionnext_lit.data.base import BaseDataModule
    from inceptionnext_lit.data.datamodule import ImageFolderDataModule
    from inceptionnext_lit.data.loading import load_image

__all__ = ["Augmentation", "BaseDataModule", "ImageFolderDataModule", "load_image"]

_HOMES = {
    "Augmentation": "augmentation",
    "BaseDataModule": "base",
    "ImageFolderDataModule": "datamodule",
    "load_image": "loading",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, so that the scan and the loader do not pay for Lightning (seconds, a gigabyte)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
