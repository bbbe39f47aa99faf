"""OpenVINO files: FILE.xml with the graph, and FILE.bin with the weights."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.metadata import KEY
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    import numpy as np

    from inceptionnext_lit.export.graph import Graph

_WEIGHTS = f"{KEY}_weights"  # where FILE.xml has the digest of FILE.bin
_STORED_DIGEST = re.compile(rf'<{_WEIGHTS} value="([0-9a-f]{{64}})"')


def write(graph: "Graph", file: Path) -> None:
    """Write a graph, and its weights in single precision.

    Args:
        graph: The classifier.
        file: The file, ``.xml``.
    """
    import openvino

    from inceptionnext_lit.export.graph import INPUT

    if graph.compares_sizes:  # OpenVINO does not take that from torch
        model = _through_onnx(graph)
    else:
        shape = [-1 if axis in graph.axes else side for axis, side in enumerate(graph.example.shape)]
        with without_telemetry():
            model = openvino.convert_model(
                graph.program, example_input=graph.example, input=[openvino.PartialShape(shape)]
            )
    model.inputs[0].tensor.set_names({INPUT})
    for output, name in zip(model.outputs, graph.model.outputs, strict=True):
        output.tensor.set_names({name})
    save_model(model, file)


def save_model(model: Any, file: Path) -> None:
    """Write a graph of OpenVINO, with its weights in single precision.

    Args:
        model: The graph.
        file: The file, ``.xml``.

    Raises:
        UserError: If it cannot be written.
    """
    import openvino

    try:
        openvino.save_model(model, file, compress_to_fp16=False)
    except RuntimeError as error:  # its messages name neither the file nor the reason
        free = shutil.disk_usage(file.parent).free
        raise UserError(
            f"OpenVINO could not write {file.name}: {first_line(error)}. {free:,} bytes are free on its disk; "
            "free some space, then try again."
        ) from error


def _through_onnx(graph: "Graph") -> Any:
    import openvino

    from inceptionnext_lit.export.formats import FORMATS

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        FORMATS["onnx"].module.write(graph, file)
        with without_telemetry():
            return openvino.convert_model(file)


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep OpenVINO's converter from reporting its use over the network, as it never does in continuous integration."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def stamp(file: Path, text: str) -> None:
    """Store metadata, and the digest of the weights, in the file's runtime information, ``rt_info``.

    Args:
        file: The file, which is rewritten.
        text: The metadata as JSON.
    """
    import openvino

    model = openvino.Core().read_model(file)
    model.set_rt_info(text, KEY)
    stamped = file.with_stem(f"{file.stem}.stamped")
    save_model(model, stamped)
    model.set_rt_info(_digest(stamped), _WEIGHTS)
    save_model(model, stamped)  # the same weights
    del model  # it has the weights' file open
    for suffix in (".bin", ".xml"):
        stamped.with_suffix(suffix).replace(file.with_suffix(suffix))


def _digest(file: Path) -> str:
    with file.with_suffix(".bin").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


def _check_weights(file: Path) -> None:
    """Refuse weights of another file, which OpenVINO would take if they have as many bytes."""
    if not file.with_suffix(".bin").is_file():
        raise UserError(f"{file} has no weights: {file.with_suffix('.bin').name} is missing next to it.")
    stored = _STORED_DIGEST.search(file.read_text(encoding="utf-8", errors="replace"))
    if stored is not None and stored[1] != _digest(file):
        raise UserError(
            f"{file.with_suffix('.bin')} does not have the weights that {file.name} was exported with: it is damaged, "
            "or another file's. Copy both again, or export again."
        )


class OpenVinoSession:
    """A file that OpenVINO has compiled; see :class:`~inceptionnext_lit.export.formats.Session`.

    Args:
        file: The file, ``.xml``.
        settings: Of the compilation.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(file)
        self.text = str(model.get_rt_info(KEY).value) if model.has_rt_info(KEY) else None
        self._compiled: Any = core.compile_model(model, "CPU", settings)

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs, in their order.

        Args:
            images: A batch, as the file takes it.
        """
        found = self._compiled.create_infer_request().infer([images])
        return [found[output].copy() for output in self._compiled.outputs]


def open_session(file: Path, threads: int | None = None, precision: str = "f32") -> OpenVinoSession:
    """Load a file with OpenVINO, on the CPU, in single precision, as the file was checked.

    Args:
        file: The file, ``.xml``, next to its ``.bin``.
        threads: Number of CPU threads; None for all cores.
        precision: What floats are computed in: ``f32`` or ``bf16``.

    Raises:
        UserError: If it is damaged, its weights are missing or another file's, or it is not an OpenVINO file.
    """
    _check_weights(file)
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        return OpenVinoSession(file, settings)
    except Exception as error:  # OpenVINO's own types
        raise UserError(f"{file} cannot be loaded by OpenVINO: {first_line(error)}.") from error
