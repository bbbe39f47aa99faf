"""The fields of a row of predictions, and how they become the columns of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from inceptionnext_lit.data_spec import PROBABILITY_PREFIX
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.growing import Kind
from inceptionnext_lit.predict.tables import Row, identity

_ALL, _UNSURE = "--probabilities all", "--unsure_below"


@dataclass(frozen=True)
class Layout:
    """Which fields a row of predictions has.

    Attributes:
        required: Fields that every such table has.
        classes: The class names in index order if rows have ``probabilities``, a number for every class; else None.
        lists_labels: Whether rows have ``labels``, a list.
        flags_unsure: Whether rows have ``unsure``, a boolean.
        has_words: Whether rows have ``words``, those of the label.
    """

    required: ClassVar[tuple[str, ...]] = ("path", "label", "probability", "top5")

    classes: tuple[str, ...] | None = None
    lists_labels: bool = False
    flags_unsure: bool = False
    has_words: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of a row's fields, which are the keys of a JSON object."""
        labels = ("labels",) if self.lists_labels else ()
        unsure = ("unsure",) if self.flags_unsure else ()
        probabilities = () if self.classes is None else ("probabilities",)
        words = ("words",) if self.has_words else ()
        return ("path", "label", *labels, "probability", "top5", *unsure, *words, *probabilities)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in CSV and Parquet, where every probability has its own."""
        probabilities = [f"{PROBABILITY_PREFIX}{name}" for name in self.classes or ()]
        return (*(name for name in self.fields if name not in ("labels", "probabilities")), *probabilities)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Type of the columns in Parquet; probabilities are float32."""
        known: dict[str, Kind] = {"path": str, "label": str, "probability": float, "top5": dict, "words": str}
        known["unsure"] = bool
        return {name: kind for name, kind in known.items() if name in self.fields}

    def cells(self, row: Row) -> Row:
        """Return a row's values by column."""
        plain = {name: row[name] for name in self.fields if name not in ("labels", "probabilities")}
        return plain | {f"{PROBABILITY_PREFIX}{name}": row["probabilities"][name] for name in self.classes or ()}

    def row(self, cells: Row) -> Row:
        """Return the row of a table's cells; the inverse of :meth:`cells`."""
        row: dict[str, Any] = {name: cells[name] for name in self.fields if name != "probabilities"}
        if self.classes is not None:
            row["probabilities"] = {name: cells[f"{PROBABILITY_PREFIX}{name}"] for name in self.classes}
        return row

    def of_file(self, found: Sequence[str]) -> "Layout":
        """Return the layout for continuing a file, which may be of a version that did not write ``words``.

        Args:
            found: Names of its fields or columns; empty if it has no row.
        """
        return replace(self, has_words=False) if found and "words" not in found else self

    def check(self, found: Sequence[str], file: str) -> None:
        """Refuse to continue a file whose rows have other fields, or columns.

        Args:
            found: Names of its fields or columns.
            file: Its name.

        Raises:
            UserError: If it was written with other options or other classes.
        """
        stored = [name.removeprefix(PROBABILITY_PREFIX) for name in found if name.startswith(PROBABILITY_PREFIX)]
        for option, was, now in (
            (_ALL, bool(stored) or "probabilities" in found, self.classes is not None),
            (_UNSURE, "unsure" in found, self.flags_unsure),
        ):
            if was != now:
                raise UserError(
                    f"{file} was started {'with' if was else 'without'} {option}; continue it the same way, or give "
                    "another --output."
                )
        if stored:
            self.check_classes(stored, file)

    def check_classes(self, stored: Sequence[str], file: str) -> None:
        """Refuse to continue a file with the probabilities of other classes.

        Args:
            stored: The classes whose probabilities it has, in order.
            file: Its name.

        Raises:
            UserError: If they are not this model's.
        """
        if list(map(identity, stored)) != list(map(identity, self.classes or ())):
            raise UserError(
                f"{file} has the probabilities of other classes than this checkpoint's; continue with the checkpoint "
                "that it was started with, or give another --output."
            )
