"""ONNX files in int8, with QuantizeLinear and DequantizeLinear around the layers."""

import os
import tempfile
from collections.abc import Collection, Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.export.int8.images import FileImages
from inceptionnext_lit.export.int8.ranges import Histogram, bounds
from inceptionnext_lit.export.int8.smoothing import ALPHA, input_peaks, products, smooth

if TYPE_CHECKING:
    from inceptionnext_lit.export.graph import Graph

_KINDS = ("Conv", "Gemm", "MatMul")
_SCOPES = "pkg.torch.onnx.name_scopes"  # where torch.onnx says which module a node is of
_BATCH = 4  # all activations of a batch are in memory


class OnnxQuantizer:
    """Quantizes an ONNX file with ONNX Runtime's tools; see :class:`Quantizer`.

    Only layers with weights are quantized, so that the preprocessing and the softmax stay in floats.

    Args:
        file: The float file.
        images: Images to calibrate on.
        batch: Images that the file takes at once.
    """

    method = (
        "weights in int8, symmetric, per output channel; activations in uint8, static, ranges of least squared error"
    )

    def __init__(self, file: Path, images: FileImages, batch: int) -> None:
        import onnx
        from onnxruntime.quantization import quant_pre_process

        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder, "prepared.onnx")
            quant_pre_process(os.fspath(file), os.fspath(prepared), skip_optimization=True, skip_symbolic_shape=True)
            self._model: Any = onnx.load(prepared)
        _separate_biases(self._model)
        self._nodes = _layers(self._model)
        self.layers = list(self._nodes)
        self._images, self._batch = images, min(batch, _BATCH)
        self._ranges = self._calibrate()

    @property
    def smoothed(self) -> "OnnxQuantizer | None":
        """The same with SmoothQuant; None if there is no layer for it."""
        found = copy(self)
        found._model = _copied(self._model)
        groups = products(found._model, self._names())
        if not groups:
            return None
        activations = _Activations(self._model, sorted(groups), self._images, self._batch)
        smooth(found._model, groups, input_peaks(groups, activations()))
        found._ranges = found._calibrate()
        found.method = f"{self.method}; SmoothQuant with alpha {ALPHA:g}"
        return found

    def write(self, file: Path, layers: Collection[str]) -> None:
        """Write the classifier with some layers in int8.

        Args:
            file: The file.
            layers: These layers.
        """
        import onnx
        from onnxruntime.quantization import QDQQuantizer, QuantType
        from onnxruntime.quantization.calibrate import TensorData

        as_float = np.float32
        quantizer = QDQQuantizer(
            _copied(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range={
                name: TensorData(lowest=np.array(low, as_float), highest=np.array(high, as_float))
                for name, (low, high) in self._ranges.items()
            },
            nodes_to_quantize=[name for layer in layers for name in self._nodes[layer]],
            nodes_to_exclude=[],
            op_types_to_quantize=list(_KINDS),
            # unlike convolutions, products of matrices need no quantized output: the logits keep all their digits
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )
        quantizer.quantize_model()
        onnx.save(quantizer.model.model, file)

    def _names(self) -> set[str]:
        """Return the names of the nodes of all layers."""
        return {name for names in self._nodes.values() for name in names}

    def _calibrate(self) -> dict[str, tuple[float, float]]:
        nodes = self._names()
        tensors = {
            tensor
            for node in self._model.graph.node
            if node.name in nodes
            for tensor in (node.input[0], *(node.output if node.op_type == "Conv" else ()))
        }
        activations = _Activations(self._model, sorted(tensors), self._images, self._batch)
        found = {name: Histogram(*ends) for name, ends in bounds(activations()).items()}
        for values in activations():
            for name, histogram in found.items():
                histogram.add(values[name])
        return {name: histogram.best_range() for name, histogram in found.items()}


def quantizer(graph: "Graph", file: Path, images: FileImages, batch: int) -> OnnxQuantizer:
    """Return what quantizes an ONNX file; see :class:`OnnxQuantizer`.

    Args:
        graph: The classifier.
        file: Its file.
        images: Images to calibrate on.
        batch: Images that the file takes at once.
    """
    return OnnxQuantizer(file, images, batch)


class _Activations:
    """The values of tensors inside a model.

    Args:
        model: The model.
        names: The tensors.
        images: The images.
        batch: Images at a time.
    """

    def __init__(self, model: Any, names: list[str], images: FileImages, batch: int) -> None:
        import onnx
        import onnxruntime

        opened = _copied(model)
        own = {output.name for output in opened.graph.output}
        opened.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in own
        )
        self._session: Any = onnxruntime.InferenceSession(
            opened.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._names, self._images, self._batch = names, images, batch

    def __call__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Yield the values by name, a batch of images at a time."""
        for _, batch in self._images.batches(self._batch):
            found = self._session.run(self._names, {self._input: batch})
            yield dict(zip(self._names, found, strict=True))


def _copied(model: Any) -> Any:
    import onnx

    found = onnx.ModelProto()
    found.CopyFrom(model)
    return found


def _layers(model: Any) -> dict[str, list[str]]:
    """Return the names of the nodes of each layer with constant weights, by the name of its module."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in _KINDS and node.input[0] not in constants:
            weight = constants.get(node.input[1])
            if weight is not None and len(weight.dims) >= 2:
                found.setdefault(_module_name(node), []).append(node.name)
    return found


def _module_name(node: Any) -> str:
    """Return the name of the module that a node is of; that of the node if it is not known."""
    import ast

    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            names = [name for name in ast.literal_eval(entry.value)[:-1] if name]
            if names:
                return str(names[-1]).removeprefix("model.")
    return str(node.name)


def _separate_biases(model: Any) -> None:
    """Give each layer a bias of its own: the scale of a shared one would fit only one of them."""
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3 and node.input[2] in constants:
            name = node.input[2]
            if name in seen:
                own = onnx.TensorProto()
                own.CopyFrom(constants[name])
                own.name = f"{name}_{node.name}"
                model.graph.initializer.append(own)
                node.input[2] = own.name
            seen.add(name)
