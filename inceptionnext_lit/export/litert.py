"""LiteRT files, formerly TensorFlow Lite, for phones, small devices and browsers."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.metadata import KEY
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    import numpy as np

    from inceptionnext_lit.export.graph import Graph


def write(graph: "Graph", file: Path) -> None:
    """Write a graph.

    Args:
        graph: The classifier.
        file: The file.

    Raises:
        UserError: If the model has operations that LiteRT does not have.
    """
    import litert_torch
    from torch import Tensor, nn

    from inceptionnext_lit.export.graph import INPUT

    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    model = graph.model

    class Named(nn.Module):  # the keys become the names of the outputs
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            found = model(images)
            return dict(zip(model.outputs, found if model.with_features else [found], strict=True))

    try:
        converted = litert_torch.convert(Named().eval(), sample_kwargs={INPUT: graph.example})
        converted.export(os.fspath(file))
    except Exception as error:  # any type, from any pass
        raise UserError(
            f"The model cannot be converted by litert-torch: {first_line(error)}; choose another --format."
        ) from error


def stamp(file: Path, text: str) -> None:
    """Store metadata as an entry of the file's own metadata, under a key.

    Args:
        file: The file, which is rewritten.
        text: The metadata as JSON.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(os.fspath(file))
    buffer = schema.BufferT()
    buffer.data = list(text.encode("utf-8"))
    entry = schema.MetadataT()
    entry.name, entry.buffer = KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    flatbuffer_utils.write_model(model, os.fspath(file))


def stored_text(content: bytes) -> str | None:
    """Return the metadata of a file; None if it has none.

    Args:
        content: The file.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    for place in range(model.MetadataLength()):
        entry = model.Metadata(place)
        if entry.Name() == KEY.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode("utf-8")
    return None


class LiteRtSession:
    """A file that LiteRT has loaded; see :class:`~inceptionnext_lit.export.formats.Session`.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        content = file.read_bytes()
        interpreter = Interpreter(model_content=content)
        (signature,) = interpreter.get_signature_list().values()
        (self._input,) = signature["inputs"]
        self._run: Any = interpreter.get_signature_runner()
        self._lock = threading.Lock()  # an interpreter has one set of buffers
        self.text = stored_text(content)
        self._outputs = sorted(signature["outputs"], key=lambda name: name == "features")

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs, in their order.

        Args:
            images: A batch of one, as the file takes it.
        """
        import numpy as np

        with self._lock:
            found = self._run(**{self._input: np.ascontiguousarray(images)})
        return [found[name] for name in self._outputs]


def open_session(file: Path) -> LiteRtSession:
    """Load a file with LiteRT, on the CPU.

    Args:
        file: The file.

    Raises:
        UserError: If it is damaged, or not a LiteRT file.
    """
    try:
        return LiteRtSession(file)
    except Exception as error:  # the interpreter's errors, and those of the schema's reader
        raise UserError(f"{file} cannot be loaded by LiteRT: {first_line(error)}.") from error
