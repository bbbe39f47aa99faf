"""Speed of matrix products in the runtimes of exported files: the bound of the models that they run.

Those of ONNX Runtime and OpenVINO are chains, as in a model: bytes or floats go from one product to the next, in the
precision of both.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from inceptionnext_lit.reports.benchmark.case import Product

_SECONDS = 0.2
_PAIRS = 2  # products of a chain: from the inner dimension to the columns, and back
_SCALE = 0.05  # between an integer and its value


def _seconds_per_run(run: Callable[[], object]) -> float:
    run()
    started, steps = time.perf_counter(), 0
    while True:
        run()
        steps += 1
        if (elapsed := time.perf_counter() - started) >= _SECONDS:
            return elapsed / steps


def _weights(inner: int, columns: int, precision: str) -> list[np.ndarray]:
    """Return the matrices of a chain, (in, out)."""
    random = np.random.default_rng(0)
    shapes = [(inner, columns), (columns, inner)] * _PAIRS
    if precision == "int8":
        return [random.integers(-127, 128, shape, np.int8) for shape in shapes]
    return [random.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5) for shape in shapes]


def time_openvino(product: Product, *, precision: str, threads: int) -> float:
    """Return the seconds of a product in OpenVINO.

    Args:
        product: Rows, inner dimension and columns.
        precision: ``fp32``, ``bf16`` or ``int8``.
        threads: CPU threads.
    """
    import openvino
    from openvino import opset13

    rows, inner, columns = product
    is_int8 = precision == "int8"
    images = opset13.parameter([rows, inner], np.float32)
    value: Any = images
    for weight in _weights(inner, columns, precision):
        matrix: Any = opset13.constant(weight)
        if is_int8:
            top = np.float32(127 * _SCALE)
            value = opset13.fake_quantize(value, -top, top, -top, top, 255)
            matrix = opset13.multiply(opset13.convert(matrix, np.float32), np.float32(_SCALE))
        value = opset13.matmul(value, matrix, False, False)
    total = opset13.reduce_max(value, np.array([1]), True)  # so that the last result need not be copied
    hint = "bf16" if precision == "bf16" else "f32"
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(openvino.Model([total], [images]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.random.default_rng(0).standard_normal((rows, inner), np.float32)))
    return _seconds_per_run(request.infer) / (2 * _PAIRS)


def time_onnx(product: Product, *, precision: str, threads: int) -> float:
    """Return the seconds of a product in ONNX Runtime.

    Args:
        product: Rows, inner dimension and columns.
        precision: ``fp32`` or ``int8``.
        threads: CPU threads.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rows, inner, columns = product
    is_int8 = precision == "int8"
    weights = _weights(inner, columns, precision)
    constants = [numpy_helper.from_array(weight, f"weight{number}") for number, weight in enumerate(weights)]
    if is_int8:
        scalars = {"scale": np.float32(_SCALE), "zero": np.uint8(128), "weight_zero": np.int8(0)}
        constants += [numpy_helper.from_array(np.array(value), name) for name, value in scalars.items()]
    nodes = []
    for number in range(len(weights)):
        source, target = f"value{number}", f"value{number + 1}"
        if is_int8:
            left, right = [source, "scale", "zero"], [f"weight{number}", "scale", "weight_zero"]
            nodes.append(helper.make_node("QLinearMatMul", [*left, *right, "scale", "zero"], [target]))
        else:
            nodes.append(helper.make_node("MatMul", [source, f"weight{number}"], [target]))
    kind = TensorProto.UINT8 if is_int8 else TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, [rows, inner]) for name in ("value0", f"value{len(weights)}")]
    graph = helper.make_graph(nodes, "products", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (rows, inner), np.uint8) if is_int8 else random.standard_normal((rows, inner))
    given = {"value0": images.astype(np.uint8 if is_int8 else np.float32)}
    return _seconds_per_run(lambda: session.run(None, given)) / (2 * _PAIRS)


def time_torch(product: Product, *, precision: str, threads: int) -> float:
    """Return the seconds of a product in torch.

    Args:
        product: Rows, inner dimension and columns.
        precision: ``fp32``.
        threads: CPU threads.
    """
    import torch

    rows, inner, columns = product
    torch.set_num_threads(threads)
    left, right = torch.randn(rows, inner), torch.randn(columns, inner)
    with torch.inference_mode():
        return _seconds_per_run(lambda: torch.nn.functional.linear(left, right))


LIBRARIES: dict[tuple[str, str], Callable[..., float]] = {
    **{("openvino", precision): time_openvino for precision in ("fp32", "bf16", "int8")},
    **{("onnx", precision): time_onnx for precision in ("fp32", "int8")},
    **{(name, "fp32"): time_torch for name in ("pt2", "aoti")},
}
"""The functions above by the format of the files, and the precision."""
