"""Fine-tune a model for ``transfer`` with ``fit``, in a process of its own."""

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from inceptionnext_lit.cli.relay import Relay
from inceptionnext_lit.cli.runs.best_epoch import best_epoch
from inceptionnext_lit.cli.runs.run_folder import TELL
from inceptionnext_lit.cli.transfer.models import TransferModel, model_settings
from inceptionnext_lit.data.evaluation_set import EvaluationSet
from inceptionnext_lit.data.sources.sample_table import Indices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.program import restart_command
from inceptionnext_lit.reports.evaluation.inference import NOT_FINITE, predict_images
from inceptionnext_lit.reports.transfer.cells import Result
from inceptionnext_lit.reports.transfer.dataset import TransferData
from inceptionnext_lit.reports.transfer.scores import measure
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.loading import load_task
from inceptionnext_lit.wording import count

_UNSAFE = "|;,"  # separators of labels in a manifest


@dataclass(frozen=True)
class FitOptions:
    """How models are fine-tuned.

    Attributes:
        recipes: Files of the recipe and its overlays.
        words: Further keys of ``fit``, with their values.
        lr_grid: Learning rates to choose from on the validation images; empty for the recipe's.
        device: Device to train on; None for the recipe's.
        batch_size: Images per batch of the test.
        num_workers: Loader processes of the test.
    """

    recipes: tuple[str, ...]
    words: tuple[str, ...]
    lr_grid: tuple[float, ...]
    device: torch.device
    batch_size: int
    num_workers: int

    def identity(self) -> dict[str, Any]:
        """What results depend on, as plain data."""
        recipes = [yaml.safe_load(Path(recipe).read_text(encoding="utf-8")) for recipe in self.recipes]
        return {"recipes": recipes, "words": list(self.words), "lr_grid": list(self.lr_grid)}


