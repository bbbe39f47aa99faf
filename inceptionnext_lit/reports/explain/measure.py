"""Measure the spectra and the effective receptive field of a classifier's backbone."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from inceptionnext_lit.data.decode.image import failure_reason
from inceptionnext_lit.data.decode.opening import TooManyPixelsError
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import height_and_width
from inceptionnext_lit.reports.explain.receptive_field import receptive_field
from inceptionnext_lit.reports.explain.spectrum import level_maps, level_names, spectrum_of
from inceptionnext_lit.reports.explain.spectrum_figure import Measured
from inceptionnext_lit.tasks.classification import ClassificationTask

_BATCH = 8


def read_image(task: ClassificationTask, path: str) -> Tensor:
    """Read an image as a classifier takes it, upright by its EXIF orientation.

    Args:
        task: The classifier.
        path: The image file.

    Returns:
        The pixels, (C, H, W).

    Raises:
        UserError: If it cannot be read, or the classifier has no preprocessing.
    """
    if task.preprocessing is None:
        raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
    preprocessing = task.preprocessing.copy()
    preprocessing.pop("exif", None)  # as in the predict command
    return eval_transform(preprocessing).read(path)


def unreadable_reason(error: UserError) -> str:
    """Return why an image could not be read, without the keys of commands that can change it.

    Args:
        error: The error of :func:`read_image`.
    """
    if isinstance(error.__cause__, TooManyPixelsError):
        return error.__cause__.problem
    return failure_reason(error).replace(" (data.in_chans)", "")


def read_images(task: ClassificationTask, paths: Sequence[str]) -> tuple[list[Tensor], list[tuple[str, str]]]:
    """Read images as a classifier takes them.

    Args:
        task: The classifier.
        paths: The image files.

    Returns:
        The pixels, (C, H, W) each, and the unreadable files with the reasons.

    Raises:
        UserError: If no image can be read.
    """
    images, unreadable = [], []
    for path in paths:
        try:
            images.append(read_image(task, path))
        except UserError as error:
            unreadable.append((path, unreadable_reason(error)))
    if not images:
        raise UserError(f"No image could be read. The first, {unreadable[0][0]}: {unreadable[0][1]}.")
    return images, unreadable


def measure(
    title: str,
    task: ClassificationTask,
    images: Sequence[Tensor],
    tick: Callable[[int], object] = lambda images: None,
) -> Measured:
    """Measure the spectrum by depth and the effective receptive field, on the task's device.

    Args:
        title: The model's title.
        task: The classifier, in eval mode, with preprocessing.
        images: The images' pixels, see :func:`read_images`.
        tick: Called with the number of images of each batch, once for the spectrum and once for the field.

    Raises:
        UserError: If the network does not return its feature maps.
    """
    assert task.preprocessing is not None
    model, to_input = task.inference_model, ToInput(task.preprocessing)
    device = next(model.parameters()).device

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            yield to_input(stack_pixels(batch).to(device)).contiguous()
            tick(len(batch))

    def maps() -> Iterator[list[Tensor]]:
        for batch in batches():
            with torch.no_grad():
                yield level_maps(model, batch)

    with torch.no_grad():
        first = level_maps(model, to_input(stack_pixels(images[:1]).to(device)).contiguous())
    levels = spectrum_of(level_names(model, len(first)), maps())
    field = receptive_field(lambda batch: level_maps(model, batch, last_only=True)[-1], batches())
    return Measured(title, height_and_width(task.preprocessing), levels, field)
