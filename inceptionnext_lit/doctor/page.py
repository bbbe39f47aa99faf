"""A doctor's report as one self-contained HTML file."""

import html
from itertools import groupby

from inceptionnext_lit.data.decode.thumbnail import thumbnail
from inceptionnext_lit.doctor.findings import KINDS, Finding
from inceptionnext_lit.doctor.mask_page import render_masks
from inceptionnext_lit.doctor.report import Report
from inceptionnext_lit.doctor.scenes import SceneReport
from inceptionnext_lit.doctor.terminal import label_name, summary_lines
from inceptionnext_lit.wording import count, printable

_PICTURED = {"leak", "contradiction", "duplicate", "near_duplicate", "one_colour", "dark"}
_PICTURES = 60  # in all
_PICTURES_EACH = 4  # per finding
_SIDE = 112  # pixels
_PATHS = 1000  # per kind; the JSON report has all of them
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin-bottom: 1.5rem; width: 100%; }
td, th { text-align: left; padding: 1px 8px 1px 0; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.bar { width: 50%; } td.bar div { background: #4a90c4; height: 0.8em; }
section { border-left: 4px solid #d9a400; padding-left: 1rem; margin: 1.5rem 0; }
section.problem { border-color: #c0392b; }
h3 { margin: 0; } li { overflow-wrap: anywhere; } .remedy { font-style: italic; }
figure { display: inline-block; margin: 4px 8px 4px 0; width: 112px; vertical-align: top; }
figcaption { font-size: 11px; line-height: 1.2; overflow-wrap: anywhere; }
"""


def render_page(report: Report) -> str:
    """Render the report as HTML: counts with a bar per class, and findings with thumbnails of duplicates."""
    title = f"{printable(str(report.root))}: {count(report.problems, 'problem')}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(line)}</p>" for line in summary_lines(report)),
        "<h2>Findings</h2>",
    ]
    pictures = _Pictures(report)
    for kind, members in groupby(report.findings, key=lambda finding: finding.kind):
        parts.append(_section(kind, list(members), pictures))
    if not report.findings:
        parts.append("<p>Nothing was found.</p>")
    parts.append("<h2>Splits and classes</h2>")
    parts += [_class_table(split, report.images_of(split), classes) for split, classes in report.splits.items()]
    if isinstance(report, SceneReport):
        parts += render_masks(report)
    return "\n".join([*parts, "</body>\n</html>\n"])


def _class_table(split: str, images: int, classes: dict[str, int]) -> str:
    largest = max(classes.values(), default=0) or 1
    rows = "\n".join(
        f'<tr><td>{html.escape(label_name(label))}</td><td class="number">{number:,}</td>'
        f'<td class="bar"><div style="width: {100 * number / largest:.1f}%"></div></td></tr>'
        for label, number in classes.items()
    )
    heading = f"{split}: {count(images, 'image')}"
    head = '<tr><th>class</th><th class="number">images</th><th></th></tr>'
    return f"<h3>{html.escape(heading)}</h3>\n<table>\n{head}\n{rows}\n</table>"


def _section(kind: str, findings: list[Finding], pictures: "_Pictures") -> str:
    row = KINDS[kind]
    lines, left = [], _PATHS
    for finding in findings:
        if left <= 0:
            break
        shown = finding.paths[:left] if len(finding.paths) > 3 else ()  # the message has the first three
        left -= max(len(finding.paths), 1)
        paths = "".join(f"<li>{html.escape(printable(path))}</li>" for path in shown)
        lines.append(f"<li>{html.escape(finding.message)}{f'<ul>{paths}</ul>' if paths else ''}")
        if kind in _PICTURED:
            lines.append(pictures.figures(finding))
        lines.append("</li>")
    if left < 0 or len(findings) > sum(line == "</li>" for line in lines):
        lines.append("<li>… (the JSON report lists all)</li>")
    heading = f"{row.severity.capitalize()}: {row.title} ({len(findings):,})"
    body = "\n".join(lines)
    return (
        f'<section class="{row.severity}">\n<h3>{html.escape(heading)}</h3>\n'
        f'<p class="remedy">{html.escape(row.remedy)}</p>\n<ul>\n{body}\n</ul>\n</section>'
    )


class _Pictures:
    """Thumbnails for a page, up to a maximum number; files that are gone are skipped.

    Args:
        report: The report whose images they show.
    """

    def __init__(self, report: Report) -> None:
        self._root = report.root
        self._left = _PICTURES

    def figures(self, finding: Finding) -> str:
        """Render the first images of a finding as HTML figures."""
        shown = []
        for path in finding.paths[: min(_PICTURES_EACH, self._left)]:
            if (source := thumbnail(self._root / path, _SIDE)) is None:
                continue
            name = html.escape(printable(path))
            shown.append(f'<figure><img src="{source}" alt=""><figcaption>{name}</figcaption></figure>')
        self._left -= len(shown)
        return "".join(shown)
