"""Write a row per image batch by batch, list images without one, and continue an earlier file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from inceptionnext_lit.console import LineConsole
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.growing import GrowingTable
from inceptionnext_lit.predict.tables import Row, RowFile, identity
from inceptionnext_lit.wording import count

NOT_FINITE = "the model's outputs for it are NaN or infinite"
Batch = TypeVar("Batch")
Table = TypeVar("Table", bound=GrowingTable[Any])


class RowOutput(ABC, Generic[Batch, Table]):
    """Write one row per image.

    Rows are in the file as soon as their batch and the next one are computed. Images that cannot be read, or with NaN
    or infinite outputs, are listed in ``OUTPUT_STEM.unreadable.csv``, with columns ``path`` and ``reason``.

    Args:
        file: The rows.
        resume: Append to the existing file.
        overwrite: Replace the existing file, once the first rows are ready.

    Raises:
        UserError: If the file exists and neither ``resume`` nor ``overwrite`` is set, or both are.
    """

    def __init__(self, file: Table, *, resume: bool, overwrite: bool) -> None:
        self._file = file
        if resume and overwrite:
            raise UserError("--resume keeps the output and --overwrite replaces it; leave out one of them.")
        if (existing := file.existing) is not None and not (resume or overwrite):
            raise UserError(
                f"{existing} already exists; add --resume to continue it, --overwrite to replace it, or give another "
                "--output."
            )
        self._resume = resume
        self._laid_out = False
        name = f"{file.output.stem}.unreadable.csv"
        self._unreadable = RowFile(file.output.with_name(name), ("path", "reason"))
        self._failed = 0
        self._lost = 0
        self._earlier = 0
        self._begun = resume
        self._row: Row | None = None
        self._waiting: tuple[Batch, Sequence[str]] | None = None
        self._out = LineConsole()

    def lay_out(self, class_names: Sequence[str], *, multi_label: bool) -> None:
        """Set the fields of the rows, before the first one; later calls do nothing.

        Args:
            class_names: The valid labels.
            multi_label: Whether an image may have several labels.
        """
        if not self._laid_out:  # the file would start again
            self._laid_out = True
            self._lay_out(class_names, multi_label=multi_label)

    @abstractmethod
    def _lay_out(self, class_names: Sequence[str], *, multi_label: bool) -> None:
        """Set the fields of the rows."""

    @abstractmethod
    def _done(self, class_names: Sequence[str]) -> set[str]:
        """Continue the file of an earlier run, and return the :func:`identity` of each image that has a row."""

    @abstractmethod
    def _compared(self) -> set[str]:
        """Return the :func:`identity` of the images of an earlier run that are compared with this run's."""

    @abstractmethod
    def _compare(self, rows: Sequence[Row]) -> None:
        """Refuse to continue a file that another model has written; raises UserError."""

    @abstractmethod
    def _rows(self, batch: Batch, class_names: Sequence[str]) -> list[Row]:
        """Return one row for each image of a batch that has a prediction."""

    @abstractmethod
    def _paths(self, batch: Batch) -> list[tuple[str, bool]]:
        """Return the path of each image of a batch, and whether the model's outputs for it are finite."""

    @abstractmethod
    def _describe_row(self, row: Row) -> str:
        """Return what is printed for a single image."""

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
        self.lay_out(class_names, multi_label=multi_label)
        if not self._resume:
            return list(paths)
        done = self._done(class_names)
        self._earlier = self._file.count
        listed = {identity(row["path"]) for row in self._unreadable.resume()}
        self._failed = len(listed)
        left = [path for path in paths if (key := identity(path)) not in done and key not in listed]
        if self._earlier or listed:
            there = f"{count(self._earlier, 'prediction')} and {count(len(listed), 'unreadable image')}"
            to_do = f"{len(left)} of {count(len(paths), 'image')}"
            self._out.print(f"Continuing {self._file.output}: it has {there}; {to_do} left to do.")
        again = [path for path in paths if identity(path) in self._compared()] if left else []
        return again + left

    def add(self, batch: Batch, class_names: Sequence[str], unreadable: Sequence[tuple[str, str]] = ()) -> None:
        """Write the previous batch, so that a GPU is busy with this one meanwhile, and list unreadable images.

        Args:
            batch: The predictions of a batch.
            class_names: The valid labels.
            unreadable: The batch's other files and the reasons.

        Raises:
            UserError: If the files cannot be written.
        """
        self._flush()
        self._waiting = batch, class_names
        known = self._compared()
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
            is_single = self._file.count == 1 and not (self._earlier or self._failed or self._lost)
            if is_single and self._row is not None:
                self._out.print(self._describe_row(self._row))
            self._out.print(f"{new} written to {self._file.output}{total}")
            self._describe_end()
        elif failed := self._failed + self._lost:
            outcome = "got a prediction" if self._lost else "could be read"
            raise UserError(f"None of {count(failed, 'image')} {outcome}; {self._unreadable.path} lists the reasons.")
        for number, outcome in ((self._failed, "could not be read"), (self._lost, "got NaN or infinite outputs")):
            if number:
                self._out.print(f"{count(number, 'image')} {outcome}: see {self._unreadable.path}")

    def _reasons(self, batch: Batch) -> Mapping[str, str]:
        """Return why images of a batch have no prediction, by path, if not for outputs that are NaN or infinite."""
        return {}

    def _describe_end(self) -> None:
        """Print more about the predictions once all are written."""

    def _flush(self) -> None:
        if self._waiting is None:
            return
        batch, class_names = self._waiting
        self._waiting = None
        if outcomes := self._paths(batch):
            self._begin()
            rows, known = self._rows(batch, class_names), self._compared()
            self._row = rows[0] if rows else None
            self._compare([row for row in rows if identity(row["path"]) in known])
            self._file.append([row for row in rows if identity(row["path"]) not in known])
            if lost := [path for path, is_finite in outcomes if not is_finite]:
                reasons = self._reasons(batch)
                self._unreadable.append([{"path": path, "reason": reasons.get(path, NOT_FINITE)} for path in lost])
                self._failed += (failed := sum(path in reasons for path in lost))
                self._lost += len(lost) - failed

    def _begin(self) -> None:
        """Without ``resume``, delete the list of an earlier run when there is something new."""
        if not self._begun:
            self._unreadable.path.unlink(missing_ok=True)
            self._begun = True
