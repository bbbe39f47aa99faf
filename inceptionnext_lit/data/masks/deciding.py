"""The decisions on what the values or colors of masks mean, kind by kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.masks.class_table import ClassTable, Color, colormap
from inceptionnext_lit.data.masks.options import POLYGONS, MaskOptions
from inceptionnext_lit.data.masks.scheme import UNKNOWN, Scheme, place_of
from inceptionnext_lit.data.masks.stored import StoredMask, pack, unpack
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED
from inceptionnext_lit.wording import count

Raster = Literal["index", "palette", "binary", "color"]

_MOST_UNNAMED = 64  # classes that are counted from the values, without a table
_BINARY = ["background", "foreground"]
_WHITE = 255
_SHOWN = 10
_TABLE = "list the classes in classes.csv in the data folder (or --data.masks.classes)"


def decide(masks: Sequence[StoredMask], options: MaskOptions, table: ClassTable | None, expected: int | None) -> Scheme:
    """Decide what the masks of a data set mean.

    Args:
        masks: The masks that can be read, of the training split if there is one.
        options: What is known of them.
        table: The classes, if there is a table.
        expected: Number of classes, if class names were given.

    Raises:
        UserError: If that is unclear, or contradicts the options or the table.
    """
    kind = _detect(masks, options, table)
    if kind == "color":
        return _by_color(masks, table)
    if kind == "palette":
        return _by_palette(masks, options, table, expected)
    return _by_value(masks, options, table, expected, kind)


def _detect(masks: Sequence[StoredMask], options: MaskOptions, table: ClassTable | None) -> Raster:
    if options.kind not in ("auto", *POLYGONS):
        return options.kind  # type: ignore[return-value]
    of_colors = [mask for mask in masks if mask.colors]
    known = set(map(pack, [*table.colors, *table.ignored_colors])) if table is not None and table.colors else set()
    if any(not mask.is_gray for mask in of_colors):
        return "color"
    if of_colors and len(known) and all(known.issuperset(mask.colors) for mask in of_colors):
        return "color"
    if any(mask.palette and not _is_ramp(mask.palette) for mask in masks):
        return "palette"
    values = _values(masks)
    # 0 and 255 are two classes, unless the table says what 255 is
    named = table is not None and (IGNORED in table.ignored_values or _WHITE in (table.values or ()))
    is_binary = values.keys() <= {0, _WHITE} and _WHITE in values and not named
    return "binary" if is_binary and not options.reduce_zero_label and options.ignore_index == IGNORED else "index"


def _by_color(masks: Sequence[StoredMask], table: ClassTable | None) -> Scheme:
    pixels: Counter[int] = Counter()
    for mask in masks:
        pixels.update(mask.colors or Counter({mask.palette[v]: n for v, n in mask.values.items() if mask.palette}))
    if table is None or table.colors is None:
        found = [str(unpack(color)) for color, _ in pixels.most_common()]
        raise UserError(
            f"The masks in {place_of(masks)} have colors: {enumerate_names(found, _SHOWN)}. {_TABLE.capitalize()}, "
            "with the columns name, r, g and b."
        )
    of_color = {pack(color): index for index, color in enumerate(table.colors)}
    of_color |= dict.fromkeys(map(pack, table.ignored_colors), IGNORED)
    note = f"Masks by color, with {count(len(table.names), 'class', 'classes')} of {table.path}."
    # gray files with one channel among them have the same levels as their colors
    of_value = {color & 255: index for color, index in of_color.items() if color % 0x010101 == 0}
    return Scheme("color", list(table.names), [list(color) for color in table.colors], of_value, of_color, (note,))


def _by_palette(
    masks: Sequence[StoredMask], options: MaskOptions, table: ClassTable | None, expected: int | None
) -> Scheme:
    colors: dict[int, int] = {}
    first: dict[int, str] = {}
    clash = ""
    for mask in masks:
        for value, color in mask.palette.items():
            if colors.setdefault(value, color) != color:
                clash = clash or (
                    f"The value {value} is {unpack(colors[value])} in {first[value]} and {unpack(color)} in {mask.path}"
                )
            first.setdefault(value, mask.path)
    given = table.colors if table is not None else None
    if given is not None and table is not None and table.values is None:
        moved = [value for value, color in colors.items() if _is_moved(value, color, given)]
        if clash or moved:
            void = colors.get(options.ignore_index)
            return _by_palette_colors(masks, table, void, moved, colors)
    if clash:
        raise UserError(
            f"{clash}, so their palettes have different orders; {_TABLE} with their colors (name, r, g, b), so that "
            "the masks are read by color."
        )
    scheme = _by_value(masks, options, table, expected, "palette")
    palette = [list(color) for color in scheme.palette]
    if given is None:
        for value, color in colors.items():
            index = scheme.of_value.get(value, IGNORED)
            if index < len(palette):
                palette[index] = list(unpack(color))
    return Scheme("palette", scheme.names, palette, scheme.of_value, {}, scheme.notes, scheme.is_named)


def _is_moved(value: int, color: int, given: Sequence[Color]) -> bool:
    """Return whether a palette's color is that of another class in the table."""
    places = [place for place, one in enumerate(given) if pack(one) == color]
    return bool(places) and value not in places


