"""``fit``: beside a bare loop, and with the real loader."""

import json
import re
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gpu_checks.photos import make_photos, photos_folder
from gpu_checks.reporting import PartFailed, Work
from inceptionnext_lit.cli import main
from inceptionnext_lit.training.bottleneck import WaitingClock

REPO = Path(__file__).parents[2]
_ROUND = re.compile(r"^round \d+: bare (\S+) ms, fit (\S+) ms per step, ratio (\S+)$", re.MULTILINE)


def compare_with_a_bare_loop(work: Work) -> None:
    """Report the milliseconds of a step of ``fit`` and of a bare loop, in turn, each in a process of its own.

    Raises:
        PartFailed: If one of them failed.
    """
    settings = work.settings
    words = ["--model", settings.tiny, "--batch_size", settings.overhead_batch_size, "--steps", settings.steps]
    words += ["--image_size", settings.image_size, "--rounds", settings.overhead_rounds, "--precision", "bf16"]
    command = [sys.executable, "-u", str(REPO / "examples/fit_overhead.py"), *map(str, words)]
    result: dict[str, Any] = {"words": [str(word) for word in words], "rounds": []}
    printed = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # errors go to the part's log
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            result["rounds"] = rounds_of(printed)
            work.report(result)
    if process.returncode or not result["rounds"]:
        raise PartFailed(f"examples/fit_overhead.py ended with exit code {process.returncode}")


def rounds_of(printed: str) -> list[dict[str, float]]:
    """Return the rounds that ``examples/fit_overhead.py`` printed."""
    names = ("bare_ms", "fit_ms", "ratio")
    return [dict(zip(names, map(float, found.groups()), strict=True)) for found in _ROUND.finditer(printed)]


def fit_with_the_loader(work: Work) -> None:
    """Report images/s and the share of waiting in ``fit`` on JPEGs, in ``bf16-mixed`` with gradient clipping."""
    settings = work.settings
    photos, place = photos_folder(work), work.folder / "fit"
    if not (photos / "val").exists():  # its part was left out, or killed
        rmtree(photos, ignore_errors=True)
        make_photos(work)
    place.mkdir()
    accelerator = "gpu" if settings.device == "cuda" else "cpu"
    watch = "--trainer.callbacks"
    words = ["--data.root", photos, "--data.image_size", settings.image_size, "--data.batch_size", settings.batch_size]
    words += ["--model.name", settings.tiny, "--checkpoint.monitor", "val/loss", "--trainer.max_epochs", 1]
    words += ["--trainer.accelerator", accelerator, "--trainer.devices", 1, "--trainer.precision", "bf16-mixed"]
    words += ["--trainer.gradient_clip_val", 1.0, "--trainer.limit_val_batches", 0]
    words += ["--trainer.limit_train_batches", settings.warm_up + settings.steps]
    timing = [f"{watch}+=gpu_checks.fitting.LoaderWatch", f"{watch}.file", place / "watched.json"]
    timing += [f"{watch}.warm_up", settings.warm_up, f"{watch}.steps", settings.steps]
    with chdir(place):
        main(["fit", *map(str, words), *map(str, timing)])
    work.report({"words": [str(word) for word in words[2:]], **json.loads((place / "watched.json").read_text("utf-8"))})


class LoaderWatch(Callback):
    """Measure images/s, and the share of the time in which the loop waits for images.

    The loader reads many batches ahead while the first step runs, so that the first ones never wait.

    Args:
        file: File that receives the result.
        warm_up: Steps before the measurement.
        steps: Steps that are measured.
    """

    def __init__(self, file: str, warm_up: int, steps: int) -> None:
        self._file, self._first, self._last = Path(file), warm_up, warm_up + steps - 1
        self._waiting = WaitingClock()
        self._images = 0
        self._began = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note that a batch has arrived."""
        if batch_idx == self._first:
            self._began = now()
        if batch_idx >= self._first:
            self._waiting.receive()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that the next batch is requested, and write the result after the last one."""
        if batch_idx < self._first:
            return
        self._waiting.ask()
        self._images += len(batch[0])
        if batch_idx == self._last:
            rate = self._images / (now() - self._began)
            workers = trainer.train_dataloader.num_workers  # type: ignore[union-attr]
            found = {"images_per_s": rate, "share_of_waiting": self._waiting.share, "images": self._images}
            self._file.write_text(json.dumps({**found, "loader_processes": workers}), encoding="utf-8")


def now() -> float:
    """Return the time once the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
