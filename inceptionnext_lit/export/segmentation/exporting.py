"""Export a segmentation model: write it in a format, check it against the checkpoint, and describe it."""

from pathlib import Path

import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.exporting import ExportReport, Options, resolve, stamp_file, write_checked
from inceptionnext_lit.export.formats import FORMATS, Format
from inceptionnext_lit.export.graph import capture
from inceptionnext_lit.export.metadata import describe, source_of
from inceptionnext_lit.export.placing import check_output, staging
from inceptionnext_lit.export.segmentation.checking import SceneCheck
from inceptionnext_lit.export.segmentation.resizing import FitToScale
from inceptionnext_lit.export.segmentation.wrapper import SegmenterGraph
from inceptionnext_lit.tasks import SegmentationTask

_FORMATS = ("onnx", "openvino")


_ONCE = (
    "The checkpoint averages windows, scales or mirrored images (model.segmentation.inference); the file segments each "
    "image once, as a whole, and was compared with that."
)


def check_segmentation_format(one: Format) -> None:
    """Refuse a format that segmentation models are not exported to.

    Args:
        one: The format.

    Raises:
        UserError: If it is one.
    """
    if one.name not in _FORMATS:
        raise UserError(
            f"--format {one.name} is for classifiers; give {' or '.join(_FORMATS)} for a segmentation model."
        )


def export_segmenter(
    task: SegmentationTask, weights: Path, output: Path, one: Format, options: Options, *, with_probabilities: bool
) -> ExportReport:
    """Export a segmentation model to a file, with its metadata in the file and in ``FILE.json``.

    Args:
        task: The segmentation model, in eval mode.
        weights: The checkpoint that it was loaded from.
        output: The file to write.
        one: The format.
        options: What is exported.
        with_probabilities: Whether pixels give the probabilities of all classes instead of the best class.

    Returns:
        What was written, and how it differs from the checkpoint.

    Raises:
        UserError: If the format cannot do this, the model cannot be exported, the output cannot be written, or the file
            differs from the checkpoint too much; nothing is then written.
    """
    check_segmentation_format(one)
    for key, value in (("--features", options.features), ("--int8", options.int8)):
        if value:
            raise UserError(f"{key} is for classifiers; leave it out for a segmentation model.")
    check_output(output, one, [weights], overwrite=options.overwrite)
    takes, dynamic = resolve(task, one, options)
    if with_probabilities and takes == "tensor":
        raise UserError("--probabilities is for --input pixels; tensors give the logits of all classes.")
    resizes = "size" in dynamic
    scales = task.preprocessing is not None and "scale" in task.preprocessing
    if one.name == "openvino" and takes == "pixels" and resizes and scales:
        _ = FORMATS["onnx"].module  # which it is written through
    given = {"resizes": resizes, "with_probabilities": with_probabilities}
    graph = SegmenterGraph(task, takes, **given)
    check = SceneCheck(task, SegmenterGraph(task, takes, **given, deployed=False), options.check, sizes=resizes)
    captured = capture(graph, dynamic)
    if isinstance(graph.resize, FitToScale) and not captured.compares_sizes:
        raise UserError(
            f"torch {torch.__version__} makes a constant of whether an image is upright, so the file would resize the "
            "others wrongly; update torch, or export with --input tensor, or with --dynamic batch."
        )
    with staging(output, overwrite=options.overwrite) as staged:
        checked = write_checked(captured, staged, one, check)
        content = describe(
            task,
            source_of(weights),
            takes=takes,
            outputs=graph.outputs,
            dynamic=dynamic,
            format_name=one.name,
            license_line=options.license_line,
            libraries=one.libraries,
        )
        size = stamp_file(staged, output, content | {"check": checked.record()}, one)
    inference = task.segmentation.inference
    averages = inference.mode == "slide" or inference.flip or (inference.scales or [1.0]) != [1.0]
    return ExportReport(
        output=output,
        name=str(content["name"]),
        title=one.title,
        takes=takes,
        outputs=graph.outputs,
        dynamic=dynamic,
        num_classes=task.num_classes,
        image_size=graph.size,
        size=size,
        checked=checked,
        notes=(_ONCE,) if averages else (),
    )