class Stopped(Exception):
    """A signal has stopped a run.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@dataclass(frozen=True)
class _Fit:
    """A finished run of ``fit``: its folder, and its best validation metric."""

    folder: Path
    value: float


def finetune(
    model: TransferModel,
    task: ClassificationTask,
    data: TransferData,
    parts: tuple[Indices, Indices],
    seed: int,
    rate: float | None,
    folder: Path,
    options: FitOptions,
) -> Result:
    """Train a model on a data set, and measure its metric on the test images with the best epoch's weights.

    A run that was interrupted continues.

    Args:
        model: The model.
        task: The model as loaded.
        data: The data set.
        parts: Indices of its readable training and validation images.
        seed: Seed of the training.
        rate: The learning rate; None to choose it from the grid, or for the recipe's without a grid.
        folder: Where the runs are kept, in a folder of the output.
        options: How to train.

    Raises:
        UserError: If training fails, or the trained model's outputs are NaN or infinite.
        Stopped: If a signal has stopped it.
    """
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    _write_manifest(data, parts, folder / "images.jsonl")
    settings = _merged(model_settings(task), _run_settings(data, seed, folder, options.device))
    settings["model"]["pretrained"] = model.start(task, folder.parents[1] / "weights")
    rates: Sequence[float | None] = [rate] if rate is not None else options.lr_grid or [None]
    fits: dict[float | None, _Fit] = {}
    failures: dict[float | None, UserError] = {}
    for one in rates:
        try:
            fits[one] = _fit(settings, one, folder, options)
        except UserError as error:  # such as a NaN loss at a high learning rate
            failures[one] = error
    if not fits:
        raise next(iter(failures.values()))
    best = max(fits, key=lambda one: fits[one].value)
    checkpoint = fits[best].folder / "checkpoints/best.ckpt"
    value, images = _test(checkpoint, data, options)
    notes: list[str] = []
    for one, done in fits.items():
        _remove_checkpoints(done.folder, keep=one == best)
    details: dict[str, Any] = {"seed": seed, "checkpoint": str(checkpoint), "val": fits[best].value, "images": images}
    if best is not None:
        details |= {"lr": best}
    if len(rates) > 1:
        details["grid"] = {f"{one:g}": fits[one].value if one in fits else None for one in rates if one is not None}
        lost = [f"{one:g}" for one in failures if one is not None]
        notes += [f"training failed with the learning rate {', '.join(lost)}"] if lost else []
        notes += [f"learning rate {best:g}, chosen from {len(rates)} with the first seed"]
    return Result(value, time.perf_counter() - start, details, notes)


def _fit(settings: Mapping[str, Any], rate: float | None, folder: Path, options: FitOptions) -> _Fit:
    name = "fit" if rate is None else f"lr_{rate:g}"
    path, told, log = folder / f"{name}.yaml", folder / f".{name}.folder", folder / f"{name}.log"
    own = settings if rate is None else _merged(settings, {"model": {"lr": rate}})
    path.write_text(yaml.safe_dump(dict(own), allow_unicode=True), encoding="utf-8")
    words = [word for recipe in (*options.recipes, str(path)) for word in ("--config", recipe)]
    words += [*options.words, "--run_name", name, "--ckpt_path", "last"]
    with Relay() as relay:
        code = relay.run([*restart_command(), "fit", *words], {TELL: str(told)}, log)
        if relay.received is not None:
            raise Stopped(relay.received)
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise UserError(f"{errors[-1] if errors else f'fit failed with code {code}.'} See {log}.")
    run = Path(told.read_text(encoding="utf-8"))
    epoch = best_epoch(run)
    return _Fit(run, epoch["figures"][epoch["monitor"]])


def _test(checkpoint: Path, data: TransferData, options: FitOptions) -> tuple[float, int]:
    """Return the metric on the test images, and their number."""
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint} is missing, so the trained model cannot be tested.")
    task = load_task(checkpoint)[0]
    samples = data.samples.take(data.test)
    images = EvaluationSet(samples, [""] * len(samples), data.class_names)
    found = predict_images(
        task, images, device=options.device, batch_size=options.batch_size, num_workers=options.num_workers
    )
    if lost := sum(reason == NOT_FINITE for _, reason in found.unreadable):
        raise UserError(f"The trained model's outputs for {count(lost, 'test image')} are NaN or infinite.")
    *_, table = found.tables.values()
    return measure(data.metric, table.logits, table.labels), len(table.labels)


def _write_manifest(data: TransferData, parts: tuple[Indices, Indices], path: Path) -> None:
    names = data.class_names
    is_plain = all(name.strip() == name and not set(name) & set(_UNSAFE) and not name.isdecimal() for name in names)
    if not is_plain or any(name.casefold() in _MISSING for name in names):
        names = [f"class_{number:05d}" for number in range(len(names))]
    trained = data.samples.take(parts[0])
    if len(missing := np.setdiff1d(np.arange(len(names)), trained.labels)):
        raise UserError(f"No training image of the class {data.class_names[missing[0]]} can be read.")
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for split, indices in zip(("train", "val"), parts, strict=True):
            for sample in data.samples.take(indices):
                labels = [names[sample.label]] if isinstance(sample.label, int) else [names[n] for n in sample.label]
                label = labels if data.multi_label else labels[0]
                row = {"path": os.path.abspath(sample.path), "label": label, "split": split}
                file.write(json.dumps(row) + "\n")


_MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none"}
)  # what a manifest takes for empty


def _run_settings(data: TransferData, seed: int, folder: Path, device: torch.device) -> dict[str, Any]:
    trainer: dict[str, Any] = {"default_root_dir": str(folder / "runs"), "enable_progress_bar": False}
    trainer |= {"accelerator": "cpu" if device.type == "cpu" else "gpu" if device.type == "cuda" else device.type}
    trainer |= {"devices": 1 if device.index is None or device.type == "cpu" else [device.index]}
    images = {"root": os.path.abspath(folder / "images.jsonl"), "multi_label": data.multi_label}
    chosen = {"checkpoint": {"monitor": "val/macro_acc"}} if data.metric == "macro_acc" else {}
    return {"seed_everything": seed, "trainer": trainer, "data": images, **chosen}


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with the second ones added."""
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _remove_checkpoints(run: Path, *, keep: bool) -> None:
    """Remove a finished run's checkpoints, except its best one if it was chosen: each takes three times the weights."""
    if not keep:
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        return
    for path in (run / "checkpoints").glob("*.ckpt"):
        if path.name != "best.ckpt":
            path.unlink(missing_ok=True)
