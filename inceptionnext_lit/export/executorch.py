"""ExecuTorch programs for phones and small devices, with the kernels of XNNPACK, for one image at a time."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.metadata import KEY
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    import numpy as np

    from inceptionnext_lit.export.graph import Graph

_METHOD = "forward"


def write(graph: "Graph", file: Path) -> None:
    """Write a graph of one image.

    Args:
        graph: The classifier.
        file: The file.

    Raises:
        UserError: If the model has operations that ExecuTorch does not have.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    try:
        lowered = to_edge_transform_and_lower(graph.program, partitioner=[XnnpackPartitioner()])
        with file.open("wb") as target:
            lowered.to_executorch().write_to_file(target)
    except Exception as error:  # any type, from any pass
        raise UserError(
            f"The model cannot be converted by ExecuTorch: {first_line(error)}; choose another --format."
        ) from error


def stamp(file: Path, text: str) -> None:
    """Store metadata as a method of the program that returns them, as ExecuTorch stores constants of a model.

    Args:
        file: The file, which is rewritten.
        text: The metadata as JSON.
    """
    from executorch.exir import schema
    from executorch.exir._serialize import _deserialize_pte_binary, _serialize_pte_binary

    found = _deserialize_pte_binary(file.read_bytes())
    plans = found.program.execution_plan
    constant = schema.ExecutionPlan(
        name=KEY,
        container_meta_type=schema.ContainerMetadata("", ""),
        values=[schema.EValue(schema.String(text))],
        inputs=[],
        outputs=[0],
        chains=[schema.Chain([], [], [], None)],
        operators=[],
        delegates=[],
        non_const_buffer_sizes=[0, 0],
    )
    found.program.execution_plan = [*plans, constant]
    file.write_bytes(bytes(_serialize_pte_binary(found, extract_delegate_segments=True)))


class ExecuTorchSession:
    """A program that ExecuTorch has loaded; see :class:`~inceptionnext_lit.export.formats.Session`.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        from executorch.runtime import Runtime

        self._program: Any = Runtime.get().load_program(file)
        self._method: Any = self._program.load_method(_METHOD)
        self._lock = threading.Lock()  # a program has one set of buffers
        has_text = KEY in self._program.method_names
        self.text = str(self._program.load_method(KEY).execute([])[0]) if has_text else None

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs, in their order.

        Args:
            images: A batch of one, as the file takes it.
        """
        import numpy as np
        import torch

        given = torch.from_numpy(np.ascontiguousarray(images))  # the runtime ignores strides
        with self._lock:
            return [output.numpy().copy() for output in self._method.execute([given])]


def open_session(file: Path) -> ExecuTorchSession:
    """Load a file with ExecuTorch, on the CPU.

    Args:
        file: The file.

    Raises:
        UserError: If it is damaged, or not an ExecuTorch program.
    """
    try:
        return ExecuTorchSession(file)
    except Exception as error:  # the runtime's errors, and those of a missing method
        raise UserError(f"{file} cannot be loaded by ExecuTorch: {first_line(error)}.") from error
