"""``convert``: save a checkpoint's weights under the published names."""

import argparse
from pathlib import Path
from typing import get_args

from inceptionnext_lit.cli import TOOLS
from inceptionnext_lit.cli.quiet import silence_library_chatter
from inceptionnext_lit.cli.tools import ToolParser, sentence
from inceptionnext_lit.export.safetensors import convert_checkpoint
from inceptionnext_lit.models.formats import WeightSet
from inceptionnext_lit.program import exact_name
from inceptionnext_lit.wording import printable_lines

EXAMPLES = """\
The weights get the names that the model's authors, or timm, publish them under, so their tools can read the file. Its
metadata has the model's name and arguments, the classes and the preprocessing. The data is not needed.

examples:
  python cli.py convert runs/quickstart/version_0/checkpoints/best.ckpt --output best.safetensors
  python cli.py convert last.ckpt --output raw.safetensors --weights raw --details
"""


def run(words: list[str]) -> None:
    """Run the command.

    Args:
        words: Command-line arguments after ``convert``.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    silence_library_chatter()
    report = convert_checkpoint(options.ckpt, options.output, options.weights)
    print(printable_lines(str(report)))
    if options.details:
        print(printable_lines(report.loaded.details()))
    print(f"Next: {exact_name()} fit {report.fit_arguments()} --data.root FOLDER")


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("convert", f"{sentence(TOOLS['convert'])}\n\n{EXAMPLES}")
    parser.usage = f"{parser.prog} CKPT --output FILE.safetensors [--weights ema|raw] [--details]"
    source = parser.add_argument("ckpt", type=Path, metavar="CKPT", help="a checkpoint of fit, such as best.ckpt")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.safetensors", help="output file; an existing one is replaced"
    )
    parser.add_argument(
        "--weights", choices=get_args(WeightSet), help="averaged or raw weights (default: averaged if there are any)"
    )
    parser.add_argument("--details", action="store_true", help="list what happened to each tensor")
    source.required = False  # or argparse would report it as missing before a misspelled key
    options = parser.parse_args(words)
    if missing := [name for name, key in (("CKPT", "ckpt"), ("--output", "output")) if getattr(options, key) is None]:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return options
