"""``explain``: what networks look at, and which frequencies and how much of an image they use."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.tools import ToolParser, positive, sentence
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.wording import count, printable

if TYPE_CHECKING:
    from inceptionnext_lit.cli.models_to_explain import Model
    from inceptionnext_lit.reports.explain.figure import Row

EXAMPLES = """\
Draws heat maps of what speaks for a class over images, as a grid of images and models; into a folder, also one file per
image. A word that exists as a file, folder or pattern is an image; a checkpoint of fit, a file of weights or a model's
name is a model. Write NAME=true for published weights and NAME=FILE for those of a file; without either, weights are
random. The exit code is 1 if an image cannot be read.

With --spectrum, draws the relative log amplitude of the feature maps' Fourier transforms by depth, and the effective
receptive field as a second figure, OUTPUT_erf.

examples:
  python cli.py explain best.ckpt PHOTO.jpg --output map.png
  python cli.py explain resnet50=true inceptionnext_tiny=true PHOTOS --output maps
  python cli.py explain best.ckpt PHOTO.jpg --method occlusion --class cat --output map.svg
  python cli.py explain --spectrum resnet50=true best.ckpt --data.root PHOTOS --output spectrum.svg
"""
_METHODS = ("gradcam", "gradcam++", "integrated_gradients", "occlusion")
_THUMBNAIL = 320  # pixels of the image in the first column


def run(words: list[str]) -> int:
    """Run the command.

    Args:
        words: Command-line arguments after ``explain``.

    Returns:
        Exit code: 1 if images could not be read.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    import_heavy("inceptionnext_lit.cli.models_to_explain")
    from inceptionnext_lit.cli.explain_output import check_files, grid_files, spectrum_files
    from inceptionnext_lit.cli.models_to_explain import load_models, split_arguments
    from inceptionnext_lit.cli.quiet import silence_library_chatter
    from inceptionnext_lit.reports.explain.figure import check_matplotlib

    silence_library_chatter()
    if options.output.suffix.lower() != ".json":
        check_matplotlib()
    names, images = split_arguments(options.words)
    if options.spectrum:
        if images:
            raise UserError(f"{printable(images[0])} is not a model; name the images of --spectrum with --data.root.")
        check_files(spectrum_files(options.output), overwrite=options.overwrite)
        images = _evenly(_find_images([options.data_root]), options.images)
    else:
        images = _find_images(images)
        check_files(grid_files(options.output, images), images, overwrite=options.overwrite)
    models = load_models(names, options.model_pretrained, options.seed)
    for model in models:
        _to_device(model, options.device)
    unreadable = _draw_spectra(options, models, images) if options.spectrum else _draw_maps(options, models, images)
    return _say_unreadable(unreadable)


def _draw_maps(options: argparse.Namespace, models: "list[Model]", paths: list[str]) -> list[tuple[str, str]]:
    from inceptionnext_lit.cli.explain_output import MOST_ROWS, grid_files
    from inceptionnext_lit.data.decode.image import failure_reason
    from inceptionnext_lit.reports.explain.attribution import check_library
    from inceptionnext_lit.reports.explain.figure import draw_grid

    check_library()
    layers = options.layer or [None]
    if len(layers) not in (1, len(models)):
        raise UserError(
            f"--layer was given {len(layers)} times for {count(len(models), 'model')}; give it once, or once per model."
        )
    layers = layers * len(models) if len(layers) == 1 else layers
    targets = [None if options.target is None else model.class_index(options.target) for model in models]
    titles, files = [model.title for model in models], grid_files(options.output, paths)
    rows: list[Row] = []
    unreadable: list[tuple[str, str]] = []
    written: list[Path] = []
    with progress_bar() as bar:
        shown = bar.add_task("explaining", total=len(paths))
        for path, file in zip_longest(paths, files[:-1]):
            images = []
            try:
                images = [_read(model, path) for model in models]
            except UserError as error:
                unreadable.append((path, failure_reason(error)))
            if images:
                row = _explain(options, models, path, images, targets, layers)
                rows = [*rows, row] if len(rows) < MOST_ROWS else rows
                if file is not None:
                    draw_grid([row], titles, file)
                    written.append(file)
            bar.advance(shown)
    if not rows:
        raise UserError(f"No image could be read. The first, {unreadable[0][0]}: {unreadable[0][1]}.")
    draw_grid(rows, titles, files[-1])
    for file in [*written, files[-1]]:
        print(f"Written to {printable(str(file))}")
    return unreadable


def _read(model: "Model", path: str) -> Any:
    from inceptionnext_lit.reports.explain.measure import read_image

    return read_image(model.task, path)


def _explain(
    options: argparse.Namespace,
    models: "list[Model]",
    path: str,
    images: Sequence[Any],
    targets: Sequence[int | None],
    layers: Sequence[str | None],
) -> "Row":
    """Explain an image with all models, and print what they predict."""
    from inceptionnext_lit.reports.explain.attribution import explain
    from inceptionnext_lit.reports.explain.figure import Row, as_picture, overlay

    overlays, captions = [], []
    for model, pixels, target, layer in zip(models, images, targets, layers, strict=True):
        found = explain(model.task, pixels, options.method, target, layer)
        overlays.append(overlay(as_picture(found.pixels), found.heat, options.alpha))
        caption = f"{model.class_title(found.predicted)} {found.predicted_probability:.2f}"
        if found.target != found.predicted:
            caption += f"\nfor {model.class_title(found.target)} {found.probability:.2f}"
        captions.append(caption)
        empty = "" if found.heat.any() else "; the map is empty, since nothing in this layer speaks for the class"
        line = caption.replace("\n", ", map ")
        print(f"{printable(path)}: {printable(model.title)}: {printable(line)}{empty}")
    return Row(Path(path).name, _original(path, as_picture(images[0])), overlays, captions)