def _by_palette_colors(
    masks: Sequence[StoredMask], table: ClassTable, void: int | None, moved: Sequence[int], colors: Mapping[int, int]
) -> Scheme:
    """Read masks with palettes by their colors, since their values have another order than the table."""
    scheme = _by_color(masks, table)
    of_color = scheme.of_color if void is None else {void: IGNORED, **scheme.of_color}
    other = {color: value for mask in masks for value, color in mask.palette.items() if color not in of_color}
    if other:
        color, value = next(iter(other.items()))
        of_moved = f", and {unpack(colors[moved[0]])} is that of the value {moved[0]}" if moved else ""
        raise UserError(
            f"The palette of the masks in {place_of(masks)} has the color {unpack(color)} for the value {value}, which "
            f"is not in {table.path}{of_moved}; correct the table, or leave out its colors to read the masks by value."
        )
    note = "The palettes' order is not the table's, so the masks are read by their colors."
    return replace(scheme, of_color=of_color, notes=(*scheme.notes, note))


def _by_value(
    masks: Sequence[StoredMask],
    options: MaskOptions,
    table: ClassTable | None,
    expected: int | None,
    kind: Raster,
) -> Scheme:
    values = _values(masks)
    number = expected if table is None else len(table.names)
    _check_black_and_white(masks, values, options, number, kind)
    if kind == "binary":
        of_value = {0: 0, 1: 1, IGNORED: IGNORED} if values.keys() <= {0, 1} else {0: 0, _WHITE: 1}
    elif table is not None and table.values is not None:
        of_value = {value: index for index, value in enumerate(table.values)}
        of_value |= dict.fromkeys(table.ignored_values, IGNORED)
    else:
        of_value = _in_order(masks, values, options, number)
    if options.ignore_index not in of_value or options.ignore_index != IGNORED:
        of_value = {**of_value, options.ignore_index: IGNORED}
    total = number or 1 + max(index for index in of_value.values() if index != IGNORED)
    names = table.names if table is not None else _BINARY if kind == "binary" else [str(i) for i in range(total)]
    palette = table.colors if table is not None and table.colors is not None else colormap(total)
    notes = _notes(kind, total, table, options, values, of_value)
    named = table is not None
    return Scheme(kind, list(names), [list(color) for color in palette], of_value, {}, notes, named)


def _in_order(
    masks: Sequence[StoredMask], values: Mapping[int, int], options: MaskOptions, number: int | None
) -> dict[int, int]:
    """Return the class of each value if they are numbered from 0, or from 1 with ``reduce_zero_label``."""
    first = int(options.reduce_zero_label)
    used = [value for value in values if value not in (options.ignore_index, *range(first))]
    if number is None:
        number = max(used, default=first - 1) + 1 - first
        _check_unnamed(masks, used, first, number)
    of_value = {value + first: value for value in range(min(number, UNKNOWN)) if value + first <= 255}
    return of_value | dict.fromkeys(range(first), IGNORED)


