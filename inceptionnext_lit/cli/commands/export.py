"""``export``: save a model in a format that other programs run."""

import argparse
import shlex
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.tools import ToolParser, add_class_names, file_path, sentence
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import BOTH, FORMATS, Dimension
from inceptionnext_lit.program import exact_name
from inceptionnext_lit.wording import printable, printable_lines

if TYPE_CHECKING:
    from inceptionnext_lit.export.int8.quantizing import Int8Options
    from inceptionnext_lit.tasks import ClassificationTask

EXAMPLES = """\
The file has the inference form of the model and, as metadata, what its use needs: classes, preprocessing, temperature,
thresholds. FILE.json has the same. The file is compared with the checkpoint on 64 images before it gets its name.

examples:
  python cli.py export best.ckpt --format onnx --output best.onnx
  python cli.py export best.ckpt --format openvino --output best.xml --check PHOTOS
  python cli.py export best.ckpt --format onnx --output embed.onnx --features --overwrite
  python cli.py export best.ckpt --format onnx --output small.onnx --int8 TRAINING_IMAGES --check PHOTOS
  python cli.py export --model.name inceptionnext_tiny --model.pretrained true --format onnx --output tiny.onnx
"""
_CONVERTED = "safetensors"  # the weights alone
_TRUE, _FALSE = ("true", "True"), ("false", "False")


