"""Command-line options of ``predict``: positional images, the output, and resuming it."""

import sys
from typing import Any, Literal

from jsonargparse import ActionYesNo
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.writer import PredictionWriter

OUTPUT_KEYS = ("output", "resume", "overwrite", "probabilities", "unsure_below")  # the arguments of PredictionWriter
_RESUME = (
    "Continue an existing output: images that it already has are skipped, and so are those in its list of unreadable "
    "ones, which are tried again if that list is deleted."
)
_PROBABILITIES = (
    "all: write the probability of every class too, unrounded, as an object probabilities in JSON and as columns "
    "prob_CLASS elsewhere; top5: only the five best."
)
_UNSURE = "Add a column unsure: whether the best probability is below this, such as 0.9; the label is kept."
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


def leave_out_done(datamodule: Any, writer: PredictionWriter, model: Any) -> bool:
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
