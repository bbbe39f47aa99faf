"""Fill the cells of a transfer table, each once, and write the tables after every one."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import timm
import torch

from inceptionnext_lit import __version__
from inceptionnext_lit.cli.transfer.finetune import FitOptions, finetune
from inceptionnext_lit.cli.transfer.models import TransferModel
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.sources.sample_table import Indices
from inceptionnext_lit.data.transforms.pipeline import reader
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.reports.transfer.cells import Cell, Protocol, Result, ResultFiles, short_hash
from inceptionnext_lit.reports.transfer.dataset import TransferData
from inceptionnext_lit.reports.transfer.figure import draw_bars
from inceptionnext_lit.reports.transfer.probing import Probe, ProbeOptions, describe_lost
from inceptionnext_lit.reports.transfer.table import csv_text, markdown, percent, record
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.wording import printable

_VERSION = 1  # of the protocols; results of another one are not used
_THREADS = 8


@dataclass
class Transfer:
    """A transfer table in a folder.

    Attributes:
        folder: Where results and tables are kept.
        models: The models, in the order of the rows.
        data: The data sets, in the order of the columns.
        protocols: The protocols, in the order of the tables.
        seeds: Number of seeds.
        probing: How features are computed, and classifiers are fitted to them.
        fits: How models are fine-tuned.
        command: The command line, for the record.
    """

    folder: Path
    models: Sequence[TransferModel]
    data: Sequence[TransferData]
    protocols: Sequence[Protocol]
    seeds: int
    probing: ProbeOptions
    fits: FitOptions
    command: str
    cells: dict[tuple[str, str, Protocol], Cell] = field(default_factory=dict, init=False)

    def run(self) -> int:
        """Fill all cells.

        Returns:
            The exit code: 1 if cells failed.

        Raises:
            Stopped: If a signal has stopped a training run.
        """
        self._results = ResultFiles(self.folder)
        for protocol in self.protocols:
            for model in self.models:
                for data in self.data:
                    self.cells[model.title, data.title, protocol] = Cell(model.title, data.title, protocol, data.metric)
        done = 0
        for model in self.models:
            opened = _Opened(model)
            for data in self.data:
                opened.probe = None
                for protocol in self.protocols:
                    start = time.perf_counter()
                    done += 1
                    cell, is_new = self._fill(opened, data, protocol)
                    self.cells[model.title, data.title, protocol] = cell
                    self.write_tables()
                    after = f"{time.perf_counter() - start:.1f} s" if is_new else "kept from before"
                    shown = f"failed: {cell.failure}" if cell.failure else f"{cell.metric} {percent(cell)} ({after})"
                    self._say(f"[{done}/{len(self.cells)}] {model.title} on {data.title}, {protocol}: {shown}")
        for suffix in (".png", ".svg"):
            draw_bars(list(self.cells.values()), self.folder / f"table{suffix}")
        return int(any(cell.failure for cell in self.cells.values()))

    def write_tables(self) -> None:
        """Write the tables with the cells that are known."""
        cells = list(self.cells.values())
        notes = [str(data) for data in self.data] + [note for data in self.data for note in data.notes]
        random = [model.title for model in self.models if model.weights is None]
        if random:
            notes.append(
                f"{', '.join(random)}: not trained; linear and knn use one draw of the weights, finetune another one "
                "per seed"
            )
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024  # bytes
        whole = {
            "command": self.command,
            "complete": all(cell.results for cell in cells),
            "seeds": self.seeds,
            "versions": {
                "inceptionnext_lit": __version__,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "scikit-learn": sklearn.__version__,
            },
            "peak_memory_mib": {
                "this_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20,
                "largest_other": children * unit >> 20,
            },
            "models": [{"title": one.title, "given": one.word, **one.identity} for one in self.models],
            "data": [_described(data) for data in self.data],
            "notes": notes,
            "cells": [record(cell) for cell in cells],
        }
        texts = {
            "table.md": markdown(cells, notes, self.seeds),
            "table.csv": csv_text(cells),
            "table.json": json.dumps(whole, indent=1, allow_nan=False) + "\n",
        }
        for name, text in texts.items():
            with replacing(self.folder / name) as partial:
                partial.write_text(text, encoding="utf-8", errors="backslashreplace")

    def _fill(self, opened: "_Opened", data: TransferData, protocol: Protocol) -> tuple[Cell, bool]:
        """Return a cell with its results, and whether one of them is new."""
        cell = self.cells[opened.model.title, data.title, protocol]
        varies = protocol == "finetune" or (protocol == "linear" and data.holds_back)
        results: list[Result] = []
        is_new = False
        try:
            for seed in range(self.seeds if varies else 1):
                key = self._key(opened.model, data, protocol, seed if varies else None)
                if (found := self._results.read(key)) is None:
                    found, is_new = self._compute(opened, data, protocol, seed, results, key), True
                    found = replace(found, notes=[*found.notes, *opened.seen(data)])
                    self._results.write(key, found)
                results.append(found)
        except torch.OutOfMemoryError as error:
            return replace(
                cell, failure=f"The device has too little memory ({error}); give a smaller --batch_size."
            ), True
        except UserError as error:
            return replace(cell, failure=str(error)), True
        return replace(cell, results=results), is_new

    def _key(self, model: TransferModel, data: TransferData, protocol: Protocol, seed: int | None) -> dict[str, Any]:
        own = self.fits.identity() if protocol == "finetune" else self.probing.identity(protocol)
        whole = {"protocol": protocol, "model": model.identity, "data": data.identity, "seed": seed, "settings": own}
        return {"version": _VERSION, **whole}

    def _compute(
        self,
        opened: "_Opened",
        data: TransferData,
        protocol: Protocol,
        seed: int,
        earlier: Sequence[Result],
        key: dict[str, Any],
    ) -> Result:
        if protocol == "finetune":
            return self._finetune(opened, data, seed, earlier, key)
        if opened.probe is None:
            opened.probe = self._prepare(opened, data)
        return opened.probe.knn() if protocol == "knn" else opened.probe.linear(seed, self.probing.max_iter)

    def _prepare(self, opened: "_Opened", data: TransferData) -> Probe:
        with progress_bar() as bar:
            shown = bar.add_task(f"features of {printable(data.title)}", total=len(data.samples))
            probe = Probe.prepare(opened.task(), data, self.probing, lambda images: bar.advance(shown, images))
        if probe.speed is not None:
            self._say(f"Features of {opened.model.title} on {data.title}: {probe.speed}")
        return probe

    def _finetune(
        self, opened: "_Opened", data: TransferData, seed: int, earlier: Sequence[Result], key: dict[str, Any]
    ) -> Result:
        task = opened.task()
        assert task.preprocessing is not None  # every loader sets it
        lost = unreadable_images(data, task.preprocessing)
        parts = [part[~np.isin(part, lost)] for part in data.selection(seed)]
        if not all(map(len, parts)):
            raise UserError("None of the training or validation images can be read.")
        rate = earlier[0].details.get("lr") if earlier else None
        folder = self.folder / "runs" / short_hash(key)
        tested = int(np.isin(data.test, lost).sum())
        found = finetune(opened.model, task, data, (parts[0], parts[1]), seed, rate, folder, self.fits)
        notes = describe_lost(len(lost) - tested, tested, len(data.test))
        return replace(found, notes=[*notes, *found.notes])

    @staticmethod
    def _say(text: str) -> None:
        print(printable(text), flush=True)


class _Opened:
    """A model, loaded when it is first needed."""

    def __init__(self, model: TransferModel) -> None:
        self.model = model
        self.probe: Probe | None = None
        self._task: ClassificationTask | None = None

    def task(self) -> ClassificationTask:
        if self._task is None:
            self._task = self.model.load()
        return self._task

    def seen(self, data: TransferData) -> list[str]:
        """Say whether the model's own run may have used the test images."""
        if not data.notes or self.model.trained_on() != os.path.realpath(str(data.root.absolute)):
            return []
        return ["the checkpoint was trained on this data set, perhaps on test images, so its metric may be too high"]


def unreadable_images(data: TransferData, preprocessing: Preprocessing) -> Indices:
    """Return the indices of the images that cannot be read.

    Args:
        data: The data set.
        preprocessing: The model's input.
    """
    load: Callable[[str], object] = reader(preprocessing)

    def fails(path: str) -> bool:
        try:
            load(path)
        except Exception:  # of whatever library; the image is then left out
            return True
        return False

    with ThreadPoolExecutor(_THREADS) as pool:  # decoding releases the GIL
        return np.flatnonzero(np.fromiter(pool.map(fails, data.samples.paths), dtype=bool))


def _described(data: TransferData) -> dict[str, Any]:
    return {
        "title": data.title,
        "root": str(data.root.absolute),
        "metric": data.metric,
        "classes": len(data.class_names),
        "train_images": len(data.train),
        "val_images": None if data.val is None else len(data.val),
        "test_images": len(data.test),
        "notes": list(data.notes),
    }
