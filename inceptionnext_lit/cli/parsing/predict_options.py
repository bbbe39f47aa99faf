"""Command-line options of ``predict``: positional images, the output, and resuming it."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from jsonargparse import ActionYesNo
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.speed_hint import speed_hint
from inceptionnext_lit.predict.writer import PredictionWriter, SceneWriter
from inceptionnext_lit.program import relative
from inceptionnext_lit.tasks import ClassificationTask, SegmentationTask

_MANY = 100  # images for which another form is worth an export
_OUTPUT_KEYS = ("output", "resume", "overwrite", "probabilities", "unsure_below", "overlays", "polygons")
_RESUME = (
    "Continue an existing output: images that it already has are skipped, and so are those in its list of unreadable "
    "ones, which are tried again if that list is deleted."
)
_PROBABILITIES = (
    "all: write the probability of every class too, unrounded, as an object probabilities in JSON and as columns "
    "prob_CLASS elsewhere; top5: only the five best."
)
_UNSURE = "Add a column unsure: whether the best probability is below this, such as 0.9; the label is kept."
_OVERLAYS = "For segmentation: whether to write each image with its classes in color."
_POLYGONS = (
    "For segmentation: also write polygons as a COCO file: true for OUTPUT_STEM/polygons.json, or the name of a file."
)
_COMPILE = (
    "Compile the model first, which takes ten seconds to minutes and needs a C++ compiler; useful for many images on a "
    "GPU. Batches of an uncommon size run uncompiled."
)


def add_arguments(parser: LightningArgumentParser) -> None:
    """Add the keys of ``predict``."""
    parser.add_argument(
        "--output", type=str, default="predictions.csv", help="Output file: .csv, .jsonl, .json or .parquet."
    )
    add_switch(parser, "--resume", _RESUME)
    add_switch(parser, "--overwrite", "Replace the output if it exists.")
    parser.add_argument("--probabilities", type=Literal["top5", "all"], default="top5", help=_PROBABILITIES)
    parser.add_argument("--unsure_below", type=float | None, default=None, help=_UNSURE)
    parser.add_argument("--overlays", action=ActionYesNo, nargs="?", default=True, help=_OVERLAYS)
    parser.add_argument("--polygons", type=bool | str, nargs="?", const=True, default=False, help=_POLYGONS)
    add_switch(parser, "--compile", _COMPILE)
    parser.set_defaults({"trainer.devices": 1})


def add_switch(parser: LightningArgumentParser, key: str, meaning: str) -> None:
    """Add a flag that also takes ``true`` and ``false``, as in a recipe."""
    parser.add_argument(key, action=ActionYesNo, nargs="?", default=False, help=meaning)


def take_inputs(args: ArgsType) -> tuple[list[str], ArgsType]:
    """Split the positional images after ``predict`` from a command line.

    Args:
        args: Arguments after the program's name; None for those of this process.

    Returns:
        The images, and the command line without them; without images, ``args`` unchanged.

    Raises:
        UserError: If ``--data.root`` names images too.
    """
    words = sys.argv[1:] if args is None else args
    if not isinstance(words, list) or words[:1] != ["predict"]:
        return [], args
    end = next((n for n, word in enumerate(words) if n and str(word).startswith("-")), len(words))
    inputs, others = [str(word) for word in words[1:end]], [words[0], *words[end:]]
    if not inputs:
        return [], args
    if any(str(word).partition("=")[0] == "--data.root" for word in others):
        raise UserError(f"Images are given twice, by {inputs[0]} after predict and by --data.root; leave one out.")
    return inputs, others


def writer_for(model: Any, made: Callable[[str], Any]) -> PredictionWriter | SceneWriter:
    """Return what writes the predictions of a model.

    Args:
        model: The task.
        made: Returns the value of an option.

    Raises:
        UserError: If an option is invalid, or does not apply to the model.
    """
    options = {key: made(key) for key in _OUTPUT_KEYS}
    if isinstance(model, SegmentationTask):
        if options.pop("probabilities") != "top5":
            raise UserError(
                "--probabilities is for classifiers; the rows of a segmentation model have the areas of all classes."
            )
        return SceneWriter(**options)
    if options.pop("polygons") is not False:
        raise UserError("--polygons is for segmentation models, and the checkpoint is of a classifier; leave it out.")
    if not options.pop("overlays"):
        raise UserError("--overlays is for segmentation models, and the checkpoint is of a classifier; leave it out.")
    return PredictionWriter(**options)


def leave_out_done(datamodule: Any, writer: PredictionWriter | SceneWriter, model: Any) -> bool:
    """Remove images from the data that the output already has.

    Args:
        datamodule: The data, whose images to predict are reduced.
        writer: The output.
        model: The classifier.

    Returns:
        Whether any images remain.
    """
    datamodule.prepare_data()
    datamodule.setup("predict")
    images = datamodule.predict_set
    images.keep(writer.remaining(images.paths, model.class_names, multi_label=model.data_spec.multi_label))
    return len(images) > 0


def keep_palette(model: Any, stored: Mapping[str, Any] | None) -> None:
    """Give a segmentation model the colors of its checkpoint; images without masks do not have any.

    Args:
        model: The task.
        stored: The checkpoint's dictionary.
    """
    spec = ((stored or {}).get("hyper_parameters") or {}).get("data_spec") or {}
    if isinstance(model, SegmentationTask) and spec.get("class_names") == model.class_names and spec.get("palette"):
        model.data_spec = replace(model.data_spec, palette=spec["palette"])


def faster_form(model: Any, trainer: Trainer, images: int, checkpoint: str | None) -> str | None:
    """Return a sentence on which exported form would be faster on this CPU.

    None if nothing is known to, for a few images, and without a progress bar.

    Args:
        model: The task.
        trainer: What runs it.
        images: Number of images.
        checkpoint: Its file; None for published weights.
    """
    is_shown = checkpoint is not None and images >= _MANY and trainer.progress_bar_callback is not None
    is_plain = isinstance(model, ClassificationTask) and not model.compiles_prediction
    if not is_shown or not is_plain or trainer.precision != "32-true" or trainer.strategy.root_device.type != "cpu":
        return None
    return speed_hint(model.inference_model, relative(str(checkpoint)))
