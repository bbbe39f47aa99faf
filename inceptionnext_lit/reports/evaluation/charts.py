"""Small charts as SVG for the report's page, in the page's colors, light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 12, 44
_TICKS = 5
_DASHES = ("", "7 4", "2 3", "9 3 2 3")  # lines differ by their dashes too, not by color alone

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: Its name in the legend; empty for a line without an entry.
        points: Pairs of x and y.
        role: CSS class that colors it: ``a`` to ``d``, or ``guide`` for a thin gray line.
        marks: Whether points are marked.
    """

    name: str
    points: Points
    role: str = "a"
    marks: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars from the x axis.

    Attributes:
        bars: Left end, right end and height of each.
        role: CSS class that colors them.
    """

    bars: Sequence[tuple[float, float, float]]
    role: str = "a"


def chart(
    *content: Line | Bars,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    whole_x: bool = False,
) -> str:
    """Draw a chart as SVG.

    Args:
        *content: Lines and bars, drawn in this order.
        title: What the chart shows, for screen readers.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        x_range: Ends of the x axis; those of the points by default.
        y_range: Ends of the y axis; those of the points by default.
        whole_x: Whether only whole numbers are marked on the x axis.
    """
    xs, ys = _values(content)
    axes = _Axes(x_range or _padded(xs), y_range or _padded(ys), whole_x=whole_x)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        *axes.grid(),
    ]
    legend = [one for one in content if isinstance(one, Line) and one.name]
    for one in content:
        if isinstance(one, Bars):
            parts += [axes.bar(bar, one.role) for bar in one.bars]
        elif one.points:
            dash = _DASHES[legend.index(one) % len(_DASHES)] if one in legend else ""
            parts += axes.line(one, dash)
    parts += [
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text class="axis" transform="translate(12 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
        "</svg>",
    ]
    return "\n".join([*parts, *_legend(legend)])


def _legend(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    items = [
        f'<li><svg viewBox="0 0 34 10" width="34" height="10" aria-hidden="true"><line class="{line.role}" x1="1" '
        f'x2="33" y1="5" y2="5" stroke-dasharray="{_DASHES[place % len(_DASHES)]}"/></svg> {escape(line.name)}</li>'
        for place, line in enumerate(lines)
    ]
    return [f'<ul class="legend">{"".join(items)}</ul>']


def _values(content: Sequence[Line | Bars]) -> tuple[list[float], list[float]]:
    xs, ys = [], []
    for one in content:
        if isinstance(one, Line):
            xs += [x for x, _ in one.points]
            ys += [y for _, y in one.points]
        else:
            xs += [x for left, right, _ in one.bars for x in (left, right)]
            ys += [0.0, *(height for _, _, height in one.bars)]
    return xs, ys


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low - 0.5, high + 0.5) if low == high else (low, high)


class _Axes:
    """Axes with ticks, and shapes in their coordinates."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float], *, whole_x: bool = False) -> None:
        self._x, self._y, self._whole_x = x_range, y_range, whole_x

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of a point in the drawing."""
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return round(_LEFT + across * width, 1), round(_HEIGHT - _BOTTOM - up * height, 1)

    def grid(self) -> list[str]:
        """Return grid lines with their numbers."""
        parts = []
        for x in (tick for tick in _ticks(*self._x) if not self._whole_x or tick.is_integer()):
            left, bottom = self.place(x, self._y[0])
            parts.append(f'<line class="grid" x1="{left}" x2="{left}" y1="{_TOP}" y2="{bottom}"/>')
            parts.append(f'<text x="{left}" y="{bottom + 15}" text-anchor="middle">{x:g}</text>')
        for y in _ticks(*self._y):
            left, height = self.place(self._x[0], y)
            parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
            parts.append(f'<text x="{left - 6}" y="{height + 4}" text-anchor="end">{y:g}</text>')
        return parts

    def bar(self, bar: tuple[float, float, float], role: str) -> str:
        """Return a bar."""
        left, right, height = bar
        (x, top), (end, bottom) = self.place(left, height), self.place(right, self._y[0])
        size = f'width="{max(end - x - 1, 0.5):.1f}" height="{bottom - top:.1f}"'
        return f'<rect class="{role}" x="{x}" y="{top}" {size}/>'

    def line(self, line: Line, dash: str) -> list[str]:
        """Return a line, and marks of its points."""
        places = [self.place(x, y) for x, y in line.points]
        path = " ".join(f"{x},{y}" for x, y in places)
        drawn = [f'<polyline class="{line.role}" points="{path}" stroke-dasharray="{dash}"/>']
        if line.marks or len(places) == 1:
            drawn += [f'<circle class="{line.role}" cx="{x}" cy="{y}" r="3"/>' for x, y in places]
        return drawn


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends."""
    step = (high - low) / _TICKS
    magnitude = 10.0 ** len(str(int(1 / step))) if step < 1 else 10.0 ** -(len(str(int(step))) - 1)
    rounded = next(one for one in (1, 2, 5, 10, 20, 50, 100) if one / magnitude >= step * 0.999) / magnitude
    first = -(-low // rounded)
    count = int((high - first * rounded) / rounded + 1.001)
    return [round((first + number) * rounded, 10) for number in range(count)]
