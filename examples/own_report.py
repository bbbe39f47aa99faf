"""A custom report in one file: the feature maps of models, stage by stage.

Usage: python examples/own_report.py features MODEL ... [--image_size N] [--format table|markdown|csv|json]
"""

from collections.abc import Iterable
from typing import Any, get_args

import timm
import torch

import inceptionnext_lit  # noqa: F401  (registers the family with timm)
from inceptionnext_lit.cli.tools import ToolParser
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.reports import Format
from inceptionnext_lit.reports.tables import render_records, render_table


def measure(models: Iterable[str], image_size: int) -> list[dict[str, Any]]:
    """Return the feature maps of models: a record per stage, with plain values under stable names.

    Args:
        models: Model names of timm.
        image_size: Side of the images in pixels.
    """
    records = []
    for name in models:
        check_model_name(name)
        with torch.device("meta"):  # computes shapes only
            model = timm.create_model(name, features_only=True)
            maps = model(torch.empty(1, 3, image_size, image_size))
        for stage, (found, reduction) in enumerate(zip(maps, model.feature_info.reduction(), strict=True)):
            _, channels, height, width = found.shape
            size = {"channels": channels, "height": height, "width": width, "values": found.numel()}
            records.append({"model": name, "stage": stage, "stride": reduction, **size})
    return records


def render(records: list[dict[str, Any]], style: Format) -> str:
    """Render the report; ``"csv"`` and ``"json"`` are for programs."""
    if style == "csv" or style == "json":
        return render_records(records, style)
    lines = [
        [row["model"], f"{row['stage']}", f"{row['stride']}", f"{row['channels']}", f"{row['height']}×{row['width']}"]
        for row in records
    ]
    headers = ["model", "stage", "stride", "channels", "pixels"]
    return render_table(headers, lines, style, title="Feature maps", numbers=headers[1:])


def run(words: list[str]) -> None:
    """Read the command line and print the report."""
    parser = ToolParser("features", "Feature maps of models, stage by stage.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="model names of timm")
    parser.add_argument("--image_size", type=int, default=224, metavar="N", help="pixels (default: 224)")
    parser.add_argument("--format", choices=get_args(Format), default="table", help="what to print (default: table)")
    options = parser.parse_args(words)
    print(render(measure(options.models, options.image_size), options.format), end="")


if __name__ == "__main__":
    from inceptionnext_lit.cli import add_command, main

    add_command("features", "feature maps of models, stage by stage", __name__)
    main()
