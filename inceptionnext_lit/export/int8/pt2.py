"""Graphs of ``torch.export`` in int8, by torchao's PT2E quantization."""

from collections.abc import Collection, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule, Interpreter

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.int8.images import FileImages
from inceptionnext_lit.export.int8.layers import kind_of, module_of
from inceptionnext_lit.export.int8.ranges import Histogram, bounds
from inceptionnext_lit.export.pt2 import save_program
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    from inceptionnext_lit.export.graph import Graph

_BATCH = 4  # all activations of a batch are in memory
_STEPS = 255
_LEAST_SCALE = float(torch.finfo(torch.float32).eps)


class Pt2Quantizer:
    """Quantizes a graph of ``torch.export`` with torchao; see :class:`Quantizer`.

    Only layers with weights are quantized, as Inductor's int8 kernels for x86 take them: with a range of each input. A
    concatenation before a layer is quantized too, with the range of its result, so that the layers before it can write
    bytes; this changes no value.

    Args:
        graph: The classifier.
        images: Images to calibrate on.
        batch: Images that the graph takes at once.
    """

    smoothed = None
    method = (
        "torchao PT2E: weights in int8, symmetric, per output channel; activations in uint8, static, ranges of least "
        "squared error"
    )

    def __init__(self, graph: "Graph", images: FileImages, batch: int) -> None:
        self._graph = graph
        self._nodes: dict[str, list[str]] = {}
        inputs: set[str] = set()
        for node in graph.program.module().graph.nodes:
            if kind_of(node) is not None and node.args[1].op == "get_attr":
                self._nodes.setdefault(module_of(node), []).append(node.name)
                inputs.add(node.args[0].name)
        self.layers = list(self._nodes)
        self._ranges = self._calibrate(inputs, images, min(batch, _BATCH))

    def write(self, file: Path, layers: Collection[str]) -> None:
        """Write the classifier with some layers in int8.

        Args:
            file: The file.
            layers: These layers.
        """
        save_program(self.program(layers), file)

    def program(self, layers: Collection[str]) -> ExportedProgram:
        """Return the graph with some layers in int8.

        Args:
            layers: These layers.
        """
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        nodes = {name for layer in layers for name in self._nodes[layer]}
        example = self._graph.example
        with torch.no_grad():
            prepared = prepare_pt2e(self._graph.program.module(), _annotator(nodes, self._ranges))
            prepared(example)  # observes the weights; the ranges of activations are known
            module = convert_pt2e(prepared)
            _drop_unused(module)
            axes: dict[int, Any] = dict.fromkeys(self._graph.axes, Dim.DYNAMIC)
            return torch.export.export(module, (example,), dynamic_shapes=(axes or None,))

    def _calibrate(self, names: set[str], images: FileImages, batch: int) -> dict[str, tuple[float, float]]:
        module = self._graph.program.module()

        def activations() -> Iterator[dict[str, NDArray[Any]]]:
            for _, inputs in images.batches(batch):
                recorder = _Recorder(module, names)
                with torch.no_grad():
                    recorder.run(torch.from_numpy(inputs))
                yield recorder.found

        found = {name: Histogram(*ends) for name, ends in bounds(activations()).items()}
        for values in activations():
            for name, histogram in found.items():
                histogram.add(values[name])
        return {name: histogram.best_range() for name, histogram in found.items()}


def quantizer(graph: "Graph", file: Path, images: FileImages, batch: int) -> Pt2Quantizer:
    """Return what quantizes a graph; see :class:`Pt2Quantizer`.

    Args:
        graph: The classifier.
        file: Its file.
        images: Images to calibrate on.
        batch: Images that the file takes at once.

    Raises:
        UserError: If torchao does not work with this release of torch.
    """
    try:
        import_module("torchao.quantization.pt2e.quantize_pt2e")
    except ImportError as error:
        raise UserError(
            f"torchao {version('torchao')} cannot be imported with torch {torch.__version__} ({first_line(error)}); "
            "install a newer torch, or the release of torchao for this one."
        ) from error
    return Pt2Quantizer(graph, images, batch)


class _Recorder(Interpreter):
    """Runs a graph and keeps the values of some nodes.

    Attributes:
        found: The values by the nodes' names.

    Args:
        module: The graph.
        names: The nodes.
    """

    def __init__(self, module: GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self._names = names
        self.found: dict[str, NDArray[Any]] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run a node."""
        value = super().run_node(n)
        if n.name in self._names:
            self.found[n.name] = value.numpy()
        return value


def _annotator(nodes: Collection[str], ranges: dict[str, tuple[float, float]]) -> Any:
    """Return what tells torchao which inputs of which nodes are quantized.

    Args:
        nodes: The layers, by the names of their nodes.
        ranges: The least and the largest value of each layer's input, by the name of its node.
    """
    from torchao.quantization.pt2e import PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import (
        FixedQParamsQuantizationSpec,
        QuantizationAnnotation,
        QuantizationSpec,
        Quantizer,
    )

    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=_LEAST_SCALE),
    )

    def activation(name: str) -> Any:
        low, high = ranges[name]
        scale = max((high - low) / _STEPS, _LEAST_SCALE)
        return FixedQParamsQuantizationSpec(
            dtype=torch.uint8,
            scale=scale,
            zero_point=min(max(round(-low / scale), 0), _STEPS),
            quant_min=0,
            quant_max=_STEPS,
            qscheme=torch.per_tensor_affine,
        )

    class Annotator(Quantizer):  # type: ignore[misc]
        def annotate(self, model: GraphModule) -> GraphModule:
            for node in model.graph.nodes:
                if node.name not in nodes:
                    continue
                source, weights = node.args[:2]
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={source: activation(source.name), weights: weight}, _annotated=True
                )
                if source.target is torch.ops.aten.cat.default:
                    spec = activation(source.name)
                    source.meta["quantization_annotation"] = QuantizationAnnotation(
                        input_qspec_map=dict.fromkeys(source.args[0], spec), output_qspec=spec, _annotated=True
                    )
            return model

        def validate(self, model: GraphModule) -> None:
            pass

    return Annotator()


def _drop_unused(module: GraphModule) -> None:
    """Remove the weights in floats of layers in int8."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [*dict(module.named_parameters()), *dict(module.named_buffers())]:
        if name not in used:
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)
