"""Measure the overhead of fit over a bare PyTorch loop with the same model, batches, optimizer and precision.

Usage: python examples/fit_overhead.py [--model NAME] [--batch_size N] [--image_size N] [--steps N] [--rounds N]
                                       [--precision fp32|bf16]

Each round runs both, each in its own process, with the bare loop first in every other round. The time of a step is the
time between two batch requests, averaged over --steps after a warm-up. fit is the full command with its trainer,
callbacks, loggers, metrics and checkpoints, but without validation and data loading, since both repeat one batch from
memory. Ratios are taken within a round.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
from lightning.pytorch import LightningDataModule
from timm.optim import param_groups_weight_decay
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

import inceptionnext_lit  # noqa: F401 - the family's models
from inceptionnext_lit.allocator import keep_memory
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.preprocessing import Preprocessing

WARM_UP = 5
CLASSES = 10
LR = 1e-4
WEIGHT_DECAY = 0.05


class RepeatedBatch(LightningDataModule):
    """One repeated batch of random images that records when it is requested.

    Args:
        batch_size: Images in the batch.
        image_size: Side of the images in pixels.
        steps: Number of steps timed after the warm-up.
        report: File that receives the seconds per step.
    """

    def __init__(self, batch_size: int, image_size: int, steps: int, report: str) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.steps = steps
        self.report = Path(report)
        preprocessing = Preprocessing(
            image_size=image_size, mean=[0.5] * 3, std=[0.5] * 3, crop_pct=1.0, interpolation="bicubic"
        )
        self.data_spec = DataSpec(num_classes=CLASSES, preprocessing=preprocessing)
        torch.manual_seed(0)
        images = torch.randn(batch_size, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
        self._batch = (images, torch.arange(batch_size) % CLASSES)
        if torch.cuda.is_available():
            self._batch = tuple(tensor.pin_memory() for tensor in self._batch)
        self._requests = 0
        self._started = 0.0

    def train_dataloader(self) -> DataLoader[Any]:
        """Return a loader that repeats the batch, once more than needed, since one is prefetched."""
        count = (WARM_UP + self.steps + 1) * self.batch_size
        return DataLoader(range(count), batch_size=self.batch_size, collate_fn=self._give)  # type: ignore[arg-type]

    def _give(self, _: list[int]) -> tuple[Tensor, ...]:
        self._requests += 1
        if self._requests == WARM_UP + 1:
            self._started = now()
        if self._requests == WARM_UP + 1 + self.steps:
            self.report.write_text(json.dumps((now() - self._started) / self.steps))
        return self._batch


def now() -> float:
    """Return the time once the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def run_bare(options: argparse.Namespace) -> None:
    """Train without Lightning and without any monitoring."""
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = RepeatedBatch(options.batch_size, options.image_size, options.steps, options.report)
    model = timm.create_model(options.model, num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, WEIGHT_DECAY), lr=LR, fused=True)
    for images, labels in data.train_dataloader():
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def run_fit(options: argparse.Namespace) -> None:
    """Train as ``python cli.py fit`` does."""
    from inceptionnext_lit.cli import main

    sys.path.insert(0, str(Path(__file__).parent))  # so that --data finds its class
    data = {key: getattr(options, key) for key in ("batch_size", "image_size", "steps", "report")}
    precision = {"fp32": "32-true", "bf16": "bf16-mixed"}[options.precision]
    words = ["--data", "fit_overhead.RepeatedBatch", *(f"--data.{key}={value}" for key, value in data.items())]
    words += ["--model.name", options.model, "--model.lr", str(LR), "--model.weight_decay", str(WEIGHT_DECAY)]
    words += ["--trainer.max_epochs", "1", "--trainer.devices", "1", "--trainer.precision", precision]
    main(["fit", *words, "--trainer.limit_val_batches", "0", "--checkpoint.monitor", "val/loss"])


def measure(way: str, words: list[str]) -> float:
    """Return the milliseconds per step, measured in a new process and an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "seconds.json"
        command = [sys.executable, str(Path(__file__).resolve()), *words, "--way", way, "--report", str(report)]
        output = (
            None if way == "fit" and sys.stdout.isatty() else subprocess.PIPE
        )  # shows the progress bar on a terminal
        done = subprocess.run(command, cwd=folder, env=os.environ, stdout=output, stderr=output, text=True, check=False)
        if done.returncode:
            sys.exit(f"The {way} run failed.\n{done.stderr or ''}")
        return 1000 * float(json.loads(report.read_text()))


def main() -> None:
    """Run both in turn, and print each round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inceptionnext_atto")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--way", choices=("bare", "fit"), help=argparse.SUPPRESS)
    parser.add_argument("--report", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        (run_bare if options.way == "bare" else run_fit)(options)
        return
    rounds = []
    for number in range(options.rounds):
        ways = ("bare", "fit") if number % 2 == 0 else ("fit", "bare")
        times = {way: measure(way, sys.argv[1:]) for way in ways}
        rounds.append(times)
        ratio = times["fit"] / times["bare"]
        print(f"round {number + 1}: bare {times['bare']:.2f} ms, fit {times['fit']:.2f} ms per step, ratio {ratio:.4f}")
    bare, fit = (statistics.median(times[way] for times in rounds) for way in ("bare", "fit"))
    ratio = statistics.median(times["fit"] / times["bare"] for times in rounds)
    print(f"median: bare {bare:.2f} ms, fit {fit:.2f} ms per step")
    print(f"overhead: {100 * (ratio - 1):+.1f}%, {fit - bare:+.2f} ms per step (medians over {len(rounds)} rounds)")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
