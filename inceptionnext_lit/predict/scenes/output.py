"""Masks, overlays and a table of predictions that grow as they are made. This module does not import torch."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.growing import GrowingTable
from inceptionnext_lit.predict.output import check_unsure
from inceptionnext_lit.predict.row_output import RowOutput
from inceptionnext_lit.predict.scenes.coco import write_coco
from inceptionnext_lit.predict.scenes.layout import SceneLayout
from inceptionnext_lit.predict.scenes.names import MaskNames
from inceptionnext_lit.predict.scenes.pictures import MASKS, OVERLAYS, Load, Pictures
from inceptionnext_lit.predict.tables import Row, identity
from inceptionnext_lit.predictions import MaskPredictions
from inceptionnext_lit.wording import count, printable

_DIGITS = 6
_SAME = 0.01  # tolerance for one model's shares in other batches, on another device or in bfloat16
_COMPARED = 4  # rows that are compared to check that a file comes from the same checkpoint


class SceneOutput(RowOutput[MaskPredictions, GrowingTable[SceneLayout]]):
    """Write the mask of each image, and one row: ``path``, ``mask``, ``confidence`` and the classes' shares.

    The masks of ``OUTPUT_STEM.csv`` are in the folder ``OUTPUT_STEM/masks``: PNG files of the images' sizes with a
    palette, whose values are class indices. Overlays are in ``OUTPUT_STEM/overlays``. ``mask`` is relative to the
    folder of the table. ``confidence`` is the mean probability of the predicted classes. JSON rows have the shares of
    the pixels as an object ``areas``, and other formats have a column ``area_CLASS`` for each class.

    Args:
        output: Target file, ``.csv``, ``.jsonl``, ``.json`` or ``.parquet``; see :class:`GrowingTable`.
        resume: Append to the existing file.
        overwrite: Replace the existing file, once the first rows are ready.
        unsure_below: If set, rows get a field ``unsure``: whether the confidence is below this.
        overlays: Whether to write overlays.
        polygons: Whether to write polygons as well, to ``OUTPUT_STEM/polygons.json`` or the given file.

    Raises:
        UserError: If the file has another suffix or is a folder, it exists and neither ``resume`` nor ``overwrite`` is
            set, or ``unsure_below`` is out of its range.
    """

    def __init__(
        self,
        output: str,
        resume: bool = False,
        overwrite: bool = False,
        unsure_below: float | None = None,
        overlays: bool = True,
        polygons: bool | str = False,
    ) -> None:
        file = GrowingTable(output, SceneLayout())
        check_unsure(unsure_below)
        super().__init__(file, resume=resume, overwrite=overwrite)
        self._table = file.output
        self._folder = file.output.with_suffix("")
        self._pictures = Pictures(self._folder, has_overlays=overlays)
        if self._pictures.exist and not (resume or overwrite):
            raise UserError(
                f"{self._folder} already has masks; add --resume to continue them, --overwrite to replace them, or "
                "give another --output."
            )
        self._pictures.check()
        self._unsure_below = unsure_below
        self._unsure = 0
        self._polygons = self._polygon_file(polygons)
        self._first: dict[str, dict[str, float]] = {}
        self._taken: list[str] = []
        self._names: MaskNames | None = None

    def set_look(self, load: Load, palette: Sequence[Sequence[int]]) -> None:
        """Set how overlays and palettes are made, before the first image.

        Args:
            load: Reads an image.
            palette: Color of each class.
        """
        self._load, self._palette = load, palette

    def _lay_out(self, class_names: Sequence[str], *, multi_label: bool) -> None:
        self._classes = tuple(class_names)
        self._file.lay_out(SceneLayout(self._classes, flags_unsure=self._unsure_below is not None))

    def remaining(self, paths: Sequence[str], class_names: Sequence[str], *, multi_label: bool = False) -> list[str]:
        """Return the images left to do, and name their masks; see :meth:`RowOutput.remaining`."""
        left = super().remaining(self._without_own(paths), class_names)
        self.name_masks([path for path in left if identity(path) not in self._first])
        return left

    def _without_own(self, paths: Sequence[str]) -> list[str]:
        """Leave out the masks and overlays of an earlier run, and refuse to write more of them among the images."""
        folder = str(self._folder.resolve()) + os.sep
        inside = {path for path in paths if os.path.realpath(path).startswith(folder)}
        own = {
            path for path in inside if os.path.realpath(path).startswith((f"{folder}{MASKS}", f"{folder}{OVERLAYS}"))
        }
        if inside - own:
            raise UserError(
                f"--output {self._table} would write its masks among the images, into {self._folder / MASKS}; give "
                "another --output."
            )
        if own:
            self._out.print(f"Ignored:    {count(len(own), 'mask or overlay', 'masks and overlays')} in {self._folder}")
        return [path for path in paths if path not in own]

    @property
    def has_names(self) -> bool:
        """Whether the masks were named."""
        return self._names is not None

    def name_masks(self, paths: Sequence[str]) -> None:
        """Name the masks of all images after them, before the first one.

        Args:
            paths: The images.
        """
        self._names = MaskNames(paths, self._taken)

    def finish(self) -> None:
        """Write the remaining rows and the polygons, and print where they are.

        Raises:
            UserError: If no image could be read, or a file cannot be written.
        """
        super().finish()
        if self._polygons is not None and self._file.count:
            masks = ((row["path"], self._table.parent / row["mask"]) for row in self._file.rows())
            number = write_coco(self._polygons, masks, self._classes)
            self._out.print(f"{count(number, 'polygon')} written to {self._polygons}")

    def _polygon_file(self, polygons: bool | str) -> Path | None:
        if polygons is False:
            return None
        if importlib.util.find_spec("contourpy") is None:
            raise UserError("--polygons needs contourpy; install it with pip install 'inceptionnext-lit[polygons]'.")
        file = self._folder / "polygons.json" if polygons is True else Path(polygons).expanduser()
        if file.suffix.lower() != ".json":
            raise UserError(f"--polygons is {polygons}; it must end in .json.")
        if file.is_dir() or file == self._table:
            raise UserError(f"--polygons is {polygons}, which is {'a folder' if file.is_dir() else 'the --output'}.")
        return file

    def _done(self, class_names: Sequence[str]) -> set[str]:
        done: set[str] = set()
        for row in self._file.stored():
            if self._file.is_json:
                self._file.layout.check_classes(list(row["areas"]), str(self._table))
            if not (mask := self._table.parent / row["mask"]).is_file():
                raise UserError(
                    f"{self._table} has a row for {printable(row['path'])}, but its mask {mask} is missing; put it "
                    "back, or start again with --overwrite."
                )
            self._unsure += str(row.get("unsure")).casefold() == "true"
            done.add(identity(row["path"]))
            self._taken.append(str(Path(row["mask"]).relative_to(Path(self._folder.name, MASKS)).as_posix()))
            if len(self._first) < _COMPARED:
                self._first[identity(row["path"])] = row["areas"]
        return done

    def _compared(self) -> set[str]:
        return set(self._first)

    def _describe_row(self, row: Row) -> str:
        largest = sorted(row["areas"].items(), key=lambda item: -item[1])[:5]
        shares = ", ".join(f"{printable(name)} {100 * share:.1f}%" for name, share in largest if share)
        return f"{printable(row['path'])}: {shares}, confidence {row['confidence']:.4f}"

    def _describe_end(self) -> None:
        self._out.print(f"Masks:      {self._folder / MASKS}")
        if (limit := self._unsure_below) is not None:
            number, total = self._unsure, count(self._file.count, "image")
            verb, whose = ("is", "its") if number == 1 else ("are", "their")
            self._out.print(f"{number:,} of {total} {verb} unsure: {whose} confidence is below {limit}")

    def _paths(self, batch: MaskPredictions) -> list[tuple[str, bool]]:
        finite = np.isfinite(batch.confidences).tolist()
        return list(zip(batch.paths, finite, strict=True))

    def _reasons(self, batch: MaskPredictions) -> Mapping[str, str]:
        return batch.reasons

    def _rows(self, batch: MaskPredictions, class_names: Sequence[str]) -> list[Row]:
        """Write the pictures of a batch, and return its rows."""
        rows = []
        for (path, is_finite), mask, confidence in zip(self._paths(batch), batch.masks, batch.confidences, strict=True):
            if not is_finite:
                continue
            counts = np.bincount(mask.ravel(), minlength=len(class_names)) / mask.size
            row: dict[str, Any] = {"path": path, "mask": "", "confidence": round(confidence, _DIGITS)}
            if self._unsure_below is not None:
                row["unsure"] = confidence < self._unsure_below
            row["areas"] = {
                name: round(share, _DIGITS) for name, share in zip(class_names, counts.tolist(), strict=True)
            }
            if identity(path) not in self._first:
                assert self._names is not None  # set before the first batch
                name = self._names[path]
                row["mask"] = f"{self._folder.name}/{MASKS}/{name}"
                self._unsure += row.get("unsure", False)
                self._pictures.write(name, path, mask, self._load, self._palette, class_names)
            rows.append(row)
        self._pictures.wait()
        return rows

    def _compare(self, rows: Sequence[Row]) -> None:
        for row in rows:
            before = self._first[identity(row["path"])]
            for name, now in row["areas"].items():
                if abs(now - before[name]) > _SAME:
                    raise UserError(
                        f"{self._table} was started with another checkpoint or other settings: {row['path']} has "
                        f"{100 * before[name]:.1f}% {name} there, and {100 * now:.1f}% now. Continue with the "
                        "checkpoint that it was started with, or give another --output."
                    )

    def _begin(self) -> None:
        """Without ``resume``, delete what an earlier run has left when there is something new."""
        if not self._begun:
            self._pictures.clear()
        super()._begin()
