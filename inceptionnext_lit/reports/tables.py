"""Write reports as a terminal table, Markdown, CSV or JSON."""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from inceptionnext_lit.console import plain_table, rendered

Layout = Literal["table", "markdown"]


def render_table(
    headers: Sequence[str],
    lines: Sequence[Sequence[str]],
    style: Layout = "table",
    *,
    title: str | None = None,
    numbers: Collection[str] = (),
) -> str:
    """Render cells as a human-readable table.

    Args:
        headers: Names of the columns.
        lines: The cells of each row.
        style: ``"table"`` is aligned and as wide as the terminal, or 200 characters in a file.
        title: A line above the table; a heading in Markdown.
        numbers: Columns to align to the right.
    """
    if style == "markdown":
        rule = ["--:" if name in numbers else ":--" for name in headers]
        head = [f"### {title}", ""] if title else []
        return "\n".join([*head, *(f"| {' | '.join(cells)} |" for cells in (headers, rule, *lines)), ""])
    table = plain_table(title)
    for name in headers:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for cells in lines:
        table.add_row(*cells)
    return rendered(table)


def render_records(records: Sequence[Mapping[str, Any]], style: Literal["csv", "json"]) -> str:
    """Render records in a machine-readable format.

    Args:
        records: Plain values under stable names, which are the same in each record.
        style: ``"csv"`` has a header, and empty cells for the nulls of ``"json"``.
    """
    if style == "json":
        return json.dumps(records, indent=2) + "\n"
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()
