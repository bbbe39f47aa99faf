"""ONNX files, which ONNX Runtime and many other programs run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.metadata import KEY
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    import numpy as np

    from inceptionnext_lit.export.graph import Graph

_ERRORS_ONLY = 3  # of ONNX Runtime's log


def write(graph: "Graph", file: Path) -> None:
    """Write a graph.

    Args:
        graph: The classifier.
        file: The file.
    """
    import torch

    from inceptionnext_lit.export.graph import INPUT

    program = torch.onnx.export(
        graph.program,
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=graph.model.outputs,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    program.save(os.fspath(file), external_data=False)


def stamp(file: Path, text: str) -> None:
    """Store metadata under a key of the file's own ``metadata_props``.

    Args:
        file: The file, which is rewritten.
        text: The metadata as JSON.
    """
    import onnx

    model = onnx.load(file)
    onnx.helper.set_model_props(model, {KEY: text})
    model.producer_name = KEY
    onnx.save(model, file)


class OnnxSession:
    """A file that ONNX Runtime has loaded; see :class:`~inceptionnext_lit.export.formats.Session`.

    Args:
        file: The file.
        threads: Number of CPU threads; None for all cores.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        self._session: Any = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.text = self._session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs, in their order.

        Args:
            images: A batch, as the file takes it.
        """
        outputs: list[np.ndarray] = self._session.run(None, {self._input: images})
        return outputs


def open_session(file: Path, threads: int | None = None) -> OnnxSession:
    """Load a file with ONNX Runtime, on the CPU.

    Args:
        file: The file.
        threads: Number of CPU threads; None for all cores.

    Raises:
        UserError: If it is damaged, or not an ONNX file.
    """
    try:
        return OnnxSession(file, threads)
    except Exception as error:  # ONNX Runtime has many types
        raise UserError(f"{file} cannot be loaded by ONNX Runtime: {first_line(error)}.") from error
