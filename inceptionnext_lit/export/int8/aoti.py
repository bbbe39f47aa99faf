"""Packages of AOTInductor in int8: torchao's graph, compiled to oneDNN's int8 kernels for this kind of machine."""

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from inceptionnext_lit.export.aoti import compile_program
from inceptionnext_lit.export.int8.images import FileImages
from inceptionnext_lit.export.int8.pt2 import Pt2Quantizer

if TYPE_CHECKING:
    from inceptionnext_lit.export.graph import Graph


class AotiQuantizer:
    """Compiles what another quantizer returns; see :class:`Quantizer`.

    Args:
        graphs: The other one, which writes graphs within seconds, to choose the layers with.
    """

    smoothed = None

    def __init__(self, graphs: Pt2Quantizer) -> None:
        self._graphs = graphs
        self.layers, self.method = graphs.layers, graphs.method

    def write(self, file: Path, layers: Collection[str]) -> None:
        """Compile the classifier with some layers in int8, which takes minutes.

        Args:
            file: The file.
            layers: These layers.

        Raises:
            UserError: If it cannot be compiled.
        """
        import torch._inductor.config

        import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")  # registers them in Inductor
        file.unlink(missing_ok=True)
        with torch._inductor.config.patch(freezing=True):  # packs the weights
            compile_program(self._graphs.program(layers), file)


def quantizer(graph: "Graph", file: Path, images: FileImages, batch: int) -> AotiQuantizer:
    """Return what quantizes and compiles a graph; see :class:`AotiQuantizer`.

    Args:
        graph: The classifier.
        file: Its file.
        images: Images to calibrate on.
        batch: Images that the file takes at once.
    """
    return compiling(Pt2Quantizer(graph, images, batch))


def compiling(graphs: Pt2Quantizer) -> AotiQuantizer:
    """Return what compiles the graphs of a quantizer, once the layers are chosen.

    Args:
        graphs: The quantizer.
    """
    return AotiQuantizer(graphs)
