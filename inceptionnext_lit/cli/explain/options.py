"""The command line of ``explain``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from inceptionnext_lit.cli import TOOLS
from inceptionnext_lit.cli.tools import ToolParser, add_class_names, positive, sentence

EXAMPLES = """\
Draws heat maps of what speaks for a class over images, as a grid of images and models; into a folder, also one file per
image. What speaks against the class is not shown. A word that exists as a file, folder or pattern is an image; a
checkpoint of fit, a file of weights or a model's name is a model. Write NAME=true for published weights and NAME=FILE
for those of a file; without either, weights are random. The exit code is 1 if an image cannot be read.

With --spectrum, draws the relative log amplitude of the feature maps' Fourier transforms by depth, and the effective
receptive field as a second figure, OUTPUT_erf.

examples:
  python cli.py explain best.ckpt PHOTO.jpg --output map.png
  python cli.py explain resnet50=true inceptionnext_tiny=true PHOTOS --output maps
  python cli.py explain best.ckpt PHOTO.jpg --method occlusion --class cat --output map.svg
  python cli.py explain --spectrum resnet50=true best.ckpt --data.root PHOTOS --output spectrum.svg
"""
METHODS = ("gradcam", "gradcam++", "integrated_gradients", "occlusion")
BY_LAYER = METHODS[:2]
_IMAGES = 64  # of --spectrum


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Args:
        words: Command-line arguments after ``explain``.

    Returns:
        The options. ``output`` is a path, and ``into_folder`` tells whether it ends with a slash.

    Raises:
        SystemExit: With code 2 if it cannot be parsed.
    """
    parser = ToolParser("explain", f"{sentence(TOOLS['explain'])}\n\n{EXAMPLES}")
    parser.synonyms = {"--target": "--class", "--label": "--class", "--opacity": "--alpha"}
    _add_options(parser)
    options = parser.parse_intermixed_args(words)
    if options.output is None:
        parser.error("the following arguments are required: --output FILE_OR_FOLDER")
    if options.spectrum and options.data_root is None:
        parser.error("--spectrum needs --data.root FOLDER, the images to measure on.")
    maps = {"--method": options.method, "--class": options.target, "--layer": options.layer}
    spectra = {"--data.root": options.data_root, "--images": options.images}
    for key, value in (maps if options.spectrum else spectra).items():
        if value is not None:
            advice = "leave out one of them" if options.spectrum else "name images without a key, or add --spectrum"
            joined = "do not go together" if options.spectrum else "needs --spectrum"
            parser.error(f"{f'--spectrum and {key}' if options.spectrum else key} {joined}; {advice}.")
    options.images = options.images or _IMAGES
    options.method = options.method or METHODS[0]
    options.into_folder = options.output.endswith(("/", os.sep))
    options.output = Path(os.path.expanduser(options.output))
    return options


def _add_options(parser: ToolParser) -> None:
    add = parser.add_argument
    add("words", nargs="*", metavar="MODEL_OR_IMAGE", help="checkpoints, model names, NAME=WEIGHTS; images, folders")
    add("--output", type=_output, metavar="FILE_OR_FOLDER", help=".png, .svg or a folder")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--method", choices=METHODS, help="(default: gradcam)")
    add("--class", dest="target", metavar="NAME|INDEX", help="class to explain (default: the predicted one)")
    add(
        "--layer",
        action="append",
        metavar="NAME",
        help="layer of gradcam and gradcam++, once or once per model (default: the last map before the pooling)",
    )
    add(
        "--alpha",
        type=_share,
        default=0.6,
        metavar="SHARE",
        help="opacity of the maps, from 0 to 1, which hides the image (default: 0.6)",
    )
    add(
        "--model.pretrained", dest="model_pretrained", metavar="true|FILE", help="weights of the names without =WEIGHTS"
    )
    add_class_names(parser)
    add("--seed", type=int, default=0, metavar="N", help="seed of random weights (default: 0)")
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add("--spectrum", action="store_true", help="spectra by depth and effective receptive fields instead of heat maps")
    add("--data.root", dest="data_root", metavar="FOLDER", help="images of --spectrum")
    add("--images", type=positive, metavar="N", help=f"how many of them, at even distances (default: {_IMAGES})")


def _output(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a file or a folder")
    return text


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
