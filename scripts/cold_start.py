"""Time to the first label in a new process, and its peak memory, for each form of a classifier.

    python scripts/cold_start.py best.ckpt
    python scripts/cold_start.py best.ckpt --forms checkpoint,onnx,openvino --rounds 9 --image photo.jpg

Exports the checkpoint to a temporary folder. Then the forms take turns, each in a new process whose files the system
has in memory: the import of what the form needs, loading the file, and labeling one image. Prints medians over the
rounds as Markdown, with the seconds of the whole process and its peak of resident memory (Linux).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from inceptionnext_lit.cli import main as command
from inceptionnext_lit.data.sources.embedded import unpack_sample
from inceptionnext_lit.export.formats import FORMATS

MODULES = {
    "checkpoint": "inceptionnext_lit.predict.classifier",
    "safetensors": "inceptionnext_lit.predict.classifier",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "pt2": "torch.export",
    "aoti": "torch.export",
}
FORMS = tuple(MODULES)
PROBE = """
import importlib, json, sys, time
began = time.perf_counter()
module, image, *arguments = sys.argv[1:]
importlib.import_module(module)
import inceptionnext_lit.predict.exported
from inceptionnext_lit import load_classifier
imported = time.perf_counter()
classifier = load_classifier(arguments[0], **({"pretrained": arguments[1]} if arguments[1:] else {}))
loaded = time.perf_counter()
label = classifier.predict(image)[0].label
labeled = time.perf_counter()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "import": imported - began,
    "load": loaded - imported,
    "first image": labeled - loaded,
    "peak MiB": int(status["VmHWM"].split()[0]) / 1024,
    "label": label,
    "torch": "torch" in sys.modules,
}))
"""
COLUMNS = ("import", "load", "first image", "all three", "process", "peak MiB")


def export_forms(checkpoint: Path, forms: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """Export a checkpoint, and return the arguments of ``load_classifier`` for each form.

    Args:
        checkpoint: The checkpoint.
        forms: The forms.
        folder: Where the files are written.
    """
    arguments = {}
    for form in forms:
        if form == "checkpoint":
            arguments[form] = [str(checkpoint)]
            continue
        suffix = ".safetensors" if form == "safetensors" else FORMATS[form].suffix
        file = folder / f"{form}{suffix}"
        with redirect_stdout(sys.stderr):
            command(["export", str(checkpoint), "--format", form, "--output", str(file)])
        arguments[form] = [str(file)]
        if form == "safetensors":
            arguments[form] = [model_name(checkpoint), str(file)]
    return arguments


def model_name(checkpoint: Path) -> str:
    """Return the model of a checkpoint."""
    from inceptionnext_lit.tasks.loading import load_task

    return str(load_task(checkpoint)[0].hparams["name"])


def start(form: str, arguments: Sequence[str], image: Path) -> dict[str, Any]:
    """Label an image in a new process, and return what it took.

    Args:
        form: The form.
        arguments: Those of ``load_classifier``.
        image: The image.
    """
    began = time.perf_counter()
    words = [sys.executable, "-c", PROBE, MODULES[form], str(image), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    process = time.perf_counter() - began
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"process": process, "all three": found["import"] + found["load"] + found["first image"]}


def table(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the medians as lines of Markdown.

    Args:
        results: What each process took, by form.
    """
    lines = [f"| form | {' | '.join(COLUMNS)} | imports torch |", f"|{'---|' * (len(COLUMNS) + 2)}"]
    for form, runs in results.items():
        medians = [statistics.median(run[column] for run in runs) for column in COLUMNS]
        cells = [f"{value:.2f}" for value in medians[:-1]] + [f"{medians[-1]:,.0f}"]
        lines.append(f"| {form} | {' | '.join(cells)} | {'yes' if runs[0]['torch'] else 'no'} |")
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--forms", default=",".join(FORMS), help=f"any of {','.join(FORMS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", type=Path, help="default: one of the embedded images")
    options = parser.parse_args()
    forms = options.forms.split(",")
    if unknown := [form for form in forms if form not in MODULES]:
        parser.error(f"{unknown[0]!r} is not a form; choose from {', '.join(FORMS)}")
    image = options.image or next(path for path in sorted(unpack_sample().rglob("*.png")))
    results: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
    with tempfile.TemporaryDirectory() as folder:
        arguments = export_forms(options.checkpoint, forms, Path(folder))
        for number in range(options.rounds + 1):
            for form in forms:
                found = start(form, arguments[form], image)
                if number:  # the first one brings the files into memory
                    results[form].append(found)
    labels = {run["label"] for runs in results.values() for run in runs}
    print(f"Seconds, medians of {options.rounds} processes; label: {', '.join(sorted(labels))}")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
