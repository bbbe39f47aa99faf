"""SmoothQuant of ONNX graphs leaves their outputs as they are."""

from typing import Any

import numpy as np
import pytest

from inceptionnext_lit.export.int8.smoothing import input_peaks, peaks, products, smooth

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

IMAGES = np.random.default_rng(1).normal(size=(2, 4, 5, 6)).astype(np.float32)
IMAGES *= np.array([1, 0, 30, 0.1], np.float32)[:, None, None]
LAYERS = {"a", "b", "c", "d", "e", "f"}


def graph(*outputs: str) -> Any:
    """Two convolutions of one input, a grouped one, a product of matrices, and two Gemms with the same weight."""
    draw = np.random.default_rng(0)
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w1"], ["a"], "a"),
        make("Conv", ["x", "w2", "b2"], ["b"], "b", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make("Add", ["a", "b"], ["sum"], "sum"),
        make("Conv", ["sum", "w3"], ["c"], "c", group=6),
        make("Transpose", ["c"], ["t"], "t", perm=[0, 2, 3, 1]),
        make("MatMul", ["t", "w4"], ["d"], "d"),
        make("ReduceMean", ["d"], ["m"], "m", axes=[1, 2], keepdims=0),
        make("Gemm", ["m", "w5"], ["e"], "e", transB=1),
        make("Gemm", ["e", "w5"], ["f"], "f"),
    ]
    shapes = dict(w1=(6, 4, 1, 1), w2=(6, 4, 3, 3), b2=(6,), w3=(6, 1, 1, 1), w4=(6, 7), w5=(7, 7))
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["w1"][:, 3] = weights["w2"][:, 3] = 0
    made = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("f", *outputs)],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


def run(model: Any) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": IMAGES}), strict=True))


def largest() -> dict[str, np.ndarray]:
    values = {"x": IMAGES, **run(graph("t", "m", "e"))}
    return input_peaks(products(graph(), LAYERS), [{name: values[name][:1] for name in values}, values])


def test_layers_by_their_input() -> None:
    groups = products(graph(), LAYERS - {"f"})
    assert {name: [one.node.name for one in group] for name, group in groups.items()} == {
        "x": ["a", "b"],
        "t": ["d"],  # the convolution before it is grouped
        "m": ["e"],
    }
    assert [(one.input_axis, one.weight_axis) for one in [*groups["x"], *groups["t"], *groups["m"]]] == [
        (1, 1),
        (1, 1),
        (-1, -2),
        (-1, 1),
    ]


def test_peaks_are_those_of_all_batches() -> None:
    found = largest()
    np.testing.assert_array_equal(found["x"], np.abs(IMAGES).max(axis=(0, 2, 3)))
    assert found["x"][1] == 0
    np.testing.assert_array_equal(found["m"], np.abs(run(graph("m"))["m"]).max(axis=0))
    np.testing.assert_array_equal(peaks(np.float32([[-3, 1], [2, -2]]), -1), [3, 2])


@pytest.mark.parametrize("alpha", [0.0, 0.15, 1.0])
def test_outputs_stay_as_they_are(alpha: float) -> None:
    model = graph()
    smooth(model, products(model, LAYERS), largest(), alpha)
    np.testing.assert_allclose(run(model)["f"], run(graph())["f"], rtol=1e-4, atol=1e-3)
    assert [node.op_type for node in model.graph.node].count("Mul") == 4  # a and b share one
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    assert not {"w1", "w2", "w4", "w5"} & constants.keys()
    assert {"b2", "w3"} < constants.keys()


def test_scales_divide_the_peaks_of_inputs_and_weights() -> None:
    model, found = graph(), largest()
    groups = products(model, LAYERS)
    weights = np.max([peaks(onnx.numpy_helper.to_array(one.weight), 1) for one in groups["x"]], axis=0)
    smooth(model, groups, found, 0.25)
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    factors = constants["x_smoothing"].reshape(-1)
    used = [0, 2]  # the second channel of the images is 0, and the fourth of the weights
    np.testing.assert_allclose(1 / factors[used], found["x"][used] ** 0.25 / weights[used] ** 0.75, rtol=1e-5)
    np.testing.assert_array_equal(factors[[1, 3]], 1)
    before = {one.name: onnx.numpy_helper.to_array(one) for one in graph().graph.initializer}
    for name, layer in (("w1", "a"), ("w2", "b")):
        np.testing.assert_allclose(constants[f"{name}_{layer}"] * factors[:, None, None], before[name], rtol=1e-5)
