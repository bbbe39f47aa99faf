"""SmoothQuant for ONNX graphs (arXiv 2211.10438)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.15  # the largest inputs of a channel count less than its weights; see docs/guides/int8.md


@dataclass(frozen=True)
class Product:
    """A layer that multiplies all channels of its input by a matrix.

    Attributes:
        node: The node.
        weight: Its weight.
        input_axis: The axis of the channels in the input.
        weight_axis: The axis of the input's channels in the weight.
    """

    node: Any
    weight: Any
    input_axis: int
    weight_axis: int

    def peaks(self) -> NDArray[np.float32]:
        """Return the largest absolute weight of each input channel."""
        import onnx

        return peaks(onnx.numpy_helper.to_array(self.weight), self.weight_axis)


def products(model: Any, names: Collection[str]) -> dict[str, list[Product]]:
    """Return the layers that can be smoothed, by the tensor that they read.

    Grouped convolutions are left out: each of their weights multiplies one or a few channels.

    Args:
        model: The model.
        names: Names of the nodes of its layers.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, list[Product]] = defaultdict(list)
    for node in model.graph.node:
        if node.name in names:
            attributes = {one.name: one.i for one in node.attribute}
            weight = constants[node.input[1]]
            if node.op_type == "Conv" and attributes.get("group", 1) == 1:
                found[node.input[0]].append(Product(node, weight, 1, 1))
            elif node.op_type == "Gemm" and not attributes.get("transA", 0):
                found[node.input[0]].append(Product(node, weight, -1, 1 if attributes.get("transB", 0) else 0))
            elif node.op_type == "MatMul":
                found[node.input[0]].append(Product(node, weight, -1, -2))
    return dict(found)


def input_peaks(
    groups: Mapping[str, list[Product]], batches: Iterable[Mapping[str, NDArray[np.float32]]]
) -> dict[str, NDArray[np.float32]]:
    """Return the largest absolute value of each channel of the tensors that layers read.

    Args:
        groups: The layers by the tensor.
        batches: Values by the tensors' names.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for batch in batches:
        for name, members in groups.items():
            now = peaks(batch[name], members[0].input_axis)
            found[name] = np.maximum(found.get(name, now), now)
    return found


def smooth(
    model: Any, groups: Mapping[str, list[Product]], largest: Mapping[str, NDArray[np.float32]], alpha: float = ALPHA
) -> None:
    """Divide the channels of inputs by their scales and multiply the weights by them, which leaves outputs as they are.

    Args:
        model: The model, which is changed.
        groups: Its layers by the tensor that they read.
        largest: The largest absolute value of each channel of these tensors.
        alpha: How much the inputs count in a scale, from 0 to 1; the others are the weights.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    places = {node.name: place for place, node in enumerate(model.graph.node)}
    added: list[tuple[int, Any]] = []
    for name, members in groups.items():
        scales = _scales(largest[name], np.max([member.peaks() for member in members], axis=0), alpha)
        shape = (-1, 1, 1) if members[0].input_axis == 1 else (-1,)  # (N, C, H, W) or (…, C)
        divisor = onnx.numpy_helper.from_array((1 / scales).reshape(shape), f"{name}_smoothing")
        model.graph.initializer.append(divisor)
        first = min(places[member.node.name] for member in members)
        added.append(
            (first, onnx.helper.make_node("Mul", [name, divisor.name], [f"{name}_smoothed"], f"{divisor.name}_mul"))
        )
        for member in members:
            _multiply(model, member, scales)
            member.node.input[0] = f"{name}_smoothed"
    for place, node in sorted(added, key=lambda one: -one[0]):
        model.graph.node.insert(place, node)
    ONNXModel(model).clean_initializers()  # the weights that were replaced


def _scales(inputs: NDArray[np.float32], weights: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Return the scales of an input's channels; 1 for those that are always 0 or whose weights are."""
    used = (inputs > 0) & (weights > 0)
    ratio = np.where(used, inputs, 1) ** alpha / np.where(used, weights, 1) ** (1 - alpha)
    return np.where(used, ratio, 1).astype(np.float32)


def _multiply(model: Any, member: Product, scales: NDArray[np.float32]) -> None:
    """Give a layer a weight of its own, multiplied by the scales."""
    import onnx

    weight = onnx.numpy_helper.to_array(member.weight)
    shape = [1] * weight.ndim
    shape[member.weight_axis] = -1
    own = onnx.numpy_helper.from_array(weight * scales.reshape(shape), f"{member.weight.name}_{member.node.name}")
    model.graph.initializer.append(own)
    member.node.input[1] = own.name


def peaks(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the largest absolute values along an axis, of shape (C,).

    Args:
        values: Of any shape.
        axis: The axis that is kept.
    """
    kept = axis % values.ndim
    found: NDArray[np.float32] = np.abs(values).max(axis=tuple(one for one in range(values.ndim) if one != kept))
    return found
