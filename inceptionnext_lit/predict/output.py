"""A file of predictions that grows as they are made. This module does not import torch."""

from collections.abc import Sequence
from typing import Literal

from inceptionnext_lit.data.class_words import class_words, joined_words
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.formats import PredictionFile
from inceptionnext_lit.predict.layout import Layout
from inceptionnext_lit.predict.row_output import RowOutput
from inceptionnext_lit.predict.tables import Row, identity
from inceptionnext_lit.predictions import Predictions, all_probabilities, present_labels, top_labels
from inceptionnext_lit.wording import count, printable

_DIGITS = 6
_SAME = 0.01  # tolerance for one model's probabilities in other batches, on another device or in bfloat16


class PredictionOutput(RowOutput[Predictions, PredictionFile]):
    """Write one row per image: ``path``, ``label``, ``probability``, and ``top5``, the best labels with theirs.

    If classes are named by WordNet IDs, such as ImageNet's, rows also have ``words``, those of the label.

    For multi-label models, ``label`` has all labels whose probability reaches their threshold, one half by default,
    joined by ``|``, and ``probability`` is that of the most probable one.

    The probabilities of all classes, if requested, are not rounded: JSON rows have them as an object
    ``probabilities``, with a list ``labels`` for multi-label models, and other formats have a column ``prob_CLASS`` for
    each class. See also :class:`RowOutput`.

    Args:
        output: Target file, ``.csv``, ``.jsonl``, ``.json`` or ``.parquet``; see :class:`PredictionFile`.
        resume: Append to the existing file.
        overwrite: Replace the existing file, once the first rows are ready.
        probabilities: ``all`` to write the probability of every class too.
        unsure_below: If set, rows get a field ``unsure``: whether the best probability is below this.

    Raises:
        UserError: If the file has another suffix or is a folder, it exists and neither ``resume`` nor ``overwrite`` is
            set, or ``unsure_below`` is out of its range.
    """

    def __init__(
        self,
        output: str,
        resume: bool = False,
        overwrite: bool = False,
        probabilities: Literal["top5", "all"] = "top5",
        unsure_below: float | None = None,
    ) -> None:
        file = PredictionFile(output)
        check_unsure(unsure_below)
        super().__init__(file, resume=resume, overwrite=overwrite)
        self._writes_all = probabilities == "all"
        self._unsure_below = unsure_below

    def _lay_out(self, class_names: Sequence[str], *, multi_label: bool) -> None:
        self._file.lay_out(
            Layout(
                tuple(class_names) if self._writes_all else None,
                lists_labels=self._writes_all and multi_label,
                flags_unsure=self._unsure_below is not None,
                has_words=any(map(class_words, class_names)),
            )
        )

    def _done(self, class_names: Sequence[str]) -> set[str]:
        return self._file.resume(class_names, self._unsure_below)

    def _compared(self) -> set[str]:
        return set(self._file.first)

    def _describe_row(self, row: Row) -> str:
        words = f" ({row['words']})" if row["words"] else ""
        label = printable(row["label"]) or "no label"
        return f"{printable(row['path'])}: {label}{words}, probability {row['probability']:.4f}"

    def _describe_end(self) -> None:
        if (limit := self._unsure_below) is not None:
            number, total = self._file.unsure, count(self._file.count, "image")
            verb, whose = ("is", "its") if number == 1 else ("are", "their")
            self._out.print(f"{number:,} of {total} {verb} unsure: {whose} best probability is below {limit}")

    def _paths(self, batch: Predictions) -> list[tuple[str, bool]]:
        return list(zip(batch["paths"], batch["finite"].tolist(), strict=True))

    def _rows(self, batch: Predictions, class_names: Sequence[str]) -> list[Row]:
        """Return one row for each image that has a prediction."""
        names, top = present_labels(batch, class_names), top_labels(batch, class_names)
        every = all_probabilities(batch, class_names) if self._writes_all else None
        rows = []
        for place, (path, is_finite) in enumerate(self._paths(batch)):
            if not is_finite:
                continue
            best = next(iter(top[place].values()))
            top5 = {name: round(value, _DIGITS) for name, value in top[place].items()}
            row: Row = {"path": path, "label": "|".join(names[place])}
            if every is not None and batch["present"] is not None:
                row["labels"] = names[place]
            row |= {"probability": round(best, _DIGITS), "top5": top5}
            if self._unsure_below is not None:
                row["unsure"] = best < self._unsure_below
            row["words"] = joined_words(row["label"]) or ""
            if every is not None:
                row["probabilities"] = every[place]
            rows.append(row)
        return rows

    def _compare(self, rows: Sequence[Row]) -> None:
        for row in rows:
            label, before = self._file.first[identity(row["path"])]
            now = row["top5"].get(label, 0.0)
            if abs(now - before) > _SAME:
                raise UserError(
                    f"{self._file.output} was started with another checkpoint or other settings: {row['path']} is "
                    f"{label!r} at {before:.4f} there, and at {now:.4f} now. Continue with the checkpoint that it was "
                    "started with, or give another --output."
                )


def check_unsure(unsure_below: float | None) -> None:
    """Refuse a limit that is not a probability.

    Args:
        unsure_below: The value of ``--unsure_below``.

    Raises:
        UserError: If it is out of range.
    """
    if unsure_below is not None and not 0 < unsure_below <= 1:
        raise UserError(f"--unsure_below is {unsure_below}; it must be a probability greater than 0, at most 1.")
