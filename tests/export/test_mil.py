"""Operations of Core ML, computed with torch."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.mil import OPERATIONS, run


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def apply(name: str, **arguments: Any) -> Any:
    return OPERATIONS[name](**arguments)


X = random(2, 4, 7, 9)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            lambda: apply(
                "conv", x=X, weight=random(4, 1, 3, 5), strides=[2, 1], pad=[1, 1, 2, 2], pad_type="custom", groups=4
            ),
            lambda: functional.conv2d(X, random(4, 1, 3, 5), None, (2, 1), (1, 2), groups=4),
        ),
        (
            lambda: apply("conv", x=X, weight=random(3, 4, 2, 3), bias=random(3), pad_type="same"),
            lambda: functional.conv2d(X, random(3, 4, 2, 3), random(3), padding="same"),
        ),
        (lambda: apply("conv", x=X, weight=random(3, 4, 7, 9)), lambda: functional.conv2d(X, random(3, 4, 7, 9))),
        (
            lambda: apply("avg_pool", x=X, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1] * 4),
            lambda: functional.avg_pool2d(X, 3, 2, 1),
        ),
        (
            lambda: apply(
                "avg_pool", x=X, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1] * 4,
                exclude_padding_from_average=True,
            ),
            lambda: functional.avg_pool2d(X, 3, 2, 1, count_include_pad=False),
        ),
        (
            lambda: apply("max_pool", x=X, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1] * 4),
            lambda: functional.max_pool2d(X, 3, 2, 1),
        ),
        (
            lambda: apply("layer_norm", x=X, axes=[-1], gamma=random(9), beta=random(9), epsilon=torch.tensor(1e-6)),
            lambda: functional.layer_norm(X, [9], random(9), random(9), 1e-6),
        ),
        (
            lambda: apply("batch_norm", x=X, mean=random(4), variance=random(4).abs(), gamma=random(4), epsilon=1e-3),
            lambda: functional.batch_norm(X, random(4), random(4).abs(), random(4), None, eps=1e-3),
        ),
        (lambda: apply("gelu", x=X, mode="TANH_APPROXIMATION"), lambda: nn.GELU("tanh")(X)),
        (lambda: apply("gelu", x=X), lambda: nn.GELU()(X)),
        (
            lambda: apply(
                "slice_by_index", x=X, begin=[0, 1, 2, 5], end=[2, 0, 6, 9], stride=[1, 1, 2, 1],
                begin_mask=[False, False, False, True], end_mask=[False] * 4, squeeze_mask=[False, True, False, False],
            ),
            lambda: X[0:2, 1, 2:6:2, :9],
        ),
        (lambda: apply("slice_by_size", x=X, begin=[0, 1, 0, 0], size=[2, 2, -1, 9]), lambda: X[:, 1:3]),
        (lambda: apply("reshape", x=X, shape=[0, 4, -1]), lambda: X.flatten(2)),
        (lambda: apply("expand_dims", x=X, axes=[0, -1]), lambda: X[None, ..., None]),
        (lambda: apply("squeeze", x=X[:1], axes=[0]), lambda: X[0]),
        (lambda: apply("split", x=X, axis=1, split_sizes=[1, 3])[1], lambda: X[:, 1:]),
        (lambda: apply("split", x=X, axis=1, num_splits=2)[1], lambda: X[:, 2:]),
        (lambda: apply("matmul", x=X, y=random(3, 9), transpose_y=True), lambda: X @ random(3, 9).T),
        (lambda: apply("reduce_mean", x=X, axes=[2, 3], keep_dims=True), lambda: X.mean((2, 3), keepdim=True)),
        (lambda: apply("pad", x=X, pad=[0, 0, 0, 0, 1, 0, 0, 2]), lambda: functional.pad(X, (0, 2, 1, 0))),
        (lambda: apply("pow", x=X, y=2), lambda: X**2),
        (lambda: apply("tile", x=X[:, :1], reps=[1, 3, 1, 1]), lambda: torch.cat([X[:, :1]] * 3, 1)),
        (lambda: apply("rsqrt", x=X.abs(), epsilon=1e-3), lambda: 1 / (X.abs() + 1e-3).sqrt()),
    ],
)  # fmt: skip
def test_operations(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found(), expected())


def variable(name: str, value: Any = None) -> SimpleNamespace:
    return SimpleNamespace(name=name, val=value)


def program(*operations: SimpleNamespace) -> SimpleNamespace:
    function = SimpleNamespace(inputs={"images": None}, operations=operations, outputs=operations[-1].outputs)
    return SimpleNamespace(functions={"main": function})


def operation(kind: str, output: str, **inputs: Any) -> SimpleNamespace:
    return SimpleNamespace(op_type=kind, inputs=inputs, outputs=[variable(output)])


def test_a_program() -> None:
    given = variable("images")
    made = program(
        operation("const", "unused"),
        operation("transpose", "turned", x=given, perm=variable("perm", [0, 2, 3, 1]), name=None),
        operation("concat", "both", values=(variable("turned"), variable("turned")), axis=variable("axis", -1)),
        operation("mul", "scaled", x=variable("both"), y=variable("scale", 0.5)),
    )
    (found,) = run(made, X)
    turned = X.permute(0, 2, 3, 1)
    torch.testing.assert_close(found, torch.cat((turned, turned), -1) / 2)


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"its operation lstm cannot be computed: it is not known here; choose another --format\.$"
    ):
        run(program(operation("lstm", "x", x=variable("images"))), X)
    with pytest.raises(
        UserError, match=r"its operation relu cannot be computed: .*unexpected keyword argument 'alpha'"
    ):
        run(program(operation("relu", "x", x=variable("images"), alpha=variable("a", 1.0))), X)
