"""``benchmark``: compare the speed of models."""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.commands.budget import DECODERS, parse_size
from inceptionnext_lit.cli.tools import ToolParser, positive, sentence
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.reports.benchmark.case import OWN, TORCH_VARIANTS, TRAINED_VARIANTS, VARIANTS, Case
from inceptionnext_lit.safe_save import obstacle, replacing

if TYPE_CHECKING:
    from inceptionnext_lit.reports.benchmark.measurement import Measurement

EXAMPLES = """\
Each model and variant runs in its own process. They take turns for several rounds; the results are medians over the
rounds, and ratios to the first one are taken within a round. GFLOP/s count a multiply-add as two operations; their
bound is the rate of this machine's matrix products in the same precision, measured in the same rounds.

eager, compile, kernels, deploy and their combinations run in torch, in --precision; kernels are Triton's, for the
token mixers of this family on a GPU. The other variants are exported for the benchmark as export does it with --input
tensor, and run on the CPU, in single precision or as their names say. Models by name have random weights.

examples:
  python cli.py benchmark inceptionnext_tiny convnext_tiny deit_small_patch16_224
  python cli.py benchmark inceptionnext_tiny --precision bf16 --variants eager,deploy,compile,deploy+compile
  python cli.py benchmark inceptionnext_tiny --precision bf16 --variants eager,kernels,compile,compile+kernels
  python cli.py benchmark inception_next_tiny inceptionnext_tiny --allocator as_it_comes,keep
  python cli.py benchmark best.ckpt --variants deploy,onnx,openvino,openvino-bf16 --batch_size 1,16
  python cli.py benchmark best.onnx best.xml
  python cli.py benchmark inceptionnext_iso_small deit_small_patch16_224 --mode train --batch_size 32 --format json
  python cli.py benchmark --task segment inceptionnext_tiny convnext_tiny --decoder semantic_fpn --image_size 512
  python cli.py benchmark inceptionnext_tiny deit_small_patch16_224 --scaling image_size --output growth.svg
"""
_SIZES = {"image_size": (128, 192, 256, 320, 384, 448, 512), "batch_size": (1, 2, 4, 8, 16, 32)}
_BATCH_SIZE = 16
_VARIANTS = ["eager"]
_ALLOCATORS = ("keep", "as_it_comes")


