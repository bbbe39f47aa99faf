"""The operations of Core ML's programs, computed with torch, since Core ML itself runs on a Mac only.

Only what classifiers need is here, as Apple's reference of MIL describes it. It checks what is in a file: its
operations, their parameters, and the weights.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import first_line

Operation = Callable[..., Any]


def run(program: Any, given: Tensor) -> list[Tensor]:
    """Compute the outputs of a program.

    Args:
        program: A program of coremltools with one input, as it reads it from a file.
        given: The input.

    Raises:
        UserError: If it has an operation, or a form of one, that is not here.
    """
    function = program.functions["main"]
    (name,) = function.inputs
    values: dict[str, Any] = {name: given}
    for operation in function.operations:
        if operation.op_type == "const":
            continue
        if operation.op_type not in OPERATIONS:
            raise _refusal(operation, "it is not known here")
        arguments = {key: _value(one, values) for key, one in operation.inputs.items() if one is not None}
        try:
            found = OPERATIONS[operation.op_type](**arguments)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise _refusal(operation, first_line(error)) from error
        for output, value in zip(operation.outputs, found if isinstance(found, tuple) else (found,), strict=True):
            values[output.name] = value
    return [values[output.name] for output in function.outputs]


def _refusal(operation: Any, reason: str) -> UserError:
    return UserError(
        f"The Core ML file cannot be checked here, since its operation {operation.op_type} cannot be computed: "
        f"{reason}; choose another --format."
    )


def _value(one: Any, values: Mapping[str, Any]) -> Any:
    """Return an argument: a computed tensor, a constant, or several of them."""
    if isinstance(one, list | tuple):
        return [_value(part, values) for part in one]
    if one.name in values:
        return values[one.name]
    if isinstance(one.val, str | bool):
        return one.val
    found = torch.as_tensor(one.val)
    return found.tolist() if one.val is not None and not found.is_floating_point() else found


def _numbers(values: Any, dtype: torch.dtype) -> Tensor:
    """Return a tensor of an operand, which may be a list of whole numbers."""
    return values if isinstance(values, Tensor) else torch.tensor(values, dtype=dtype)


def _binary(function: Operation) -> Operation:
    def compute(x: Any, y: Any) -> Any:
        dtype = next((one.dtype for one in (x, y) if isinstance(one, Tensor)), torch.int32)
        return function(_numbers(x, dtype), _numbers(y, dtype))

    return compute


def _unary(function: Operation) -> Operation:
    return lambda x: function(x)


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    if pad_type.startswith("same"):
        pad = []
        for side, kernel, stride, dilation in zip(x.shape[2:], weight.shape[2:], strides, dilations, strict=True):
            total = max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
            before = total - total // 2 if pad_type == "same_lower" else total // 2
            pad = [*pad, before, total - before]
    elif pad_type == "valid":
        pad = [0] * len(pad)
    padded = functional.pad(x, _reversed_pairs(pad))
    return functional.conv2d(padded, weight, bias, tuple(strides), 0, tuple(dilations), groups)


def _reversed_pairs(pad: Sequence[int]) -> list[int]:
    """Return pads in the order of torch, from the last axis to the first."""
    return [pad[place + side] for place in range(len(pad) - 2, -1, -2) for side in (0, 1)]


def _max_pool(
    x: Tensor, kernel_sizes: Sequence[int], strides: Sequence[int], pad_type: str = "valid", pad: Sequence[int] = ()
) -> Tensor:
    padded = functional.pad(x, _reversed_pairs(pad), value=-torch.inf) if pad_type == "custom" else x
    return functional.max_pool2d(padded, tuple(kernel_sizes), tuple(strides))


def _avg_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    pad_type: str = "valid",
    pad: Sequence[int] = (),
    exclude_padding_from_average: bool = False,
) -> Tensor:
    pads = _reversed_pairs(pad if pad_type == "custom" else [0] * 4)
    found = functional.avg_pool2d(functional.pad(x, pads), tuple(kernel_sizes), tuple(strides))
    if not exclude_padding_from_average:
        return found
    return found / functional.avg_pool2d(functional.pad(torch.ones_like(x), pads), tuple(kernel_sizes), tuple(strides))


def _layer_norm(x: Tensor, axes: Sequence[int], gamma: Any = 1.0, beta: Any = 0.0, epsilon: Any = 1e-5) -> Tensor:
    mean = x.mean(dim=tuple(axes), keepdim=True)
    variance = (x - mean).square().mean(dim=tuple(axes), keepdim=True)
    found: Tensor = (x - mean) / (variance + epsilon).sqrt() * gamma + beta
    return found


def _channel_norm(
    x: Tensor, mean: Tensor, variance: Tensor, gamma: Any = None, beta: Any = None, epsilon: Any = 1e-5
) -> Tensor:
    def expanded(values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (x.ndim - 2))

    found: Tensor = (x - expanded(mean)) / (expanded(variance) + epsilon).sqrt()
    found = found if gamma is None else found * expanded(gamma)
    return found if beta is None else found + expanded(beta)


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    sides = [x.shape[place] if side == 0 else side for place, side in enumerate(shape)]
    return x.reshape(sides)


def _slice_by_index(
    x: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    for axis in reversed(range(x.ndim)):
        if squeeze_mask is not None and squeeze_mask[axis]:
            x = x.select(axis, begin[axis])
            continue
        first = None if begin_mask is not None and begin_mask[axis] else begin[axis]
        last = None if end_mask is not None and end_mask[axis] else end[axis]
        step = 1 if stride is None else stride[axis]
        x = x.index_select(axis, torch.arange(x.shape[axis])[first:last][:: abs(step)])
        x = x.flip(axis) if step < 0 else x
    return x


def _slice_by_size(x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


def _split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Any = None) -> tuple[Tensor, ...]:
    sizes = x.shape[axis] // num_splits if num_splits is not None else [int(size) for size in split_sizes]
    return tuple(torch.split(x, sizes, axis))


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * (1.702 * x).sigmoid()
    return functional.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def _pad(x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: Any = 0.0) -> Tensor:
    if mode != "constant":
        return functional.pad(x, _reversed_pairs(pad), mode="replicate" if mode == "replicate" else mode)
    return functional.pad(x, _reversed_pairs(pad), value=float(constant_val))


def _squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _reduction(function: Operation) -> Operation:
    def compute(x: Tensor, axes: Sequence[int] | None = None, keep_dims: bool = False) -> Tensor:
        found: Tensor = function(x, dim=tuple(range(x.ndim) if axes is None else axes), keepdim=keep_dims)
        return found

    return compute


_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "int32": torch.int32, "bool": torch.bool}
_BINARY: dict[str, Operation] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}
_UNARY: dict[str, Operation] = {
    "abs": torch.abs,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "identity": torch.clone,
    "logical_not": torch.logical_not,
    "relu": torch.relu,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tanh": torch.tanh,
}
OPERATIONS: dict[str, Operation] = {
    **{name: _binary(function) for name, function in _BINARY.items()},
    **{name: _unary(function) for name, function in _UNARY.items()},
    "avg_pool": _avg_pool,
    "batch_norm": _channel_norm,
    "cast": lambda x, dtype: x.to(_DTYPES[dtype]),
    "clip": lambda x, alpha, beta: x.clamp(float(alpha), float(beta)),
    "concat": lambda values, axis, interleave=False: torch.cat(values, axis),
    "conv": _conv,
    "expand_dims": _expand_dims,
    "gelu": _gelu,
    "inverse": lambda x, epsilon=1e-4: 1 / (x + epsilon),
    "layer_norm": _layer_norm,
    "leaky_relu": lambda x, alpha: functional.leaky_relu(x, float(alpha)),
    "linear": functional.linear,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "pad": _pad,
    "reduce_max": _reduction(torch.amax),
    "reduce_mean": _reduction(torch.mean),
    "reduce_sum": _reduction(torch.sum),
    "reshape": _reshape,
    "rsqrt": lambda x, epsilon=1e-12: (x + epsilon).rsqrt(),
    "select": lambda cond, a, b: torch.where(cond, a, b),
    "sigmoid_hard": lambda x, alpha=0.2, beta=0.5: (x * alpha + beta).clamp(0, 1),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "softmax": lambda x, axis=-1: x.softmax(axis),
    "split": _split,
    "squeeze": _squeeze,
    "tile": lambda x, reps: x.repeat(reps),
    "transpose": lambda x, perm: x.permute(perm),
}
