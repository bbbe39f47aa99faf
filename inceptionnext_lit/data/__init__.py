"""Image data: reading, scanning folders, transforms, and the data modules."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inceptionnext_lit.data.balance import BalanceOptions
    from inceptionnext_lit.data.base import BaseDataModule
    from inceptionnext_lit.data.classification import ImageFolderDataModule
    from inceptionnext_lit.data.decode.bad_images import BadImageOptions
    from inceptionnext_lit.data.decode.image import load_image
    from inceptionnext_lit.data.input_format import InputOptions
    from inceptionnext_lit.data.masks.options import MaskOptions
    from inceptionnext_lit.data.matching import matching_data
    from inceptionnext_lit.data.segmentation import SegmentationDataModule
    from inceptionnext_lit.data.sources.columns import ColumnNames
    from inceptionnext_lit.data.splitting.rules import SplitRules
    from inceptionnext_lit.data.transforms.augmentation import Augmentation
    from inceptionnext_lit.data.transforms.segmentation import SegmentationAugmentation

__all__ = [
    "Augmentation",
    "BadImageOptions",
    "BalanceOptions",
    "BaseDataModule",
    "ColumnNames",
    "ImageFolderDataModule",
    "InputOptions",
    "MaskOptions",
    "SegmentationAugmentation",
    "SegmentationDataModule",
    "SplitRules",
    "load_image",
    "matching_data",
]

_HOMES = {
    "Augmentation": "transforms.augmentation",
    "BadImageOptions": "decode.bad_images",
    "BalanceOptions": "balance",
    "BaseDataModule": "base",
    "ColumnNames": "sources.columns",
    "ImageFolderDataModule": "classification",
    "InputOptions": "input_format",
    "MaskOptions": "masks.options",
    "SegmentationAugmentation": "transforms.segmentation",
    "SegmentationDataModule": "segmentation",
    "SplitRules": "splitting.rules",
    "load_image": "decode.image",
    "matching_data": "matching",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use, so that scanning and reading do not import Lightning (seconds, a gigabyte)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
