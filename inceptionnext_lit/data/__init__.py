"""Images: the loader, the scan of a folder, transforms, and the datamodule over them."""

from inceptionnext_lit.data.augmentation import Augmentation
from inceptionnext_lit.data.datamodule import ImageFolderDataModule
from inceptionnext_lit.data.loading import load_image

__all__ = ["Augmentation", "ImageFolderDataModule", "load_image"]
