"""Compare backbones on the embedded scenes: the same recipe and number of steps for each, over several seeds.

    python examples/segmentation_backbones.py
    python examples/segmentation_backbones.py --models inceptionnext_atto convnext_atto --seeds 5

Each run is the segmentation quickstart with another backbone, from random weights. Finished runs are kept in the output
folder, and a run that was stopped continues, so the same command resumes the comparison. The table has the best mIoU on
the validation scenes of each run: mean ± standard deviation over the seeds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import timm

from inceptionnext_lit.models.pyramid import feature_maps
from inceptionnext_lit.models.segmenter import Segmenter
from inceptionnext_lit.training.checkpoint_io import read_checkpoint

REPO = Path(__file__).parents[1]
RECIPE = REPO / "configs/segment/quickstart.yaml"
KWARGS = {"inceptionnext_iso_nano": {"patch_size": 8}, "convnext_iso_nano": {"patch_size": 8}}
MODELS = ("inceptionnext_atto", "convnext_atto", "resnet10t", "inceptionnext_iso_nano", "convnext_iso_nano")
CLASSES, WIDTHS = 6, {"width": 64, "head_width": 32}  # of the scenes and the recipe


def train(model: str, seed: int, output: Path, options: list[str]) -> float:
    """Train a model unless that was done before; return its best mIoU."""
    place = output / f"{model}_{seed}"
    result = place / "result.json"
    if not result.is_file():
        place.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, str(REPO / "cli.py"), "fit", "--config", str(RECIPE), "--seed_everything", str(seed),
            "--model.name", model, "--model.kwargs", json.dumps(KWARGS.get(model, {})), "--ckpt_path", "last", *options,
        ]  # fmt: skip
        paths = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
        subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": paths}, check=True)
        [best] = place.glob("runs/*/version_0/checkpoints/best.ckpt")
        scores = [state.get("best_model_score") for state in read_checkpoint(best)["callbacks"].values()]
        score = float(next(one for one in scores if one is not None))
        result.write_text(json.dumps({"mIoU": score}))
    return float(json.loads(result.read_text())["mIoU"])


def parameters(model: str) -> int:
    """Return the parameters of the whole segmentation model."""
    backbone = timm.create_model(model, num_classes=0, **KWARGS.get(model, {}))
    whole = Segmenter(feature_maps(backbone, model), CLASSES, "semantic_fpn", decoder_kwargs=WIDTHS)
    return sum(one.numel() for one in whole.parameters())


def main() -> None:
    """Run the command line; options that it does not know are passed to ``fit``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/segmentation_backbones"))
    options, others = parser.parse_known_args()
    lines = ["| backbone | parameters (M) | mIoU (%) |", "|---|---|---|"]
    for model in options.models:
        scores = [100 * train(model, seed, options.output, others) for seed in range(options.seeds)]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        lines.append(f"| {model} | {parameters(model) / 1e6:.1f} | {statistics.mean(scores):.1f} ± {spread:.1f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
