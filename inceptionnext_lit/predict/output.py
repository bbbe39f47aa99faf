"""A file of predictions that grows as they are made. This module does not import torch."""

from collections.abc import Sequence
from typing import Literal

from inceptionnext_lit.console import LineConsole
from inceptionnext_lit.data.class_words import class_words, joined_words
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.formats import PredictionFile
from inceptionnext_lit.predict.layout import Layout
from inceptionnext_lit.predict.tables import Row, RowFile, identity
from inceptionnext_lit.predictions import Predictions, all_probabilities, present_labels, top_labels
from inceptionnext_lit.wording import count, printable

_DIGITS = 6
_SAME = 0.01  # tolerance for one model's probabilities in other batches, on another device or in bfloat16
NOT_FINITE = "the model's outputs for it are NaN or infinite"


class PredictionOutput:
    """Write one row per image: ``path``, ``label``, ``probability``, and ``top5``, the best labels with theirs.

    If classes are named by WordNet IDs, such as ImageNet's, rows also have ``words``, those of the label.

    For multi-label models, ``label`` has all labels whose probability reaches their threshold, one half by default,
    joined by ``|``, and ``probability`` is that of the most probable one.

    The probabilities of all classes, if requested, are not rounded: JSON rows have them as an object
    ``probabilities``, with a list ``labels`` for multi-label models, and other formats have a column ``prob_CLASS`` for
    each class.

    Rows are in the file as soon as their batch and the next one are computed. Images that cannot be read, or with NaN
    or infinite outputs, are listed in ``OUTPUT_STEM.unreadable.csv``, with columns ``path`` and ``reason``.

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
        self._file = PredictionFile(output)
        if unsure_below is not None and not 0 < unsure_below <= 1:
            raise UserError(f"--unsure_below is {unsure_below}; it must be a probability greater than 0, at most 1.")
        if resume and overwrite:
            raise UserError("--resume keeps the output and --overwrite replaces it; leave out one of them.")
        if (existing := self._file.existing) is not None and not (resume or overwrite):
            raise UserError(
                f"{existing} already exists; add --resume to continue it, --overwrite to replace it, or give another "
                "--output."
            )
        self._resume = resume
        self._writes_all = probabilities == "all"
        self._unsure_below = unsure_below
        self._laid_out = False
        name = f"{self._file.output.stem}.unreadable.csv"
        self._unreadable = RowFile(self._file.output.with_name(name), ("path", "reason"))
        self._failed = 0
        self._lost = 0
        self._earlier = 0
        self._begun = resume
        self._row: Row | None = None
        self._waiting: tuple[Predictions, Sequence[str]] | None = None
        self._out = LineConsole()

    def remaining(self, paths: Sequence[str], class_names: Sequence[str], *, multi_label: bool = False) -> list[str]:
        """Return the images left to do; with ``resume``, those already written or listed are left out.

        The first few written ones are included again, to check that the model is the same.

        Args:
            paths: The images.
            class_names: The valid labels.
            multi_label: Whether an image may have several labels.

        Raises:
            UserError: If the existing files cannot be continued.
        """
        self._lay_out(class_names, multi_label=multi_label)
        if not self._resume:
            return list(paths)
        done = self._file.resume(class_names, self._unsure_below)
        self._earlier = self._file.count
        listed = {identity(row["path"]) for row in self._unreadable.resume()}
        self._failed = len(listed)
        left = [path for path in paths if (key := identity(path)) not in done and key not in listed]
        if self._earlier or listed:
            there = f"{count(self._earlier, 'prediction')} and {count(len(listed), 'unreadable image')}"
            to_do = f"{len(left)} of {count(len(paths), 'image')}"
            self._out.print(f"Continuing {self._file.output}: it has {there}; {to_do} left to do.")
        again = [path for path in paths if identity(path) in self._file.first] if left else []
        return again + left

    def lay_out(self, class_names: Sequence[str], *, multi_label: bool) -> None:
        """Set the fields of the rows, before the first one.

        Args:
            class_names: The valid labels.
            multi_label: Whether an image may have several labels.
        """
        if not self._laid_out:
            self._lay_out(class_names, multi_label=multi_label)

    def add(
        self, predictions: Predictions, class_names: Sequence[str], unreadable: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Write the previous batch, so that a GPU is busy with this one meanwhile, and list unreadable images.

        Args:
            predictions: Those of a batch.
            class_names: The valid labels.
            unreadable: The batch's other files and the reasons.

        Raises:
            UserError: If the files cannot be written.
        """
        self._flush()
        self._waiting = predictions, class_names
        known = self._file.first
        failed = [(path, reason) for path, reason in unreadable if identity(path) not in known]
        if failed:
            self._begin()
            self._unreadable.append([{"path": path, "reason": reason} for path, reason in failed])
            self._failed += len(failed)

    def stop(self) -> None:
        """Keep what is written when the run is stopped, and say how to continue."""
        self._flush()
        self._file.close()
        kept = count(self._file.count, "prediction")
        self._out.print(f"Stopped; {kept} written. The same command with --resume continues.")

    def _lay_out(self, class_names: Sequence[str], *, multi_label: bool) -> None:
        self._laid_out = True
        self._file.lay_out(
            Layout(
                tuple(class_names) if self._writes_all else None,
                lists_labels=self._writes_all and multi_label,
                flags_unsure=self._unsure_below is not None,
                has_words=any(map(class_words, class_names)),
            )
        )

    def finish(self) -> None:
        """Write the remaining rows, and print where they are.

        Raises:
            UserError: If no image could be read, or the file cannot be written.
        """
        self._flush()
        self._unreadable.close()
        self._file.finish()
        if self._file.count:
            total = f" ({self._file.count:,} in all)" if self._earlier else ""
            new = count(self._file.count - self._earlier, "prediction")
            self._describe_one()
            self._out.print(f"{new} written to {self._file.output}{total}")
            self._describe_unsure()
        elif failed := self._failed + self._lost:
            outcome = "got a prediction" if self._lost else "could be read"
            raise UserError(f"None of {count(failed, 'image')} {outcome}; {self._unreadable.path} lists the reasons.")
        for number, outcome in ((self._failed, "could not be read"), (self._lost, "got NaN or infinite outputs")):
            if number:
                self._out.print(f"{count(number, 'image')} {outcome}: see {self._unreadable.path}")

    def _describe_one(self) -> None:
        """Print the prediction for a single image."""
        if (
            (row := self._row) is not None
            and self._file.count == 1
            and not (self._earlier or self._failed or self._lost)
        ):
            words = f" ({row['words']})" if row["words"] else ""
            label = printable(row["label"]) or "no label"
            self._out.print(f"{printable(row['path'])}: {label}{words}, probability {row['probability']:.4f}")

    def _describe_unsure(self) -> None:
        if (limit := self._unsure_below) is not None:
            number, total = self._file.unsure, count(self._file.count, "image")
            verb, whose = ("is", "its") if number == 1 else ("are", "their")
            self._out.print(f"{number:,} of {total} {verb} unsure: {whose} best probability is below {limit}")

    def _flush(self) -> None:
        if self._waiting is None:
            return
        predictions, class_names = self._waiting
        self._waiting = None
        if predictions["paths"]:
            self._begin()
            rows, known = self._rows(predictions, class_names), self._file.first
            self._row = rows[0] if rows else None
            self._compare([row for row in rows if identity(row["path"]) in known])
            self._file.append([row for row in rows if identity(row["path"]) not in known])
            finite = predictions["finite"].tolist()
            lost = [path for path, is_finite in zip(predictions["paths"], finite, strict=True) if not is_finite]
            if lost:
                self._unreadable.append([{"path": path, "reason": NOT_FINITE} for path in lost])
                self._lost += len(lost)

    def _rows(self, predictions: Predictions, class_names: Sequence[str]) -> list[Row]:
        """Return one row for each image that has a prediction."""
        names, top = present_labels(predictions, class_names), top_labels(predictions, class_names)
        every = all_probabilities(predictions, class_names) if self._writes_all else None
        rows = []
        for place, (path, is_finite) in enumerate(
            zip(predictions["paths"], predictions["finite"].tolist(), strict=True)
        ):
            if not is_finite:
                continue
            best = next(iter(top[place].values()))
            top5 = {name: round(value, _DIGITS) for name, value in top[place].items()}
            row: Row = {"path": path, "label": "|".join(names[place])}
            if every is not None and predictions["present"] is not None:
                row["labels"] = names[place]
            row |= {"probability": round(best, _DIGITS), "top5": top5}
            if self._unsure_below is not None:
                row["unsure"] = best < self._unsure_below
            row["words"] = joined_words(row["label"]) or ""
            if every is not None:
                row["probabilities"] = every[place]
            rows.append(row)
        return rows

    def _compare(self, rows: list[Row]) -> None:
        """Refuse to continue a file that another model has written."""
        for row in rows:
            label, before = self._file.first[identity(row["path"])]
            now = row["top5"].get(label, 0.0)
            if abs(now - before) > _SAME:
                raise UserError(
                    f"{self._file.output} was started with another checkpoint or other settings: {row['path']} is "
                    f"{label!r} at {before:.4f} there, and at {now:.4f} now. Continue with the checkpoint that it was "
                    "started with, or give another --output."
                )

    def _begin(self) -> None:
        """Without ``resume``, delete the list of an earlier run when there is something new."""
        if not self._begun:
            self._unreadable.path.unlink(missing_ok=True)
            self._begun = True