def _check_unnamed(masks: Sequence[StoredMask], used: Sequence[int], first: int, number: int) -> None:
    """Refuse values that do not look like indices of classes, if there is no table that says that they are."""
    where = f"The masks in {place_of(masks)}"
    if number < 2:
        only = f"only have the value {used[0]}" if used else "have no labeled pixel"
        raise UserError(f"{where} {only}, and segmentation needs two classes or more; label the others too.")
    missing = [value for value in range(first, first + number) if value not in used]
    found = enumerate_names([str(value) for value in used], _SHOWN)
    if missing or number > _MOST_UNNAMED:
        if missing == [0]:
            raise UserError(
                f"{where} have the values {found}, but not 0; if 1 is the first class, set "
                "--data.masks.reduce_zero_label true, and 0 means no label."
            )
        what = f"but not {enumerate_names(list(map(str, missing)), 3)}" if missing else f"{number} in all"
        raise UserError(
            f"{where} have the values {found}, {what}; if they are classes, {_TABLE} with the columns name and value; "
            "if the masks were resized or compressed with smooth edges, save them again without."
        )


def _check_black_and_white(
    masks: Sequence[StoredMask], values: Mapping[int, int], options: MaskOptions, number: int | None, kind: str
) -> None:
    where = f"The masks in {place_of(masks)}"
    if number is not None and number > UNKNOWN:
        raise UserError(f"{number} classes were given, and a mask of 8 bits has room for {UNKNOWN}.")
    if kind == "binary":
        if number not in (None, 2):
            raise UserError(
                f"{where} only have the values 0 and 255, which is for two classes, but {number} classes are expected; "
                "save each class's index as the value, or name two classes."
            )
        if not (values.keys() <= {0, _WHITE} or values.keys() <= {0, 1}):
            found = enumerate_names([str(value) for value in values], _SHOWN)
            raise UserError(f"{where} have the values {found}, but masks of kind binary have 0 and 255 only.")
    elif number is None and values.keys() <= {0, IGNORED} and not options.reduce_zero_label:
        raise UserError(
            f"{where} only have the value 0, and segmentation needs two classes or more; label the objects."
        )


def _notes(
    kind: Raster,
    total: int,
    table: ClassTable | None,
    options: MaskOptions,
    values: Mapping[int, int],
    of_value: Mapping[int, int],
) -> tuple[str, ...]:
    what = {
        "index": "Masks by value",
        "palette": "Masks with a palette, whose values are the classes",
        "binary": "Masks of 0 and 255 (background and foreground)",
        "color": "",
    }[kind]
    named = "" if table is None else f" of {table.path}"
    notes = [f"{what}, with {count(total, 'class', 'classes')}{named}."]
    if options.reduce_zero_label:
        notes.append("The value 0 means no label, and 1 is the first class (data.masks.reduce_zero_label).")
    ignored = sum(pixels for value, pixels in values.items() if of_value.get(value) == IGNORED)
    if ignored:
        which = enumerate_names([str(value) for value in values if of_value.get(value) == IGNORED], 3)
        share = 100 * ignored / sum(values.values())
        notes.append(f"Pixels of the value {which} are ignored: {share:.1f}%.")
    if kind != "binary" and table is not None and of_value.get(IGNORED, IGNORED) != IGNORED:
        name = table.names[of_value[IGNORED]]
        notes.append(f"The value 255 is the class {name}; if its pixels do not count, name the row ignore.")
    return tuple(notes)


def _values(masks: Sequence[StoredMask]) -> dict[int, int]:
    values: Counter[int] = Counter()
    for mask in masks:
        values.update(mask.gray_values)
    return dict(sorted(values.items()))


def _is_ramp(palette: Mapping[int, int]) -> bool:
    """Return whether a palette only has the gray level of each value, as a gray file saved with a palette does."""
    return all(color == value * 0x010101 for value, color in palette.items())