def run(words: list[str]) -> int:
    """Run the command.

    Args:
        words: Command-line arguments after ``benchmark``.

    Returns:
        Exit code 0.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    _check_output(options)
    import_heavy("inceptionnext_lit.reports.benchmark.rendering")
    from rich.console import Console

    from inceptionnext_lit.reports.benchmark.measurement import Measurement, MeasurementInterrupt
    from inceptionnext_lit.reports.benchmark.rendering import Format, describe_unsteady, draw_scaling, render

    console = Console(stderr=True)
    style: Format = "json" if options.output is not None and options.output.suffix == ".json" else options.format
    measurements: list[Measurement] = []
    try:
        with console.status("measuring") as status:
            for some in _measure(options, lambda what: status.update(what)):
                measurements += some
    except (KeyboardInterrupt, UserError) as error:
        measurements += error.measured if isinstance(error, MeasurementInterrupt) else []
        if measurements:  # they are not lost, but no file takes them for all that was asked
            print(render(measurements, style), end="")
        raise
    if unsteady := describe_unsteady(measurements):
        print(unsteady, file=sys.stderr)
    text = render(measurements, style)
    is_drawing = options.output is not None and options.output.suffix in (".svg", ".png")
    if options.output is None or is_drawing:
        print(text, end="")
    if is_drawing:
        draw_scaling(measurements, options.scaling, options.output)
    elif options.output is not None:
        try:
            with replacing(options.output) as partial:
                partial.write_text(text, encoding="utf-8")
        except OSError:  # such as a full disk; what was measured is not lost
            print(text, end="")
            raise
    if options.output is not None:
        print(f"Written to {options.output}", file=sys.stderr)
    return 0


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("benchmark", f"{sentence(TOOLS['benchmark'])}\n\n{EXAMPLES}")
    models = parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="model names of timm, checkpoints, exported files"
    )
    parser.add_argument("--task", choices=("classify", "segment"), default="classify", help="(default: classify)")
    parser.add_argument(
        "--decoder",
        choices=DECODERS,
        help="of models by name with --task segment, for 150 classes (default: upernet)",
    )
    parser.add_argument("--mode", choices=("infer", "train"), default="infer", help="(default: infer)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        help="of torch; tf32: on a GPU (default: fp32)",
    )
    parser.add_argument(
        "--batch_size",
        type=_numbers,
        metavar="N,…",
        help="images per step, one or several (default: 16; with --task segment 1, in training 2)",
    )
    parser.add_argument(
        "--image_size",
        type=parse_size,
        metavar="N|H,W",
        help="pixels (default: 224; of checkpoints and files, their own; with --task segment 512,512 and 512,2048)",
    )
    parser.add_argument(
        "--variants",
        type=partial(_names, allowed=VARIANTS, what="variant"),
        metavar="NAME,…",
        help=f"any of {', '.join(VARIANTS)} (default: eager); an exported file is one of its own",
    )
    parser.add_argument(
        "--layout", choices=("best", "channels_last", "contiguous"), help="of torch; best tries both (default: best)"
    )
    parser.add_argument("--threads", type=positive, default=usable_cores(), metavar="N", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="(default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="minimum for each in a round (default: 2)")
    parser.add_argument(
        "--allocator",
        type=partial(_names, allowed=_ALLOCATORS, what="allocator"),
        default=["keep"],
        metavar="NAME,…",
        help="keep freed memory in the process (the default; glibc only), as_it_comes, or both in turn",
    )
    sizes = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in _SIZES.items())
    parser.add_argument("--scaling", choices=tuple(_SIZES), help=f"measure at several sizes ({sizes})")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="(default: table)")
    parser.add_argument("--output", type=Path, metavar="FILE", help=".json or .txt; with --scaling also .svg or .png")
    models.required = False
    options = parser.parse_args(words)
    if not options.models:
        parser.error("the following arguments are required: MODEL")
    return options


def _check_output(options: argparse.Namespace) -> None:
    output: Path | None = options.output
    if output is None:
        return
    allowed = (".json", ".txt", *((".svg", ".png") if options.scaling else ()))
    if output.suffix not in allowed:
        raise UserError(f"--output is {output}; it must end in {' or '.join(allowed)}.")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output is {output}, in a folder that does not exist; create it, or choose another.")
    if (code := obstacle(output)) is not None:
        raise UserError(f"--output {output} cannot be written: {os.strerror(code)}; give another one.")


def _measure(options: argparse.Namespace, tick: Any) -> "Iterator[list[Measurement]]":
    """Yield the measurements of each size."""
    from inceptionnext_lit.reports.benchmark.measure import measure

    is_segment = options.task == "segment"
    batch_sizes = options.batch_size or [_BATCH_SIZE if not is_segment else 2 if options.mode == "train" else 1]
    if options.scaling is not None and getattr(options, options.scaling) is not None:
        raise UserError(f"--scaling {options.scaling} has sizes of its own; leave out --{options.scaling}.")
    if options.scaling is not None and len(batch_sizes) > 1:
        raise UserError("--scaling has sizes of its own; give one --batch_size.")
    template = Case(
        model="",
        variant="eager",
        mode=options.mode,
        precision=options.precision or "fp32",
        layout=options.layout or "best",
        batch_size=max(batch_sizes),
        image_size=0,
        threads=options.threads,
        keeps_memory=True,
    )
    groups = _segmenters(options, template) if is_segment else [_classifiers(options, template)]
    cases = [
        [
            replace(case, batch_size=batch_size, keeps_memory=allocator == "keep")
            for case in group
            for batch_size in batch_sizes
            for allocator in options.allocator
        ]
        for group in groups
    ]
    if options.mode == "train" and any(case.variant not in TRAINED_VARIANTS for case in cases[0]):
        trained = f"{', '.join(TRAINED_VARIANTS[:-1])} and {TRAINED_VARIANTS[-1]}"
        raise UserError(f"Only the variants {trained} can be trained; leave the others out, or --mode train.")
    for sized in (one for group in cases for one in _sizes(group, options.scaling)):
        yield measure(sized, options.rounds, options.seconds, tick)


def _classifiers(options: argparse.Namespace, template: Case) -> list[Case]:
    """Return the cases of classifiers and exported files."""
    from inceptionnext_lit.reports.benchmark.subjects import find_subject

    if options.decoder is not None:
        raise UserError("--decoder is for segmentation models; add --task segment, or leave it out.")
    height, width = options.image_size or (None, None)
    if height != width:
        raise UserError(f"--image_size is {height},{width}; only square images are measured, except in --task segment.")
    most = max(_SIZES["batch_size"]) if options.scaling == "batch_size" else template.batch_size
    subjects = [find_subject(model, height, most) for model in options.models]
    files = [subject.model for subject in subjects if subject.form is not None]
    if files and options.mode == "train":
        raise UserError(f"{files[0]} is an exported file, which cannot be trained; leave out the file or --mode train.")
    given = [key for key in ("variants", "precision", "layout") if getattr(options, key) is not None]
    if given and len(files) == len(subjects):
        raise UserError(
            f"--{given[0]} is for models by name and checkpoints, and {files[0]} is an exported file, which has its "
            "own; leave it out."
        )
    return [case for subject in subjects for case in subject.cases(options.variants or _VARIANTS, template)]


def _segmenters(options: argparse.Namespace, template: Case) -> list[list[Case]]:
    """Return the cases of segmentation models at each image size."""
    from inceptionnext_lit.reports.benchmark.segmenters import SIZES, check_segmenter

    variants = options.variants or _VARIANTS
    if others := [name for name in variants if name not in TORCH_VARIANTS]:
        raise UserError(f"The variant {others[0]} is for classifiers; leave it out with --task segment.")
    checked = [check_segmenter(model, options.decoder) for model in options.models]
    if options.decoder is not None and all(decoder == OWN for _, decoder in checked):
        raise UserError(f"--decoder is for models by name, and {checked[0][0]} has one of its own; leave it out.")
    sizes = [options.image_size] if options.image_size else SIZES[:1] if options.scaling else SIZES
    return [
        [
            replace(
                template,
                model=model,
                decoder=decoder,
                variant=variant,
                image_size=height,
                width=None if height == width else width,
            )
            for model, decoder in checked
            for variant in variants
        ]
        for height, width in sizes
    ]


def _sizes(cases: list[Case], scaling: str | None) -> list[list[Case]]:
    if scaling is None:
        return [cases]
    sizes = _SIZES[scaling]
    if scaling == "image_size":
        return [[replace(case, image_size=size) for case in cases] for size in sizes]
    return [[replace(case, batch_size=size) for case in cases] for size in sizes]


def _names(text: str, allowed: tuple[str, ...], what: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in allowed]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a known {what}; choose from {', '.join(allowed)}")
    return names


def _numbers(text: str) -> list[int]:
    return [positive(number.strip()) for number in text.split(",")]
