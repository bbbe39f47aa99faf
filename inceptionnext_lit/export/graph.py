"""The graph of a model that the formats are written from."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import Dimension
from inceptionnext_lit.export.wrapper import Exportable
from inceptionnext_lit.wording import first_line

INPUT = "images"
"""Name of the input in formats that name it."""


@dataclass(frozen=True)
class Graph:
    """A model as a graph.

    Attributes:
        program: The graph.
        model: The module that it was captured from.
        dynamic: The dimensions of the input that may vary: ``batch``, and ``size`` for height and width.
        example: Inputs that it takes.
    """

    program: ExportedProgram
    model: Exportable
    dynamic: frozenset[Dimension]
    example: Tensor

    @property
    def axes(self) -> dict[int, str]:
        """Names of the input's dimensions that may vary, by their position."""
        return _axes(self.model, self.dynamic)

    @property
    def compares_sizes(self) -> bool:
        """Whether the graph computes a maximum or minimum of sizes."""
        return any(node.target in (torch.sym_max, torch.sym_min) for node in self.program.graph.nodes)


def capture(model: Exportable, dynamic: Collection[Dimension]) -> Graph:
    """Capture the graph of a model.

    Args:
        model: The model.
        dynamic: The dimensions of the input that may vary.

    Raises:
        UserError: If the model needs a fixed size, or it has operations that cannot be captured.
    """
    size = model.other_size if "size" in dynamic and model.takes == "pixels" else None
    example = model.example(2 if "batch" in dynamic else 1, size)
    axes: dict[int, Any] = dict.fromkeys(_axes(model, dynamic), Dim.DYNAMIC)
    try:
        with torch.no_grad():
            program = torch.export.export(model, (example,), dynamic_shapes=(axes or None,), strict=False)
    except Exception as error:  # any type, from any layer of a foreign model
        if "size" in dynamic and model.takes == "tensor":
            reason = "it takes images of one size only"
            advice = "leave size out of --dynamic"
        else:
            reason, advice = first_line(error), "this model cannot be exported with this release of torch"
        raise UserError(f"The graph of the model cannot be captured: {reason}; {advice}.") from error
    return Graph(program, model, frozenset(dynamic), example)


def _axes(model: Exportable, dynamic: Collection[Dimension]) -> dict[int, str]:
    height, width = (1, 2) if model.takes == "pixels" else (2, 3)
    axes = {0: "batch"} if "batch" in dynamic else {}
    return axes | ({height: "height", width: "width"} if "size" in dynamic else {})
