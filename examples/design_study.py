"""Compare token mixers and MLPs at a nano scale: the same recipe, and a budget within 2% in each group, over seeds.

    python examples/design_study.py
    python examples/design_study.py --groups mlp mlp_isotropic --sets fashion --seeds 5 --output runs/design_study

The groups ask what the paper leaves open: InceptionNeXt's mixer in ConvFormer, CAFormer and Swin, and other MLPs in
InceptionNeXt with four stages and in its isotropic form; the first system of each group is the one that others are
compared with. The sets are the embedded images of Fashion-MNIST, and the handwritten digits of scikit-learn, of which
200 are learned from and the others are for validation: with more, all systems are near 99%. Finished runs are kept in
the output folder, and a run that was stopped continues, so the same command resumes the study. The tables have the
validation accuracy of the last epoch, mean ± standard deviation over the seeds, and images per second of all systems of
a group in turn; a figure shows accuracy against throughput. Unknown options are passed to ``fit``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from inceptionnext_lit.cli import main as run_command
from inceptionnext_lit.models import IsotropicMetaNeXt, MetaNeXt, Variant
from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.cost import Cost, count
from inceptionnext_lit.models.hybrids import HybridMetaFormer, HybridSwin
from inceptionnext_lit.models.mlps import ConvGluMlp, GrnMlp, StarReluMlp, SwiGluMlp
from inceptionnext_lit.models.registry import register

REPO = Path(__file__).parents[1]
RECIPE = REPO / "configs/quickstart.yaml"
CLASSES = 10
DIMS = (32, 64, 128, 256)
NANO = dict(depths=(1, 1, 3, 1), dims=DIMS)
ISO = dict(img_size=28, patch_size=4, dim=96, depth=6)
SWIN = dict(img_size=64, embed_dim=32, num_heads=(1, 2, 4, 8), window_size=4)
CONV, ATTENTION, INCEPTION = "conv", "attention", "inception"


def glu(cut: int, dims: tuple[int, ...] = DIMS, ratios: tuple[float, ...] = (4, 4, 4, 3)) -> tuple[float, ...]:
    """Return the ratios of a gated MLP: two thirds of the hidden channels, less ``cut`` for further layers."""
    return tuple((2 / 3 * ratio * dim - cut) / dim for dim, ratio in zip(dims, ratios, strict=True))


@dataclass(frozen=True)
class System:
    """A model of the study.

    Attributes:
        name: Its name.
        form: Its class.
        args: Arguments of the class.
        size: Side of its images in pixels.
    """

    name: str
    form: type[Backbone]
    args: dict[str, Any]
    size: int = 64


meta, swin = partial(System, form=HybridMetaFormer), partial(System, form=HybridSwin)
nano = partial(System, form=MetaNeXt)
iso = partial(System, form=IsotropicMetaNeXt, size=28)
GROUPS: dict[str, tuple[System, ...]] = {
    "convformer": (
        meta("convformer_nano", args=NANO | {"mixers": (CONV,) * 4}),
        meta("convformer_nano_inception", args={"depths": (1, 2, 5, 1), "dims": (32, 64, 136, 272)}),
    ),
    "caformer": (
        meta("caformer_nano", args=NANO | {"mixers": (CONV, CONV, ATTENTION, ATTENTION)}),
        meta(
            "caformer_nano_inception",
            args={
                "depths": (2, 1, 3, 1),
                "dims": (32, 72, 128, 256),
                "mixers": (INCEPTION, INCEPTION, ATTENTION, ATTENTION),
            },
        ),
    ),
    "swin": (
        swin("swin_nano", args=SWIN | {"depths": (2, 2, 2, 2), "mixers": (ATTENTION,) * 4}),
        swin("swin_nano_inception", args=SWIN | {"depths": (3, 3, 3, 3), "mlp_ratio": 4.06}),
        swin(
            "swin_nano_inception_stages12",
            args=SWIN | {"depths": (3, 3, 2, 2), "mixers": (INCEPTION, INCEPTION, ATTENTION, ATTENTION)},
        ),
    ),
    "mlp": (
        nano("nano_conv", args=NANO),
        nano("nano_swiglu", args=NANO | {"mlp_layer": SwiGluMlp, "mlp_ratios": glu(0)}),
        nano("nano_convglu", args=NANO | {"mlp_layer": ConvGluMlp, "mlp_ratios": glu(8)}),
        nano("nano_grn", args=NANO | {"mlp_layer": GrnMlp}),
        nano("nano_starrelu", args=NANO | {"mlp_layer": StarReluMlp}),
    ),
    "mlp_isotropic": (
        iso("iso_nano_conv", args=ISO),
        iso("iso_nano_swiglu", args=ISO | {"mlp_layer": SwiGluMlp, "mlp_ratio": glu(0, (96,), (4,))[0]}),
        iso("iso_nano_convglu", args=ISO | {"mlp_layer": ConvGluMlp, "mlp_ratio": glu(8, (96,), (4,))[0]}),
        iso("iso_nano_grn", args=ISO | {"mlp_layer": GrnMlp}),
        iso("iso_nano_starrelu", args=ISO | {"mlp_layer": StarReluMlp}),
    ),
}
NO_FLIP = ("--data.augmentation.hflip", "0")  # a mirrored digit is none
SETS = {"fashion": 6, "digits": 100}  # and the epochs
PER_CLASS = 20  # digits to learn from
OWN = (
    "--data.input.mean", "[0.31,0.31,0.31]", "--data.input.std", "[0.38,0.38,0.38]", *NO_FLIP,
    "--trainer.check_val_every_n_epoch", "10",
)  # fmt: skip
SYSTEMS = {system.name: system for group in GROUPS.values() for system in group}
register([
    Variant(f"study_{one.name}", one.form, one.args, 0.0, 0.0, image_size=one.size) for one in SYSTEMS.values()
])  # fmt: skip


def train(name: str, kind: str, seed: int, output: Path, options: list[str]) -> float:
    """Train a system in a process of its own, unless that was done before; return its accuracy in percent."""
    place = output / f"{name}_{kind}_{seed}"
    result = place / "result.json"
    if not result.is_file():
        place.mkdir(parents=True, exist_ok=True)
        root = "sample" if kind == "fashion" else str(digits(output))
        words = [
            "fit", "--config", str(RECIPE), "--seed_everything", str(seed), "--run_name", "study", "--data.root", root,
            "--model.name", f"study_{name}", "--data.image_size", str(SYSTEMS[name].size), "--trainer.max_epochs",
            str(SETS[kind]), "--ckpt_path", "last", *([] if kind == "fashion" else OWN), *options,
        ]  # fmt: skip
        paths = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, str(Path(__file__).resolve()), "--run", *words]
        subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": paths}, check=True)
        [table] = place.glob("runs/study/version_0/metrics.csv")
        rows = [line.split(",") for line in table.read_text().splitlines()]
        column = rows[0].index("val/acc1")
        scores = [float(row[column]) for row in rows[1:] if row[column]]
        result.write_text(json.dumps({"acc1": scores[-1]}))
    return 100 * float(json.loads(result.read_text())["acc1"])


@cache
def digits(output: Path) -> Path:
    """Write scikit-learn's digits as class folders, once: a few of each class in train/, the others in val/."""
    folder = output / "digits"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=output) as place:
            subprocess.run([sys.executable, str(REPO / "scripts/make_digits.py"), place], check=True)
            written = Path(place, "digits")
            (written / "train").rename(written / "val")
            (written / "test").rename(written / "train")  # the smaller part
            for label in (written / "train").iterdir():
                for path in sorted(label.iterdir())[PER_CLASS:]:
                    path.rename(written / "val" / label.name / path.name)
            written.rename(folder)
    return folder.resolve()


