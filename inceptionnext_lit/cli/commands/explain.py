"""``explain``: what networks look at, and which frequencies and how much of an image they use."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from inceptionnext_lit.cli import INTERRUPTED, import_heavy
from inceptionnext_lit.cli.explain.arguments import ModelArgument, evenly, find_images, parse_models, split_arguments
from inceptionnext_lit.cli.explain.options import BY_LAYER, parse
from inceptionnext_lit.cli.explain.output import check_files, grid_files, spectrum_files
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.reports.explain.libraries import check_captum, check_matplotlib
from inceptionnext_lit.wording import count, listed, printable


def run(words: list[str]) -> int:
    """Run the command. What can be checked without torch is checked before it is imported, which takes seconds.

    Args:
        words: Command-line arguments after ``explain``.

    Returns:
        Exit code: 1 if images could not be read, 130 after Ctrl-C.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = parse(words)
    names, named_images = split_arguments(options.words)
    models = parse_models(names, options.model_pretrained)
    _check_layers(options, models)
    images, files = _inputs_and_outputs(options, named_images)
    written: list[Path] = []
    try:
        # timm imports wandb for a logger
        drawing = import_heavy("inceptionnext_lit.cli.explain.drawing", without="wandb")
        from inceptionnext_lit.cli.explain.models import load_models
        from inceptionnext_lit.cli.quiet import silence_library_chatter

        silence_library_chatter()
        draw = drawing.draw_spectrum if options.spectrum else drawing.draw_maps
        loaded = load_models(models, options.seed, options.device, options.class_names)
        unreadable = draw(options, loaded, images, files, written)
    except KeyboardInterrupt:
        done = f"written: {listed([str(file) for file in written])}" if written else "nothing was written"
        print(f"Interrupted; {done}.", file=sys.stderr)
        return INTERRUPTED
    return _say_unreadable(unreadable)


def _check_layers(options: argparse.Namespace, models: Sequence[ModelArgument]) -> None:
    layers = options.layer or []
    if layers and options.method not in BY_LAYER:
        raise UserError(f"The method {options.method} explains the input and has no layer; leave out --layer.")
    if len(layers) not in (0, 1, len(models)):
        raise UserError(
            f"--layer was given {len(layers)} times for {count(len(models), 'model')}; give it once, or once per model."
        )


def _inputs_and_outputs(options: argparse.Namespace, named: list[str]) -> tuple[list[str], list[Path]]:
    """Return the images and the files to write, after checking the files and the libraries."""
    if options.spectrum:
        if named:
            raise UserError(f"{printable(named[0])} is not a model; name the images of --spectrum with --data.root.")
        files = spectrum_files(options.output, into_folder=options.into_folder)
        images = evenly(find_images([options.data_root]), options.images)
    else:
        images = find_images(named)
        files = grid_files(options.output, images, into_folder=options.into_folder)
        check_captum()
    check_files(files, [] if options.spectrum else images, overwrite=options.overwrite)
    if options.output.suffix.lower() != ".json":
        check_matplotlib()
    return images, files


def _say_unreadable(unreadable: Sequence[tuple[str, str]]) -> int:
    """Print the images that could not be read, and return the exit code."""
    if not unreadable:
        return 0
    for path, reason in unreadable:
        print(f"Not read: {printable(path)}: {printable(reason)}", file=sys.stderr)
    print_error(f"{count(len(unreadable), 'image')} could not be read and left out.")
    return 1
