"""How each operator of a traced graph is counted, as extensions of fvcore's handles."""

import warnings
from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts a loss with torch.jit on import
    from fvcore.nn.activation_count import _DEFAULT_SUPPORTED_OPS as ACTIVATION_HANDLES
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as FLOP_HANDLES
    from fvcore.nn.jit_handles import get_shape, norm_flop_counter

_Values = list[Any]  # inputs or outputs of an operator in the traced graph
Handle = Callable[[_Values, _Values], Any]  # fvcore's function for an operator; returns a number or a Counter

# Elementwise operations, reductions, pooling windows, resizing, and copies that fvcore does not ignore by itself.
# fmt: off
_FREE = (
    "_upsample_bicubic2d_aa", "abs", "adaptive_max_pool1d", "adaptive_max_pool2d", "add", "add_", "addcmul", "alias",
    "amax", "avg_pool1d", "avg_pool2d", "ceil", "clamp_max", "clamp_min", "clone", "col2im", "cos", "cumsum", "div",
    "div_", "dropout_", "elu", "erf", "exp", "exp_", "expand_as", "eye", "feature_dropout", "fill_", "flip", "floor_",
    "floor_divide", "frobenius_norm", "gelu", "glu", "hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_",
    "hardtanh", "hardtanh_", "im2col", "leaky_relu", "leaky_relu_", "linalg_vector_norm", "log", "log_softmax",
    "logaddexp", "lt", "max_pool1d", "max_pool2d", "maximum", "mean", "meshgrid", "minimum", "mish", "mul", "mul_",
    "ne", "neg", "neg_", "new_ones", "norm", "one_hot", "ones_like", "pad", "pixel_shuffle", "pixel_unshuffle", "pow",
    "prelu", "reciprocal", "relu6", "repeat", "repeat_interleave", "reshape_as", "round", "round_", "rsqrt", "rsub",
    "sigmoid", "sigmoid_", "silu", "silu_", "sin", "softmax", "softplus", "sqrt", "square", "std", "std_mean", "sub",
    "sub_", "sum", "swapaxes", "tanh", "tile", "topk", "unflatten", "unfold", "upsample_bicubic2d",
    "upsample_bilinear2d", "upsample_nearest2d", "var", "var_mean", "view_as", "where",
)
# fmt: on


def _attention(inputs: _Values, outputs: _Values) -> Counter[str]:
    """Count fused attention: the scores QKᵀ and their product with V, as attention counts if it is not fused."""
    query, key, value = (get_shape(tensor) for tensor in inputs[:3])  # each (…, length, features)
    scores = prod(query[:-1]) * key[-2]
    return Counter(macs=scores * (query[-1] + value[-1]), activations=scores + prod(get_shape(outputs[0])))


def _batched_product(inputs: _Values, outputs: _Values) -> Counter[str]:
    """Count ``baddbmm``, which multiplies its second and third inputs."""
    size = prod(get_shape(outputs[0]))
    return Counter(macs=size * get_shape(inputs[1])[-1], activations=size)


def _same_convolution(inputs: _Values, outputs: _Values) -> Counter[str]:
    """Count a convolution whose padding is given by name; its weight is (out, in / groups, …)."""
    size = prod(get_shape(outputs[0]))
    return Counter(macs=size * prod(get_shape(inputs[1])[1:]), activations=size)


def _joined(flops: Handle, activations: Handle | None) -> Handle:
    """Combine two of fvcore's handles, so that one run of the model gives both counts."""

    def handle(inputs: _Values, outputs: _Values) -> Counter[str]:
        results = flops(inputs, outputs), activations(inputs, outputs) if activations else 0
        # fvcore's handles return a number, or a Counter with one entry
        numbers = [sum(result.values()) if isinstance(result, Counter) else result for result in results]
        return Counter(macs=numbers[0], activations=numbers[1])

    return handle


HANDLES: dict[str, Handle | None] = {
    **{name: _joined(flops, ACTIVATION_HANDLES.get(name)) for name, flops in FLOP_HANDLES.items()},
    **{f"aten::{name}": None for name in _FREE},
    "aten::scaled_dot_product_attention": _attention,
    "aten::rms_norm": _joined(norm_flop_counter(2), None),
    "aten::baddbmm": _batched_product,
    "aten::_convolution_mode": _same_convolution,
}
"""fvcore's handle of each operator; None for those that are free."""