def cost(system: System) -> Cost:
    """Return the parameters and multiply-adds of a system."""
    return count(build(system).eval(), torch.zeros(1, 3, system.size, system.size)).total


def build(system: System) -> nn.Module:
    """Return a system with random weights."""
    model: nn.Module = timm.create_model(f"study_{system.name}", num_classes=CLASSES)
    return model


def throughput(systems: tuple[System, ...], rounds: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Return images per second in training and inference: medians over rounds, in which the systems take turns."""
    steps = {system.name: (training(system), inference(system)) for system in systems}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, pair in steps.items():
            rates[name].append((rate(pair[0], seconds), rate(pair[1], seconds)))
    return {name: (statistics.median(a for a, _ in found), statistics.median(b for _, b in found))
            for name, found in rates.items()}  # fmt: skip


BATCH = 64  # of the recipe
NARROWEST = 8  # points of accuracy that a panel of the figure spans at least


def training(system: System) -> Callable[[], object]:
    """Return a function that trains a step."""
    model = build(system).train().to(memory_format=torch.channels_last)
    images, labels = torch.randn(BATCH, 3, system.size, system.size), torch.randint(CLASSES, (BATCH,))
    images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def inference(system: System) -> Callable[[], object]:
    """Return a function that classifies a batch."""
    model = build(system).eval().to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, system.size, system.size).to(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: model(images))


def rate(run: Callable[[], object], seconds: float) -> float:
    """Return the images per second of a function that processes a batch."""
    run()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        run()
        steps += 1
    return steps * BATCH / (time.perf_counter() - start)


def spread(scores: list[float]) -> str:
    """Return mean ± standard deviation."""
    return f"{statistics.mean(scores):.1f} ± {deviate(scores):.1f}"


def deviate(scores: list[float]) -> float:
    """Return the standard deviation, 0 for a single score."""
    return statistics.stdev(scores) if len(scores) > 1 else 0.0


def draw(points: dict[str, dict[str, tuple[float, list[list[float]]]]], sets: list[str], path: Path) -> None:
    """Draw accuracy with its standard deviation against training throughput: a column per group, a row per set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(points), 2.8 * len(sets) + 0.4), layout="constrained")
    axes = figure.subplots(len(sets), len(points), squeeze=False)
    for column, (group, systems) in enumerate(points.items()):
        for row, kind in enumerate(sets):
            axis = axes[row][column]
            for place, (name, (rate, scores)) in enumerate(systems.items()):
                mean, deviation = statistics.mean(scores[row]), deviate(scores[row])
                axis.errorbar(rate, mean, deviation, marker="os^Dv"[place], linestyle="", capsize=3, label=name)
            low, high = axis.get_ylim()
            middle, half = (low + high) / 2, max(high - low, NARROWEST) / 2  # else noise fills the panel
            axis.set_ylim(middle - half, middle + half)
            axis.set_xlim(0, 1.15 * max(rate for rate, _ in systems.values()))
            axis.grid(visible=True, alpha=0.3)
            if column == 0:
                axis.set_ylabel(f"{kind}, top-1 (%)")
        axes[0][column].set_title(group)
        axes[0][column].legend(fontsize=7, loc="lower left")
        axes[-1][column].set_xlabel("training (images/s)")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["--run"]:
        run_command(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="of throughput")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each system in a round")
    parser.add_argument("--output", type=Path, default=Path("runs/design_study"))
    options, others = parser.parse_known_args()
    options.output.mkdir(parents=True, exist_ok=True)
    points: dict[str, dict[str, tuple[float, list[list[float]]]]] = {}
    for group in options.groups:
        lines = [
            f"| {group} | params (M) | MACs (M) | {' | '.join(f'{kind} (%)' for kind in options.sets)} "
            "| training (images/s) | inference (images/s) |",
            "|---" * (5 + len(options.sets)) + "|",
        ]
        rates = throughput(GROUPS[group], options.rounds, options.seconds)
        for system in GROUPS[group]:
            scores = [
                [train(system.name, kind, seed, options.output, others) for seed in range(options.seeds)]
                for kind in options.sets
            ]
            found, (trains, infers) = cost(system), rates[system.name]
            cells = [f"{found.params / 1e6:.2f}", f"{found.macs / 1e6:.1f}", *map(spread, scores)]
            lines.append(f"| {' | '.join([system.name, *cells, f'{trains:,.0f}', f'{infers:,.0f}'])} |")
            points.setdefault(group, {})[system.name] = (trains, scores)
        print("\n".join(lines) + "\n", flush=True)
    draw(points, options.sets, options.output / "design_study.svg")


if __name__ == "__main__":
    main()
