"""The doctor's report on a terminal."""

from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from inceptionnext_lit.data.class_words import display_name
from inceptionnext_lit.doctor.diagnosis import imbalance
from inceptionnext_lit.doctor.findings import KINDS, Finding
from inceptionnext_lit.doctor.listing import NO_LABEL
from inceptionnext_lit.doctor.report import Report
from inceptionnext_lit.doctor.scenes import SceneReport
from inceptionnext_lit.wording import count, printable

_CLASSES = 30  # the largest and smallest classes of a split that has more
_LINES = 10  # per kind of finding
_BAR = 30  # characters


def print_report(report: Report, console: Console) -> None:
    """Print tables of splits, classes, sizes and modes, then the findings, problems first."""
    for split, classes in report.splits.items():
        _print_classes(split, report.images_of(split), classes, console)
    for line in summary_lines(report):
        console.print(Text(line), soft_wrap=True)
    for kind, members in groupby(report.findings, key=lambda finding: finding.kind):
        console.print()
        _print_kind(kind, list(members), console)
    console.print()
    notes = len(report.findings) - report.problems
    if report.problems:
        console.print(Text(f"{count(report.problems, 'problem')}, {count(notes, 'note')}.", style="bold red"))
    else:
        console.print(Text(f"No problems, {count(notes, 'note')}.", style="bold green"))


def summary_lines(report: Report) -> list[str]:
    """Summarize the images in a few lines."""
    lines = [f"{count(report.images, 'image')} read in {report.seconds:.1f} s"]
    if report.sizes:
        width, height = report.sizes["width"], report.sizes["height"]
        lines.append(
            f"sizes: {width['min']}×{height['min']} to {width['max']}×{height['max']}, "
            f"median {width['median']}×{height['median']} pixels; most are "
            + ", ".join(f"{size['width']}×{size['height']} ({size['images']:,})" for size in report.sizes["common"][:3])
        )
        for name, counts in (("modes", report.modes), ("formats", report.formats)):
            lines.append(f"{name}: " + ", ".join(f"{key} ({number:,})" for key, number in counts.items()))
    return lines + (report.share_lines() if isinstance(report, SceneReport) else [])


def label_name(label: str) -> str:
    """Return a printable class name, with its word."""
    return "(no class)" if label == NO_LABEL else display_name(label)


def _print_classes(split: str, images: int, classes: dict[str, int], console: Console) -> None:
    ratio = imbalance(classes)
    named = len(classes) - (NO_LABEL in classes)
    parts = [f"{split}: {count(images, 'image')}, {count(named, 'class', 'classes')}"]
    if ratio is not None and named > 1:
        parts.append(f"largest to smallest {ratio:g} : 1")
    console.print(Text(", ".join(parts), style="bold"))
    largest = max(classes.values(), default=0) or 1
    rows = list(classes.items())
    if len(rows) > _CLASSES:
        rows.sort(key=lambda row: -row[1])
        rows = [*rows[: _CLASSES // 2], *rows[-_CLASSES // 2 :]]
        console.print(Text(f"the {_CLASSES // 2} largest and smallest of {len(classes):,}:"))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold", max_width=40)
    table.add_column(justify="right")
    table.add_column()
    for label, number in rows:
        bar = "█" * max(round(_BAR * number / largest), number > 0)
        table.add_row(Text(label_name(label)), f"{number:,}", Text(bar, style="cyan"))
    console.print(table)
    console.print()


def _print_kind(kind: str, findings: list[Finding], console: Console) -> None:
    row = KINDS[kind]
    style = "bold red" if row.severity == "problem" else "bold yellow"
    console.print(Text.assemble((f"{row.severity}: ", style), (f"{row.title} ({len(findings):,})", "bold")))
    lines = []
    for finding in findings:
        lines.append(finding.message)
        if len(finding.paths) > 3:  # the message has only the first three
            lines += [f"  {printable(path)}" for path in finding.paths]
    for line in lines[:_LINES]:
        console.print(Text(f"  {line}"), soft_wrap=True)  # so that paths can be copied
    if len(lines) > _LINES:
        console.print(Text(f"  and {len(lines) - _LINES:,} more (see --output)"))
    console.print(Text(f"  → {row.remedy}"), soft_wrap=True)