def run(words: list[str]) -> None:
    """Run the command.

    Args:
        words: Command-line arguments after ``export``.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    import_heavy("inceptionnext_lit.tasks.loading")
    from inceptionnext_lit.cli.quiet import silence_library_chatter

    silence_library_chatter()
    if options.format == _CONVERTED:
        _convert(options)
        return
    from inceptionnext_lit.export.exporting import Options, export_task
    from inceptionnext_lit.export.placing import check_output
    from inceptionnext_lit.export.segmentation.exporting import check_segmentation_format, export_segmenter
    from inceptionnext_lit.tasks.loading import is_segmentation, load_segmentation_task

    one = FORMATS[options.format]
    weights = _weights(options)
    # before the weights are read or downloaded
    check_output(options.output, one, [] if weights is None else [weights], overwrite=options.overwrite)
    segments = weights is not None and weights.is_file() and is_segmentation(weights)
    if segments:
        check_segmentation_format(one)
    _ = one.module
    wanted = Options(
        options.input,
        options.dynamic,
        options.features,
        options.check,
        options.license,
        options.overwrite,
        None if options.int8 is None else _int8(options),
    )
    if wanted.int8 is not None:
        _ = one.int8_module
    if segments and options.ckpt is not None:
        model = load_segmentation_task(options.ckpt)[0].eval().requires_grad_(False)
        report = export_segmenter(
            model, options.ckpt, options.output, one, wanted, with_probabilities=options.probabilities
        )
    elif options.probabilities:
        raise UserError("--probabilities is for segmentation models; leave it out.")
    else:
        report = export_task(_load(options), weights, options.output, one, wanted)
    print(printable_lines("\n".join(report.lines())))
    if one.runs_here and (not segments or (report.takes == "pixels" and "size" in report.dynamic)):
        print(f"Next: {exact_name()} predict {printable(shlex.quote(str(options.output)))} PHOTOS_OR_FOLDERS")


def _int8(options: argparse.Namespace) -> "Int8Options":
    from inceptionnext_lit.export.int8.quantizing import Int8Options

    given = {
        "images": options.calibration_images,
        "max_drop": options.max_drop,
        "min_agreement": options.min_agreement,
    }
    return Int8Options(
        options.int8,
        check=options.check,
        say=lambda line: print(printable_lines(line), flush=True),
        **{key: value for key, value in given.items() if value is not None},
    )


def _weights(options: argparse.Namespace) -> Path | None:
    """Return the file of weights; None for published ones."""
    if options.ckpt is not None:
        return Path(options.ckpt)
    if options.model_pretrained in _TRUE:
        return None
    file = file_path(options.model_pretrained)
    if not file.is_file():
        raise UserError(
            f"There is no file {str(file)!r}; give --model.pretrained true for published weights, or a file of weights."
        )
    return file


def _load(options: argparse.Namespace) -> "ClassificationTask":
    from inceptionnext_lit.tasks.loading import load_published, load_task

    if options.ckpt is not None:
        task = load_task(options.ckpt)[0]
    else:
        pretrained = True if options.model_pretrained in _TRUE else options.model_pretrained
        task = load_published(options.model_name, pretrained, options.class_names)
    return task.eval().requires_grad_(False)


def _convert(options: argparse.Namespace) -> None:
    from inceptionnext_lit.cli.commands import convert

    if options.ckpt is None:
        raise UserError("--format safetensors is for a checkpoint of fit; other weights are in such a file already.")
    given = {"--input": options.input, "--dynamic": options.dynamic, "--check": options.check}
    given |= {
        "--features": options.features or None,
        "--probabilities": options.probabilities or None,
        "--license": options.license,
        "--int8": options.int8,
    }
    for key, value in given.items():
        if value is not None:
            raise UserError(f"{key} does not apply to --format safetensors, which has the weights only; leave it out.")
    if options.output.exists() and not options.overwrite:
        raise UserError(f"{options.output} already exists; add --overwrite to replace it, or give another --output.")
    convert.run([str(options.ckpt), "--output", str(options.output)])


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("export", f"{sentence(TOOLS['export'])}\n\n{EXAMPLES}")
    parser.usage = f"{parser.prog} CKPT --format FORMAT --output FILE [--KEY VALUE …]"
    add = parser.add_argument
    source = add("ckpt", nargs="?", type=file_path, metavar="CKPT", help="a checkpoint of fit, such as best.ckpt")
    add("--format", choices=(*FORMATS, _CONVERTED), help="format of the file; safetensors is what convert writes")
    add("--output", type=file_path, metavar="FILE", help="output file, in the format's suffix")
    add("--overwrite", action="store_true", help="replace existing files")
    add(
        "--input",
        choices=("pixels", "tensor"),
        help="pixels: bytes (N, H, W, 3) to probabilities, with the preprocessing in the file (default for RGB); "
        "tensor: normalized images (N, C, S, S) to logits",
    )
    add(
        "--dynamic",
        type=_dimensions,
        metavar="batch,size|none",
        help="dimensions that may vary (default: both for pixels, batch for tensor, as far as the format can)",
    )
    add("--features", action="store_true", help="the pooled embedding as a second output")
    add(
        "--probabilities",
        action="store_true",
        help="for segmentation: the probabilities (N, K, H, W) of all classes instead of the best class of each pixel",
    )
    add("--check", metavar="FOLDER", help="images to compare the file with the checkpoint on (default: embedded ones)")
    add(
        "--int8",
        metavar="FOLDER",
        help="a file in int8, calibrated on images of this folder; its accuracy is measured on --check, or on other "
        "images of this folder",
    )
    add(
        "--max_drop",
        type=_points,
        metavar="POINTS",
        help="largest drop of the accuracy by --int8 (default: 0.5); layers that hurt are left in floats until it is "
        "reached",
    )
    add(
        "--min_agreement",
        type=_share,
        metavar="PERCENT",
        help="smallest share of labels of --int8 that agree with the file in floats; reached as --max_drop is "
        "(default: any)",
    )
    add(
        "--calibration_images",
        type=_positive,
        metavar="NUMBER",
        help="most images that --int8 is calibrated on, drawn with a fixed seed (default: 300)",
    )
    add("--license", metavar="LINE", help="license of the weights, for the metadata")
    add("--model.name", dest="model_name", metavar="NAME", help="instead of CKPT: a model of this toolkit or timm")
    add("--model.pretrained", dest="model_pretrained", metavar="true|FILE", help="its weights: published, or a file's")
    add_class_names(parser)
    source.required = False
    options = parser.parse_args(words)
    named = options.model_name is not None
    if named and options.ckpt is not None:
        parser.error("argument --model.name: CKPT is given too; leave one of them out")
    if named and options.model_pretrained in (None, *_FALSE):
        parser.error("argument --model.pretrained: give true for published weights, or a file of weights")
    if not named and options.model_pretrained is not None:
        parser.error("argument --model.name: give the name of the model of --model.pretrained")
    if options.ckpt is not None and options.class_names is not None:
        parser.error("argument --data.class_names: CKPT has the names of its classes; leave them out")
    for key in ("max_drop", "min_agreement", "calibration_images"):
        if getattr(options, key) is not None and options.int8 is None:
            parser.error(f"argument --{key}: it is for --int8; give a folder of images with --int8")
    needed = {"CKPT": options.ckpt or options.model_name, "--format": options.format, "--output": options.output}
    if missing := [key for key, value in needed.items() if value is None]:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return options


def _dimensions(text: str) -> frozenset[Dimension]:
    names = [] if text == "none" else text.split(",")
    if unknown := [name for name in names if name not in BOTH]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a dimension; give batch, size, batch,size or none")
    return frozenset(names)  # type: ignore[arg-type]


def _points(text: str) -> float:
    return _up_to_100(text, "a number of percentage points")


def _share(text: str) -> float:
    return _up_to_100(text, "a share in percent")


def _up_to_100(text: str, meaning: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not 0 < number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not {meaning} above 0 and up to 100")
    return number


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of images")
    return int(text)
