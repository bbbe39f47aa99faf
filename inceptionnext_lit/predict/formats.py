"""A file with the labels of images."""

from collections.abc import Sequence
from dataclasses import replace

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.growing import GrowingTable
from inceptionnext_lit.predict.layout import Layout
from inceptionnext_lit.predict.tables import Row, identity

_COMPARED = 4  # rows that are compared to check that a file comes from the same checkpoint
_ROUNDING = 1e-6  # of stored probabilities


class PredictionFile(GrowingTable[Layout]):
    """A file with rows of predictions, in any format; see :class:`GrowingTable`.

    Attributes:
        unsure: Number of rows that are marked as unsure.
        first: For a resumed file, the best label of the first images and its probability, by their :func:`identity`.

    Args:
        output: The file.

    Raises:
        UserError: If the file has another suffix or is a folder, or Parquet is not available.
    """

    def __init__(self, output: str) -> None:
        self.unsure = 0
        self.first: dict[str, tuple[str, float]] = {}
        super().__init__(output, Layout())

    def lay_out(self, layout: Layout) -> None:
        """Set which fields the rows have, before the first one is read or written; only JSON has lists of labels."""
        super().lay_out(layout if self.is_json else replace(layout, lists_labels=False))

    def resume(self, class_names: Sequence[str], unsure_below: float | None = None) -> set[str]:
        """Continue the file of an earlier run.

        Args:
            class_names: The valid labels.
            unsure_below: The probability below which rows are marked as unsure.

        Returns:
            The :func:`identity` of each image that has a row.

        Raises:
            UserError: If the file does not contain predictions, or was written with other classes or options.
        """
        done: set[str] = set()
        known = set(class_names)
        for row in self.stored():
            if unknown := [name for name in row["top5"] if name not in known]:
                raise UserError(
                    f"{self.output} has the label {unknown[0]!r}, which this checkpoint does not know; continue with "
                    "the checkpoint that it was started with, or give another --output."
                )
            if self.is_json and "probabilities" in row:
                self.layout.check_classes(list(row["probabilities"]), str(self.output))
            if unsure_below is not None:
                self._count_unsure(row, unsure_below)
            done.add(identity(row["path"]))
            if len(self.first) < _COMPARED:
                self.first[identity(row["path"])] = next(iter(row["top5"].items()))
        self.count = len(done)
        return done

    def _count_unsure(self, row: Row, limit: float) -> None:
        """Count a row that is marked as unsure, and refuse one that was marked by another limit."""
        unsure, probability = row["unsure"] in (True, "true"), float(row["probability"])
        if (probability - limit if unsure else limit - probability) > _ROUNDING:
            raise UserError(
                f"{self.output} was started with another --unsure_below: {row['path']} has the probability "
                f"{probability:g} there and is {'' if unsure else 'not '}unsure; give the same value, or another "
                "--output."
            )
        self.unsure += unsure

    def append(self, rows: Sequence[Row]) -> None:
        """Write a batch's rows; raises as :meth:`RowFile.append`."""
        super().append(rows)
        self.unsure += sum(row.get("unsure", False) for row in rows)
