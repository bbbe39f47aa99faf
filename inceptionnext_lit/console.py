"""Lines, tables and progress bars on a terminal or in a file, by rich."""

import io
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from inceptionnext_lit.wording import printable_lines

_FILE_WIDTH = 200  # of tables that go to a file


class LineConsole(Console):
    """A console for whole lines of plain text, none of which is a terminal's escape sequence."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False)

    def print(self, *objects: Any, **kwargs: Any) -> None:
        """Print text, of which control signs come as escapes."""
        super().print(*(printable_lines(str(text)) for text in objects), **kwargs)


def report_console(width: int = _FILE_WIDTH) -> Console:
    """A console on stdout for tables and pages.

    Args:
        width: Columns where stdout is no terminal.
    """
    stdout = Console()
    return stdout if stdout.is_terminal else Console(width=width)


def rendered(table: RenderableType) -> str:
    """A table as text, as wide as the terminal, or as a file takes it.

    Args:
        table: One of rich's; its cells are plain text.
    """
    text = io.StringIO()
    Console(file=text, width=report_console().width).print(table, markup=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def plain_table(title: str | None) -> Table:
    """An empty table without lines, as reports show them.

    Args:
        title: A line above it; None for none.
    """
    return Table(title=title, title_justify="left", title_style="bold", box=None, header_style="bold", pad_edge=False)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on stderr, which goes away when all is done; nothing where stderr is no terminal.

    Args:
        *columns: Shown after the task, the bar, the count and the time that has passed.
    """
    console = Console(stderr=True)
    first = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*first, *columns, console=console, transient=True, disable=not console.is_terminal)
