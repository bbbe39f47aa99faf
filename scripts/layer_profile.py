"""Where the time of an exported file goes, by kind of layer.

    python scripts/layer_profile.py best.onnx --batch_size 16
    python scripts/layer_profile.py best.xml --precision bf16 --threads 2

Runs random images and prints, as Markdown, the share of the time of each kind of layer and of the slowest layers, from
OpenVINO's performance counters or ONNX Runtime's profile. OpenVINO names the kernel and its precision.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inceptionnext_lit.export.formats import format_of
from inceptionnext_lit.export.metadata import read
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.preprocessing import height_and_width

WARM_UPS = 3


@dataclass(frozen=True)
class Layer:
    """A layer that was run.

    Attributes:
        name: Its name.
        kind: What it computes, and how.
        ms: Milliseconds of a batch.
    """

    name: str
    kind: str
    ms: float


def random_images(file: Path, batch_size: int) -> np.ndarray:
    """Return a batch as a file takes it.

    Args:
        file: The file.
        batch_size: Number of images.
    """
    one = format_of(file)
    assert one is not None
    metadata = read(one.open_session(file).text, file)
    height, width = height_and_width(metadata.preprocessing)
    random = np.random.default_rng(0)
    if metadata.takes == "pixels":
        return random.integers(0, 256, (batch_size, height, width, 3), np.uint8)
    shape = (batch_size, len(metadata.preprocessing["mean"]), height, width)
    return random.standard_normal(shape, np.float32)


def profile_openvino(file: Path, images: np.ndarray, threads: int, precision: str, steps: int) -> list[Layer]:
    """Return the layers of an OpenVINO file.

    Args:
        file: The file.
        images: A batch.
        threads: CPU threads.
        precision: ``f32`` or ``bf16``.
        steps: Number of batches.
    """
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
    for _ in range(WARM_UPS):
        request.infer([images])
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for _ in range(steps):
        request.infer([images])
        for node in request.profiling_info:
            if "NOT_RUN" not in str(node.status):
                spent[node.node_name, f"{node.node_type} ({node.exec_type})"] += node.real_time.total_seconds() * 1000
    return [Layer(name, kind, total / steps) for (name, kind), total in spent.items()]


def profile_onnx(file: Path, images: np.ndarray, threads: int, precision: str, steps: int) -> list[Layer]:
    """Return the layers of an ONNX file; see :func:`profile_openvino`.

    Args:
        file: The file.
        images: A batch.
        threads: CPU threads.
        precision: Not used.
        steps: Number of batches.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        for _ in range(WARM_UPS):
            session.run(None, {name: images})
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for _ in range(steps):
            session.run(None, {name: images})
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["name"].removesuffix("_kernel_time")
            spent[node, event["args"]["op_name"]] += event["dur"] / 1000
    return [Layer(name, kind, total / steps) for (name, kind), total in spent.items()]


PROFILERS = {".xml": profile_openvino, ".onnx": profile_onnx}


def tables(layers: Sequence[Layer], most: int) -> list[str]:
    """Return the kinds and the slowest layers as lines of Markdown.

    Args:
        layers: The layers.
        most: Number of layers that are listed.
    """
    kinds: dict[str, list[float]] = defaultdict(list)
    for layer in layers:
        kinds[layer.kind].append(layer.ms)
    total = sum(layer.ms for layer in layers)
    lines = [f"{total:.1f} ms per batch", "", "| kind | layers | ms | share |", "|---|--:|--:|--:|"]
    for kind, spent in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        lines.append(f"| {kind} | {len(spent)} | {sum(spent):.2f} | {sum(spent) / total:.1%} |")
    lines += ["", "| layer | kind | ms | share |", "|---|---|--:|--:|"]
    for layer in sorted(layers, key=lambda layer: -layer.ms)[:most]:
        lines.append(f"| {layer.name} | {layer.kind} | {layer.ms:.2f} | {layer.ms / total:.1%} |")
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help=".xml or .onnx")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of OpenVINO's floats")
    parser.add_argument("--steps", type=int, default=20, help="batches")
    parser.add_argument("--layers", type=int, default=10, help="slowest layers to list")
    options = parser.parse_args()
    profiler = PROFILERS.get(options.file.suffix)
    if profiler is None:
        parser.error(f"{options.file} must end in {' or '.join(PROFILERS)}")
    images = random_images(options.file, options.batch_size)
    layers = profiler(options.file, images, options.threads, options.precision, options.steps)
    print("\n".join(tables(layers, options.layers)))


if __name__ == "__main__":
    main()
