"""Lines, tables and progress bars for a terminal or a file, rendered by rich."""

import io
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from inceptionnext_lit.wording import printable_lines

_FILE_WIDTH = 200  # columns of tables written to a file


class LineConsole(Console):
    """Console for whole lines of plain text, without markup or escape sequences."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False)

    def print(self, *objects: Any, **kwargs: Any) -> None:
        """Print text with control characters escaped."""
        super().print(*(printable_lines(str(text)) for text in objects), **kwargs)


def report_console(width: int = _FILE_WIDTH) -> Console:
    """Return a console on stdout for tables and pages.

    Args:
        width: Columns when stdout is not a terminal.
    """
    stdout = Console()
    return stdout if stdout.is_terminal else Console(width=width)


def rendered(table: RenderableType) -> str:
    """Render a table as text, as wide as the terminal, or 200 columns if stdout is not a terminal.

    Args:
        table: A rich renderable whose cells are plain text.
    """
    text = io.StringIO()
    Console(file=text, width=report_console().width).print(table, markup=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def plain_table(title: str | None) -> Table:
    """Return an empty table without rules, as reports use it.

    Args:
        title: A line above the table, or None.
    """
    return Table(title=title, title_justify="left", title_style="bold", box=None, header_style="bold", pad_edge=False)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar on stderr that is removed at the end, and is disabled if stderr is not a terminal.

    Args:
        *columns: Columns after the description, the bar, the count and the elapsed time.
    """
    console = Console(stderr=True)
    first = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*first, *columns, console=console, transient=True, disable=not console.is_terminal)
