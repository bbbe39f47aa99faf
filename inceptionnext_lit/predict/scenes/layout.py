"""The fields of a row about an image's predicted mask, and how they become the columns of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.growing import Kind
from inceptionnext_lit.predict.tables import Row, identity

AREA_PREFIX = "area_"
"""Of the columns with a class's share of the pixels."""


@dataclass(frozen=True)
class SceneLayout:
    """Which fields a row about a mask has.

    Attributes:
        required: Fields that every such table has.
        classes: The class names in index order.
        flags_unsure: Whether rows have ``unsure``, a boolean.
    """

    required: ClassVar[tuple[str, ...]] = ("path", "mask", "confidence")

    classes: tuple[str, ...] = ()
    flags_unsure: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of a row's fields, which are the keys of a JSON object."""
        return (*self._plain, "areas")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in CSV and Parquet, where the share of every class has its own."""
        return (*self._plain, *self._area_columns)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Type of the columns in Parquet."""
        shares: dict[str, Kind] = dict.fromkeys(self._area_columns, float)
        unsure: dict[str, Kind] = {"unsure": bool} if self.flags_unsure else {}
        return {"path": str, "mask": str, "confidence": float, **unsure, **shares}

    @property
    def _plain(self) -> tuple[str, ...]:
        return (*self.required, *(("unsure",) if self.flags_unsure else ()))

    @property
    def _area_columns(self) -> tuple[str, ...]:
        return tuple(f"{AREA_PREFIX}{name}" for name in self.classes)

    def cells(self, row: Row) -> Row:
        """Return a row's values by column."""
        shares = row["areas"]
        return {name: row[name] for name in self._plain} | {
            column: shares[name] for column, name in zip(self._area_columns, self.classes, strict=True)
        }

    def row(self, cells: Row) -> Row:
        """Return the row of a table's cells; the inverse of :meth:`cells`, also if they are text."""
        row: Row = {name: cells[name] for name in self._plain}
        shares = zip(self._area_columns, self.classes, strict=True)
        return row | {
            "confidence": float(row["confidence"]),
            "areas": {name: float(cells[column]) for column, name in shares},
        }

    def of_file(self, found: Sequence[str]) -> "SceneLayout":
        """Return this layout."""
        return self

    def check(self, found: Sequence[str], file: str) -> None:
        """Refuse to continue a file whose rows have other fields, or columns.

        Args:
            found: Names of its fields or columns.
            file: Its name.

        Raises:
            UserError: If it was written with other options or other classes.
        """
        if (was := "unsure" in found) != self.flags_unsure:
            raise UserError(
                f"{file} was started {'with' if was else 'without'} --unsure_below; continue it the same way, or give "
                "another --output."
            )
        stored = [name.removeprefix(AREA_PREFIX) for name in found if name.startswith(AREA_PREFIX)]
        if "areas" not in found:  # JSON has the classes in each row
            self.check_classes(stored, file)

    def check_classes(self, stored: Sequence[str], file: str) -> None:
        """Refuse to continue a file with the shares of other classes.

        Args:
            stored: The classes whose shares it has, in order.
            file: Its name.

        Raises:
            UserError: If they are not this model's.
        """
        if list(map(identity, stored)) != list(map(identity, self.classes)):
            raise UserError(
                f"{file} has the areas of other classes than this checkpoint's; continue with the checkpoint that it "
                "was started with, or give another --output."
            )
