"""The unfinished part of a prepared folder, which has its final names only when it is complete and checked."""

import json
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.record import DatasetRecord, write_record
from inceptionnext_lit.prepare.workspace import MISSING, MOVED, UNFINISHED
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.wording import printable

_PLAN, _DONE, _WRITTEN, _CHECKED = "plan.json", "done.txt", "written", "checked"
_SPLITS = ("val", "train")  # without train/ the folder is not a data set


class Staging:
    """The hidden folder inside the output folder where images are put first.

    Args:
        output: The output folder.
        plan: What is prepared and how; a later run must have the same plan.

    Attributes:
        folder: Where ``train/`` and ``val/`` are written.
        done: The parts that are written.

    Raises:
        UserError: If an earlier run had another plan.
    """

    def __init__(self, output: Path, plan: Mapping[str, str]) -> None:
        self._output = output
        self.folder = output / UNFINISHED
        self._plan = plan
        self._check_plan()
        self._mutex = threading.Lock()
        done = self.folder / _DONE
        self.done = set(done.read_text(encoding="utf-8").splitlines()) if done.is_file() else set()

    @property
    def is_checked(self) -> bool:
        """Whether an earlier run was killed after the check."""
        return (self.folder / _CHECKED).is_file()

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run has put images here."""
        return self.is_checked or any((self.folder / split).is_dir() for split in _SPLITS)

    @property
    def is_written(self) -> bool:
        """Whether an earlier run has written all parts."""
        return (self.folder / _WRITTEN).is_file()

    @property
    def has_moved(self) -> bool:
        """Whether images were moved here."""
        return self._plan["mode"] == "move" and self.is_begun

    def begin(self) -> None:
        """Note the plan, before the first image."""
        with replacing(self.folder / _PLAN) as partial:
            partial.write_text(json.dumps(self._plan), encoding="utf-8")
        if self._plan["mode"] == "move":
            (self._output / MOVED).touch()

    def finish(self, part: str) -> None:
        """Note that a part is written."""
        with self._mutex, (self.folder / _DONE).open("a", encoding="utf-8") as file:
            file.write(f"{part}\n")
        self.done.add(part)

    def mark_written(self) -> None:
        """Note that all parts are written, before they are checked."""
        (self.folder / _WRITTEN).touch()

    def forget(self) -> None:
        """Examine all parts again in the next run, and keep what is written."""
        (self.folder / _DONE).unlink(missing_ok=True)

    def list_missing(self, names: list[str]) -> Path:
        """Write what is missing to a file, one name per line, and return the file."""
        file = self._output / MISSING
        with replacing(file) as partial:
            partial.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        return file

    def unlist_missing(self) -> None:
        """Remove the file of an earlier run that lists what is missing."""
        (self._output / MISSING).unlink(missing_ok=True)

    def publish(self, record: DatasetRecord) -> None:
        """Give the images their final names, and write the record; a killed run continues here."""
        (self.folder / _CHECKED).touch()
        self.unlist_missing()
        for entry in sorted(self.folder.iterdir()):
            if entry.suffix == ".csv":
                os.replace(entry, self._output / entry.name)
        for split in _SPLITS:
            if (self.folder / split).is_dir():
                os.rename(self.folder / split, self._output / split)
        write_record(self._output, record)
        shutil.rmtree(self.folder)

    def _check_plan(self) -> None:
        if not self.is_begun:
            return
        try:
            earlier = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return
        for key, value in self._plan.items():
            if (before := earlier.get(key)) != value:
                raise UserError(
                    f"{self._output} was begun {_option(key, before)}, and not {_option(key, value)}; give the same "
                    "command again, or begin again with --overwrite."
                )


def _option(key: str, value: str | None) -> str:
    return f"with --{key} {printable(value)}" if value else f"without --{key}"
