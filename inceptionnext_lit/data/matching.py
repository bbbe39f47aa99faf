"""Data modules that prepare images and number classes as a model expects."""

from typing import Any

from inceptionnext_lit.data.classification import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError

_INPUT = ("mean", "std", "crop_pct", "interpolation", "crop_mode", "nodata", "exif")


def matching_data(spec: DataSpec, root: str | list[str], **options: Any) -> ImageFolderDataModule:
    """Create a data module for a trained classifier, to evaluate it or to train it further.

    Args:
        spec: The classifier's ``data_spec``.
        root: The images, as for :class:`ImageFolderDataModule`.
        **options: Other arguments of :class:`ImageFolderDataModule`.

    Raises:
        UserError: If the classifier does not say how its images were prepared, or an option is out of its range.
    """
    if (given := spec.preprocessing) is None:
        raise UserError("The model does not say how its images were prepared; create ImageFolderDataModule yourself.")
    known: dict[str, Any] = {
        "image_size": given["image_size"],
        "in_chans": len(given["mean"]),
        "input": InputOptions(**{key: value for key, value in given.items() if key in _INPUT}),  # type: ignore[arg-type]
        "class_names": spec.class_names,
        "multi_label": spec.multi_label,
    }
    return ImageFolderDataModule(root, **(known | options))
