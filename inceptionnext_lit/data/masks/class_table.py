"""Tables of the classes: names, colors and values."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inceptionnext_lit.data.sources.columns import plain_name
from inceptionnext_lit.data.tables import Cell, open_table
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED
from inceptionnext_lit.safe_save import replacing

Color = tuple[int, int, int]

FILE: Final = "classes.csv"
_FILES = (FILE, "_classes.csv", "class_dict.csv", "labelmap.txt", "classes.txt", "labels.txt", "class_names.txt")
_NAMES: dict[str, tuple[str, ...]] = {
    "name": ("name", "class", "classname", "label", "labelname", "category"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
    "value": ("value", "pixelvalue", "index", "id", "classid", "labelid", "trainid"),
}
_IGNORED_NAMES = frozenset({"ignore", "ignored", "__ignore__"})
_VOID_NAMES = frozenset(  # of the value 255; without spaces and punctuation
    {
        "void",
        "unlabeled",
        "unlabelled",
        "unlabel",
        "nolabel",
        "border",
        "boundary",
        "dontcare",
        "donotcare",
        "undefined",
    }
    | {"unknown", "unannotated", "nodata", "none", "ambiguous", "masked", "invalid", "na"}
)


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, without ignored ones.

    Attributes:
        path: Where they are from, for messages.
        names: Class names in index order.
        colors: Color of each class; None if the table has no colors.
        values: Value of each class in the masks; None if they are 0, 1, 2 and so on.
        ignored_colors: Colors of ignored pixels.
        ignored_values: Values of ignored pixels.
    """

    path: Path
    names: list[str]
    colors: list[Color] | None = None
    values: list[int] | None = None
    ignored_colors: tuple[Color, ...] = ()
    ignored_values: tuple[int, ...] = ()


def find_table(root: Path, named: str | None) -> ClassTable | None:
    """Read the table of classes of a data folder, if there is one.

    Args:
        root: The data folder.
        named: The table, if it was given.

    Raises:
        UserError: If the given table does not exist, or a table is invalid.
    """
    if named is not None:
        return read_table(Path(named).expanduser())
    for name in _FILES:
        if (root / name).is_file():
            return read_table(root / name)
    return None


def read_table(path: Path) -> ClassTable:
    """Read a table of classes: a table with a column of names, or a text file with a name in each line.

    A row named ``ignore`` is for ignored pixels, and so is one of more
    than two with the value 255 and a name such as ``void``.

    Raises:
        UserError: If it does not exist, or a row is invalid.
    """
    if not path.is_file():
        raise UserError(f"The table of classes {path} does not exist; check data.masks.classes.")
    if path.suffix == ".txt":
        return _from_lines(path)
    table = open_table(path, lambda names: sum(_role(name) is not None for name in names))
    places = {role: place for place, name in reversed(list(enumerate(table.names))) if (role := _role(name))}
    if "name" not in places:
        raise UserError(f"{path} has no column name; a table of classes has the columns name, r, g and b.")
    rgb = [places[channel] for channel in "rgb" if channel in places]
    if len(rgb) not in (0, 3):
        raise UserError(f"{path} has only some of the columns r, g and b; add the others, or leave them out.")
    rows, columns = table.read([places["name"], *rgb, *([places["value"]] if "value" in places else [])])
    names = [str(cell).strip() for cell in columns[0]]
    channels = [_bytes(path, rows, column) for column in columns[1 : 1 + len(rgb)]]
    colors = list(zip(*channels, strict=True)) if rgb else None
    values = _bytes(path, rows, columns[-1]) if "value" in places else None
    return _checked(path, names, colors, values)


def write_table(path: Path, names: Sequence[str], palette: Sequence[Sequence[int]]) -> None:
    """Write a table of classes with their colors, atomically."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "r", "g", "b"])
        writer.writerows([name, *color] for name, color in zip(names, palette, strict=True))


def colormap(count: int) -> list[list[int]]:
    """Return the first colors of Pascal VOC's colormap: black, dark red, dark green and so on."""
    colors = []
    for index in range(count):
        color = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        colors.append(color)
    return colors


def _role(name: str) -> str | None:
    return next((role for role, names in _NAMES.items() if plain_name(name) in names), None)


def _bytes(path: Path, rows: Sequence[int], cells: Sequence[Cell]) -> list[int]:
    numbers = []
    for row, cell in zip(rows, cells, strict=True):
        text = str(cell).strip().removesuffix(".0")
        if not (text.isascii() and text.isdigit() and int(text) <= 255):
            raise UserError(f"Row {row} of {path} has {text!r}, which is not a whole number from 0 to 255.")
        numbers.append(int(text))
    return numbers


def _from_lines(path: Path) -> ClassTable:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The table of classes {path} cannot be read: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    if names and names[0].startswith("#") and "label:color_rgb" in names[0].replace(" ", ""):
        return _from_cvat(path, names[1:])
    # labelme's own file begins with two lines that are not classes of their own
    names = [name for name in names if name not in _IGNORED_NAMES]
    return _checked(path, ["background" if name == "_background_" else name for name in names], None, None)


def _from_cvat(path: Path, lines: Sequence[str]) -> ClassTable:
    """Read CVAT's ``labelmap.txt``, with a name and a color in each line: ``cat:200,30,30::``."""
    cells = [line.split(":") for line in lines]
    rows = range(2, 2 + len(cells))
    if not all(len(row) > 1 and row[1].count(",") == 2 for row in cells):
        raise UserError(
            f"{path} is not a label map of CVAT: each line has a name and a color, such as cat:200,30,30::."
        )
    channels = [_bytes(path, rows, [row[1].split(",")[channel] for row in cells]) for channel in range(3)]
    return _checked(path, [row[0].strip() for row in cells], list(zip(*channels, strict=True)), None)


def _checked(path: Path, names: list[str], colors: list[Color] | None, values: list[int] | None) -> ClassTable:
    has_void = values is not None and len(values) > 2  # of two classes, 255 is the second
    is_ignored = [
        name.casefold() in _IGNORED_NAMES
        or (has_void and values is not None and values[row] == IGNORED and plain_name(name) in _VOID_NAMES)
        for row, name in enumerate(names)
    ]
    kept = [row for row in range(len(names)) if not is_ignored[row]]
    found = [names[row] for row in kept]
    for what, items in (("name", found), ("color", colors or []), ("value", values or [])):
        twice = next((item for place, item in enumerate(items) if item in items[:place]), None)
        if twice is not None:
            raise UserError(f"{path} has the {what} {twice} twice; give each class its own.")
    if "" in found or len(found) < 2:
        raise UserError(f"{path} must name two classes or more, each in a row of its own.")
    if len(found) > IGNORED - 1:
        raise UserError(f"{path} has {len(found)} classes, and a mask of 8 bits has room for {IGNORED - 1}.")
    ignored = [row for row in range(len(names)) if is_ignored[row]]
    return ClassTable(
        path,
        found,
        None if colors is None else [colors[row] for row in kept],
        None if values is None else [values[row] for row in kept],
        () if colors is None else tuple(colors[row] for row in ignored),
        () if values is None else tuple(values[row] for row in ignored),
    )
