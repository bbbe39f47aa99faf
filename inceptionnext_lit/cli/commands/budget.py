"""``budget``: compare models' cost with the paper's tables, or report single models."""

import argparse
import re
import sys
from typing import TYPE_CHECKING, Literal, get_args

from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.tools import ToolParser, file_path, sentence
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports import Format

if TYPE_CHECKING:
    from inceptionnext_lit.models.segmenter import DecoderName
    from inceptionnext_lit.reports.budget.report import BudgetRow

Task = Literal["classify", "segment"]
DECODERS: tuple["DecoderName", ...] = ("upernet", "semantic_fpn")
EXAMPLES = """\
examples:
  python cli.py budget                                         all tables of the paper, and one of Inception modules;
                                                               exit code 1 if ours differ
  python cli.py budget --plot figure1.svg                      the same, with a plot of accuracy against cost
  python cli.py budget inceptionnext_iso_small resnet50        any models of timm
  python cli.py budget inceptionnext_tiny --image_size 512,2048 --by_module 2
  python cli.py budget --task segment                          the paper's tables of segmentation (5 and 6)
  python cli.py budget --task segment resnet50 inceptionnext_iso_small --decoder upernet --image_size 512
  python cli.py budget convnext_iso_base --against deit_base_patch16_224 --format json
"""


def run(words: list[str]) -> int:
    """Run the command.

    Args:
        words: Command-line arguments after ``budget``.

    Returns:
        Exit code: 1 if one of our models differs from the paper, or a model is not fully counted.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parser().parse_args(words)
    if options.decoder is not None and (options.task != "segment" or not options.models):
        raise UserError("--decoder is for single models of --task segment; add both, or leave it out.")
    if options.models:
        return _report_models(options)
    return _report_paper(options)


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser("budget", f"{sentence(TOOLS['budget'])}\n\n{EXAMPLES}")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="model names of timm; none for the paper's tables")
    parser.add_argument(
        "--image_size",
        type=parse_size,
        metavar="SIDE|H,W",
        help="pixels: 224, or 512,2048 (default: the model's size)",
    )
    parser.add_argument(
        "--task",
        choices=get_args(Task),
        help="classify, or segment: with a decoder for 150 classes (default: both tasks' tables; models: classify)",
    )
    parser.add_argument(
        "--decoder",
        choices=DECODERS,
        help="of --task segment (default: upernet at 512×2048 and semantic_fpn at 512×512, as in the paper)",
    )
    parser.add_argument("--format", choices=get_args(Format), default="table", help="what to print (default: table)")
    parser.add_argument(
        "--by_module",
        type=_depth,
        metavar="DEPTH",
        help="also print the tree of modules to this depth, with shares; json: as key modules",
    )
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="compare each model with this one (isotropic: by default DeiT of its width); json: keys against, *_ratio",
    )
    parser.add_argument("--plot", type=file_path, metavar="FILE.png|svg", help="plot accuracy against cost")
    return parser


def parse_size(text: str) -> tuple[int, int]:
    """Read an image size, ``224`` or ``512,2048``.

    Args:
        text: One side, or height and width, in pixels.

    Returns:
        Height and width.

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    found = re.fullmatch(r"(\d+)(?:[,x×](\d+))?", text.strip())
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if 0 in size:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give one side, such as 224, or a height,width")
    return size


def _depth(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a depth; give 0 or more")
    return int(text)


def _report_models(options: argparse.Namespace) -> int:
    if options.format == "csv" and options.by_module is not None and options.against is not None:
        raise UserError("A CSV report takes --by_module or --against, not both; leave out one, or use --format json.")
    if options.plot is not None:
        raise UserError("--plot draws the paper's tables; leave out the model names.")
    import_heavy("inceptionnext_lit.reports.budget.rendering")
    from inceptionnext_lit.reports.budget.rendering import render_models
    from inceptionnext_lit.reports.budget.report import model_report, segmenter_report

    if options.task == "segment":
        decoders = DECODERS if options.decoder is None else (options.decoder,)
        report = segmenter_report(options.models, decoders, options.image_size, options.against)
    else:
        report = model_report(options.models, options.image_size, options.against)
    with_ratios = options.against is not None
    print(render_models(report, options.format, options.by_module, with_ratios), end="")
    return _conclude([row for row, _ in report])


def _report_paper(options: argparse.Namespace) -> int:
    for key in ("image_size", "by_module", "against"):
        if getattr(options, key) is not None:
            raise UserError(f"--{key} is for single models; give one or more, as in: budget inceptionnext_tiny.")
    import_heavy("inceptionnext_lit.reports.budget.rendering")
    from inceptionnext_lit.console import progress_bar
    from inceptionnext_lit.reports.budget.inception import TABLE, module_costs
    from inceptionnext_lit.reports.budget.plot import check_plot_path, draw_tradeoff
    from inceptionnext_lit.reports.budget.rendering import render_report
    from inceptionnext_lit.reports.budget.report import paper_jobs, paper_report, tables_of

    if options.plot is not None:
        if options.task == "segment":
            raise UserError("--plot draws ImageNet accuracy; leave it out, or leave out --task segment.")
        check_plot_path(options.plot)
    tables = tables_of(options.task)
    with progress_bar() as progress:
        has_modules = options.task != "segment"
        bar = progress.add_task("counting", total=len(paper_jobs(tables)) + has_modules)

        def tick(name: str) -> None:
            progress.update(bar, description=f"counting {name}", advance=1)

        rows = paper_report(tables, tick)
        if has_modules:
            tick(TABLE)
        modules = module_costs() if has_modules else []
    print(render_report(rows, options.format, modules), end="")
    if options.plot is not None:
        draw_tradeoff(rows, options.plot)
        print(f"Plot: {options.plot}", file=sys.stderr)
    return _conclude(rows)


def _conclude(rows: "list[BudgetRow]") -> int:
    """Print the failed rows on stderr, and return the exit code."""
    if failed := [row for row in rows if row.failed]:
        names = ", ".join(f"{row.model} ({row.verdict})" for row in failed)
        print(f"error: {len(failed)} of {len(rows)} rows failed: {names}.", file=sys.stderr)
        return 1
    return 0
