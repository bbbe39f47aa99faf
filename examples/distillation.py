"""Compare ways to learn from a larger model on the embedded images: a small isotropic model, over several seeds.

    python examples/distillation.py
    python examples/distillation.py --teacher inceptionnext_atto --teacher_kwargs '{}' --image_size 32 --seeds 5

The teacher is trained by the quickstart's recipe. Then the quickstart's model is trained by the same recipe and in as
many steps from scratch, and with the teacher's classes, probabilities and features. Finished runs are kept in the
output folder, and a run that was stopped continues, so the same command resumes the comparison. The table has the best
top-1 accuracy on the validation images of each run: mean ± standard deviation over the seeds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from inceptionnext_lit.training.checkpoint_io import read_checkpoint

REPO = Path(__file__).parents[1]
RECIPE = REPO / "configs/quickstart.yaml"
TEACHER, WIDER = "inceptionnext_iso_nano", {"dim": 192, "depth": 12}
WAYS: dict[str, dict[str, Any] | None] = {
    "from scratch": None,
    "hard": {"kind": "hard"},
    "logits": {"kind": "logits", "temperature": 2.0},
    "features": {"kind": "features"},
}


def train(place: Path, seed: int, words: list[str]) -> tuple[Path, float]:
    """Train a model in a folder unless that was done before; return its best checkpoint and accuracy."""
    result = place / "result.json"
    if not result.is_file():
        place.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, str(REPO / "cli.py"), "fit", "--config", str(RECIPE), "--seed_everything", str(seed),
            "--ckpt_path", "last", *words,
        ]  # fmt: skip
        paths = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
        subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": paths}, check=True)
        states = read_checkpoint(best(place))["callbacks"].values()
        score = float(next(one["best_model_score"] for one in states if one.get("best_model_score") is not None))
        result.write_text(json.dumps({"acc1": score}))
    return best(place), float(json.loads(result.read_text())["acc1"])


def best(place: Path) -> Path:
    """Return the best checkpoint of the run in a folder."""
    [path] = place.glob("runs/*/version_0/checkpoints/best.ckpt")
    return path.resolve()


def main() -> None:
    """Run the command line; options that it does not know are passed to ``fit``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher", default=TEACHER, help="its model; those of four stages need 32 pixels")
    parser.add_argument("--teacher_kwargs", type=json.loads, default=WIDER, help="its own arguments, as JSON")
    parser.add_argument("--weight", type=float, default=0.5, help="weight of the distillation loss")
    parser.add_argument("--image_size", type=int, default=28)
    parser.add_argument("--output", type=Path, default=Path("runs/distillation"))
    options, others = parser.parse_known_args()
    words = ["--data.image_size", str(options.image_size), *others]
    larger = ["--model.name", options.teacher, "--model.kwargs", json.dumps(options.teacher_kwargs)]
    teacher, accuracy = train(options.output / "teacher", 0, [*larger, *words])
    lines = ["| way | top-1 (%) |", "|---|---|", f"| the teacher, {options.teacher} | {100 * accuracy:.1f} |"]
    for way in options.ways:
        learned = WAYS[way]
        given = None if learned is None else {"teacher": str(teacher), "weight": options.weight, **learned}
        more = ["--model.distill", json.dumps(given), *words]
        places = [options.output / f"{way.replace(' ', '_')}_{seed}" for seed in range(options.seeds)]
        scores = [100 * train(place, seed, more)[1] for seed, place in enumerate(places)]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        lines.append(f"| {way} | {statistics.mean(scores):.1f} ± {spread:.1f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
