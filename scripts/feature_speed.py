"""Time the features of ``transfer`` and watch the memory of the process meanwhile.

    python scripts/make_jpegs.py PHOTOS --images 50000
    python scripts/feature_speed.py resnet50=random PHOTOS

Prints the images per second of the loader alone, of the model alone and of both, which of them limits the speed, and
the resident memory of the process (without its loader processes) after each tenth of the images.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from inceptionnext_lit.cli.transfer.data import open_all
from inceptionnext_lit.cli.transfer.models import parse_models
from inceptionnext_lit.data.datasets import UnlabeledImages, collate_unlabeled
from inceptionnext_lit.data.defaults import default_workers
from inceptionnext_lit.data.loaders import build_loader
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.reports.transfer.features import pooled_features
from inceptionnext_lit.reports.transfer.probing import Probe, ProbeOptions
from inceptionnext_lit.tasks.classification import ClassificationTask

PART = 2048  # images of the parts that are timed alone


def resident_mib() -> float:
    """Return the resident memory of this process in MiB, on Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def loader_alone(task: ClassificationTask, paths: list[str], batch_size: int, num_workers: int) -> float:
    """Return the loader's images per second, without the time that its processes take to start."""
    assert task.preprocessing is not None
    dataset = UnlabeledImages(paths, eval_transform(task.preprocessing))
    loader = build_loader(dataset, collate_unlabeled, None, batch_size=batch_size, num_workers=num_workers)
    batches = iter(loader)
    first = len(next(batches).paths)
    start = time.perf_counter()
    images = sum(len(batch.paths) for batch in batches)
    return images / (time.perf_counter() - start) if images else first / (time.perf_counter() - start)


def model_alone(task: ClassificationTask, batch_size: int, device: torch.device, images: int) -> float:
    """Return the model's images per second."""
    assert task.preprocessing is not None
    side = task.preprocessing["image_size"]
    size = (side, side) if isinstance(side, int) else tuple(side)
    model = task.eval().requires_grad_(False).to(device).inference_model
    batch = torch.zeros(batch_size, len(task.preprocessing["mean"]), *size, device=device)
    batch = batch.to(memory_format=task.execution.memory_format)
    with torch.inference_mode():
        pooled_features(model, batch).cpu()
        start = time.perf_counter()
        for _ in range(rounds := max(1, images // batch_size)):
            pooled_features(model, batch).cpu()
    return rounds * batch_size / (time.perf_counter() - start)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="as for transfer")
    parser.add_argument("data", help="as for transfer")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_workers", type=int, default=default_workers())
    parser.add_argument("--part", type=int, default=PART, help="images of the parts that are timed alone")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    [model], [data] = parse_models([options.model]), open_all([options.data])
    task = model.load()
    paths = list(data.samples.paths[: options.part])
    print(f"loader alone: {loader_alone(task, paths, options.batch_size, options.num_workers):,.0f} images/s")
    print(f"model alone: {model_alone(task, options.batch_size, device, len(paths)):,.0f} images/s on {device}")
    done, shown = 0, 0
    memory = []

    def tick(images: int) -> None:
        nonlocal done, shown
        done += images
        if done * 10 // len(data.samples) > shown:
            shown = done * 10 // len(data.samples)
            memory.append(resident_mib())

    with tempfile.TemporaryDirectory() as cache:
        choices = ProbeOptions(Path(cache), "float32", device, options.batch_size, options.num_workers)
        probe = Probe.prepare(task, data, choices, tick)
    print(probe.speed)
    print(f"memory after each tenth (MiB): {' '.join(f'{one:,.0f}' for one in memory)}")


if __name__ == "__main__":
    main()