def _original(path: str, otherwise: Any) -> Any:
    """Return the whole image, small; or, of a file that is not a color picture, what the first model gets."""
    import numpy as np
    import torch

    from inceptionnext_lit.data.decode.image import load_image
    from inceptionnext_lit.reports.explain.figure import as_picture

    try:
        image = load_image(path)
    except UserError:
        return otherwise
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return as_picture(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def _draw_spectra(options: argparse.Namespace, models: "list[Model]", paths: list[str]) -> list[tuple[str, str]]:
    from inceptionnext_lit.cli.explain_output import spectrum_files
    from inceptionnext_lit.reports.explain.measure import measure, read_images
    from inceptionnext_lit.reports.explain.spectrum_figure import draw_fields, draw_spectra, record_of, table_of

    measured, lost, used = [], dict[str, str](), 0
    with progress_bar() as bar:
        shown = bar.add_task("measuring", total=2 * len(models) * len(paths))
        for model in models:
            images, unreadable = read_images(model.task, paths)
            measured.append(measure(model.title, model.task, images, lambda done: bar.advance(shown, done)))
            lost |= dict(unreadable)
            used = len(images)
    print(f"{count(used, 'image')} from {printable(str(options.data_root))}")
    print(table_of(measured), end="")
    files = spectrum_files(options.output)
    if options.output.suffix.lower() == ".json":
        with replacing(files[0]) as partial:
            partial.write_text(json.dumps(record_of(measured, used), indent=1), encoding="utf-8")
    else:
        draw_spectra(measured, files[0])
        draw_fields(measured, files[1])
    for file in files:
        print(f"Written to {printable(str(file))}")
    return list(lost.items())


def _find_images(names: Sequence[str | None]) -> list[str]:
    from inceptionnext_lit.data.sources.image_root import ImageRoot

    given = [name for name in names if name is not None]
    if not given:
        raise UserError("No images were named; give image files, folders or patterns, or --data.root with --spectrum.")
    return list(ImageRoot(given).to_label())


def _evenly(paths: Sequence[str], most: int) -> list[str]:
    """Return paths at even distances, so that all folders of a data set are among them."""
    number = min(most, len(paths))
    return [paths[place * len(paths) // number] for place in range(number)]


def _to_device(model: "Model", name: str | None) -> None:
    import torch

    try:
        model.task.to(torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu")))
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"The device {name!r} cannot be used here; leave out --device, or give cpu.") from error


def _say_unreadable(unreadable: Sequence[tuple[str, str]]) -> int:
    """Print the images that could not be read, and return the exit code."""
    if not unreadable:
        return 0
    for path, reason in unreadable:
        print(f"Not read: {printable(path)}: {reason}", file=sys.stderr)
    print_error(f"{count(len(unreadable), 'image')} could not be read and left out.")
    return 1


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("explain", f"{sentence(TOOLS['explain'])}\n\n{EXAMPLES}")
    add = parser.add_argument
    add("words", nargs="*", metavar="MODEL_OR_IMAGE", help="checkpoints, model names, NAME=WEIGHTS; images, folders")
    add("--output", type=lambda text: Path(text).expanduser(), metavar="FILE_OR_FOLDER", help=".png, .svg or a folder")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--method", choices=_METHODS, help="(default: gradcam)")
    add("--class", dest="target", metavar="NAME|INDEX", help="class to explain (default: the predicted one)")
    add(
        "--layer",
        action="append",
        metavar="NAME",
        help="layer of gradcam and gradcam++, once or once per model (default: the last map before the pooling)",
    )
    add("--alpha", type=_share, default=0.6, metavar="SHARE", help="opacity of the maps, 0 to 1 (default: 0.6)")
    add(
        "--model.pretrained", dest="model_pretrained", metavar="true|FILE", help="weights of the names without =WEIGHTS"
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of random weights (default: 0)")
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add("--spectrum", action="store_true", help="spectra by depth and effective receptive fields instead of heat maps")
    add("--data.root", dest="data_root", metavar="FOLDER", help="images of --spectrum")
    add("--images", type=positive, metavar="N", help="how many of them, at even distances (default: 64)")
    options = parser.parse_intermixed_args(words)
    if options.output is None:
        parser.error("the following arguments are required: --output FILE_OR_FOLDER")
    maps = {"--method": options.method, "--class": options.target, "--layer": options.layer}
    spectra = {"--data.root": options.data_root, "--images": options.images}
    for key, value in (maps if options.spectrum else spectra).items():
        if value is not None:
            advice = "leave out one of them" if options.spectrum else "name images without a key, or add --spectrum"
            joined = "do not go together" if options.spectrum else "needs --spectrum"
            parser.error(f"{f'--spectrum and {key}' if options.spectrum else key} {joined}; {advice}.")
    options.images = options.images or 64
    options.method = options.method or _METHODS[0]
    return options


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
