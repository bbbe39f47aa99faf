"""Load a model from a checkpoint, an exported file, or with published weights. Imports torch only if needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import format_of
from inceptionnext_lit.predict.exported import ExportedClassifier, open_exported
from inceptionnext_lit.predict.exported_segmenter import ExportedSegmenter

if TYPE_CHECKING:
    import torch

    from inceptionnext_lit.predict.classifier import Classifier
    from inceptionnext_lit.predict.segmenter import TrainedSegmenter


def load_classifier(
    path: str | Path,
    device: "str | torch.device | None" = None,
    compiles: bool = False,
    max_pixels: int = MAX_PIXELS,
    pretrained: bool | str | Path | None = None,
    class_names: Sequence[str] | None = None,
) -> "Classifier | ExportedClassifier":
    """Load a checkpoint of ``fit``, a file of ``export``, or a model with published weights, to label images.

    No code in a checkpoint is run, and its optimizer state is not read; a ``.pt2`` file can contain code, so load only
    those that you trust. The allocator's settings are not changed: a
    server on a CPU may call ``inceptionnext_lit.allocator.keep_memory()`` first, as the command line does.

    Args:
        path: The checkpoint, such as ``best.ckpt``; an exported file, such as ``best.onnx``, which runs on the CPU; or
            the name of a model, such as ``inceptionnext_tiny`` or any other of timm's. Something that exists is not
            taken for a name.
        device: Device to run on, such as ``"cpu"`` or ``"cuda:1"``; None for the GPU if there is one, else the CPU.
        compiles: Whether to compile the model for the first batch size that occurs twice; others run uncompiled. Takes
            ten seconds to minutes, and needs a C++ compiler.
        max_pixels: Maximum number of pixels of an image, like ``data.bad_images.max_pixels`` on the command line.
        pretrained: For the name of a model: True, the default, to download its published weights, or a file of weights.
        class_names: The names of the outputs of weights that do not have them.

    Raises:
        UserError: If the file is neither a checkpoint of ``fit`` nor a file of ``export``, the model is unknown or has
            no such weights, weights are NaN or infinite, or the device cannot be used.
    """
    file = Path(path).expanduser()
    if pretrained is None and file.exists() and format_of(file) is not None:
        if str(device or "cpu") != "cpu" or compiles:
            raise UserError(
                f"{path} is an exported file, which runs on the CPU as it is; leave out device and compiles."
            )
        if class_names is not None:
            raise UserError(f"{path} has the names of its classes; leave out class_names.")
        return ExportedClassifier(file, max_pixels)
    from inceptionnext_lit.predict.classifier import load_trained

    return load_trained(path, device, compiles, max_pixels, pretrained, class_names)


def load_segmenter(
    path: str | Path, device: "str | torch.device | None" = None, max_pixels: int = MAX_PIXELS
) -> "TrainedSegmenter | ExportedSegmenter":
    """Load a checkpoint of ``fit``, or a file of ``export``, to segment images.

    No code in a checkpoint is run, and its optimizer state is not read; a ``.pt2`` file can contain code, so load only
    those that you trust.

    Args:
        path: The checkpoint, such as ``best.ckpt``, or an exported file, such as ``best.onnx``, which runs on the CPU.
        device: Device to run on, such as ``"cpu"`` or ``"cuda:1"``; None for the GPU if there is one, else the CPU.
        max_pixels: Maximum number of pixels of an image, like ``data.bad_images.max_pixels`` on the command line.

    Raises:
        UserError: If the file is neither, it is of a classifier, its weights are NaN or infinite, or the device cannot
            be used.
    """
    file = Path(path).expanduser()
    if file.exists() and format_of(file) is not None:
        if str(device or "cpu") != "cpu":
            raise UserError(f"{path} is an exported file, which runs on the CPU; leave out device.")
        return ExportedSegmenter(file, max_pixels)
    from inceptionnext_lit.predict.device import choose_device
    from inceptionnext_lit.predict.segmenter import TrainedSegmenter
    from inceptionnext_lit.tasks.loading import load_segmentation_task

    return TrainedSegmenter(load_segmentation_task(file)[0], choose_device(device), max_pixels)


def load_model(
    path: str | Path, device: "str | torch.device | None" = None, max_pixels: int = MAX_PIXELS
) -> "Classifier | ExportedClassifier | TrainedSegmenter | ExportedSegmenter":
    """Load a classifier or a segmenter, whichever a file contains.

    Args:
        path: What :func:`load_classifier` or :func:`load_segmenter` take.
        device: Device to run on.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        UserError: As theirs.
    """
    file = Path(path).expanduser()
    if not file.exists():
        return load_classifier(path, device, max_pixels=max_pixels)
    if format_of(file) is not None:
        is_mask = open_exported(file)[1].task == "segmentation"
    else:
        from inceptionnext_lit.tasks.loading import is_checkpoint, is_segmentation

        if not is_checkpoint(file):
            raise UserError(
                f"{path} is a file of weights, not a checkpoint of fit; export it with its model first: "
                f"export --model.name NAME --model.pretrained {path} --format onnx --output FILE."
            )
        is_mask = is_segmentation(file)
    if is_mask:
        return load_segmenter(path, device, max_pixels)
    return load_classifier(path, device, max_pixels=max_pixels)
