"""The kernels as operators of torch: their registrations, by torch's own checks."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from inceptionnext_lit.models.kernels import operators
from inceptionnext_lit.models.kernels.operators import depthwise, depthwise_with_moments
from tests.kernels.convolutions import Case, kernel, plain, results

CASE = Case((2, 10, 4, 3), 2, ((3, 3), (1, 5), (5, 1)))
SIZES = [3, 3, 1, 5, 5, 1]
FAST = ("test_schema", "test_autograd_registration", "test_faketensor")
OPERATORS = ["depthwise", "depthwise_with_moments", "depthwise_input_grad", "depthwise_weight_grads"]


def arguments(name: str, dtype: torch.dtype, requires_grad: bool) -> tuple[object, ...]:
    torch.manual_seed(0)
    maps = [torch.randn(CASE.shape, dtype=dtype).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    taps = torch.randn(9 + 5 + 5 + 3, CASE.width)
    if name == "depthwise_weight_grads":
        return *maps, CASE.width, SIZES
    if name == "depthwise_input_grad":
        return maps[0], taps, SIZES
    return maps[0].requires_grad_(requires_grad), taps.requires_grad_(requires_grad), SIZES


@pytest.fixture(params=["torch", "triton"])
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "triton":
        request.getfixturevalue("interpreter")
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "grad"), [*itertools.product(OPERATORS[:2], [False, True]), (OPERATORS[2], False), (OPERATORS[3], False)]
)
def test_registrations(name: str, grad: bool, dtype: torch.dtype, form: str) -> None:
    torch.library.opcheck(
        getattr(torch.ops.inceptionnext_lit, name).default, arguments(name, dtype, grad), test_utils=FAST
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_registrations_for_changing_sizes(name: str, form: str) -> None:
    torch.compiler.reset()
    tests = ("test_aot_dispatch_dynamic",)
    operator = getattr(torch.ops.inceptionnext_lit, name).default
    torch.library.opcheck(operator, arguments(name, torch.float32, name in OPERATORS[:2]), test_utils=tests)


def test_gradients_are_those_of_finite_differences(form: str) -> None:
    x, *parameters, _ = Case((1, 5, 3, 2), 1, ((3, 3), (1, 3), (3, 1))).tensors(torch.float64)
    assert gradcheck(kernel, [tensor.requires_grad_() for tensor in (x, *parameters)], fast_mode=form == "triton")


def test_both_forms_agree(request: pytest.FixtureRequest) -> None:
    expected = results(kernel, CASE.tensors(torch.float64))
    for found, value in zip(results(plain, CASE.tensors(torch.float64)), expected, strict=True):
        torch.testing.assert_close(found, value)
    request.getfixturevalue("interpreter")
    for found, value in zip(results(kernel, CASE.tensors(torch.float64)), expected, strict=True):
        torch.testing.assert_close(found, value)
        assert found.stride() == value.stride()


def test_frozen_parameters_keep_no_map_and_take_no_gradient(form: str) -> None:
    x, *parameters, grad = CASE.tensors()
    out = kernel(x.requires_grad_(), *parameters)
    assert out.grad_fn.saved_tensors[0] is None
    (found,) = torch.autograd.grad(out, [x], grad)
    (expected,) = torch.autograd.grad(plain(x, *parameters), [x], grad)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_map_without_gradient(form: str) -> None:
    x, *parameters, grad = CASE.tensors()
    leaves = [parameter.requires_grad_() for parameter in parameters]
    found = torch.autograd.grad(kernel(x, *leaves), leaves, grad)
    expected = torch.autograd.grad(plain(x, *leaves), leaves, grad)
    for tensor, value in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, value, rtol=1e-4, atol=1e-4)


def test_a_second_derivative_is_refused() -> None:
    x, *parameters, _ = CASE.tensors()
    (grad,) = torch.autograd.grad(kernel(x.requires_grad_(), *parameters).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="depthwise_input_grad"):
        grad.sum().backward()


def test_moments_are_those_of_the_rounded_outputs(form: str) -> None:
    x, *parameters, _ = Case((3, 20, 13, 11), 4, ((3, 3), (1, 5), (5, 1))).tensors()
    weights, biases = parameters[:3], [bias + 1000 for bias in parameters[3:]]  # much larger than the deviations
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 1e-4), (torch.float64, 1e-12)):
        y, mean, variance = depthwise_with_moments(x.to(dtype), weights, biases)
        torch.testing.assert_close(y, depthwise(x.to(dtype), weights, biases), rtol=0, atol=0)
        exact_variance, exact_mean = torch.var_mean(y.double(), (0, 2, 3), correction=0)
        torch.testing.assert_close(mean.double(), exact_mean, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(variance.double(), exact_variance, rtol=tolerance, atol=tolerance)


def test_moments_have_no_gradients(form: str) -> None:
    x, *parameters, grad = CASE.tensors()
    leaves = [tensor.requires_grad_() for tensor in (x, *parameters)]
    y, mean, variance = depthwise_with_moments(leaves[0], leaves[1:4], leaves[4:])
    assert (y.requires_grad, mean.requires_grad, variance.requires_grad) == (True, False, False)
    expected = torch.autograd.grad(plain(*leaves), leaves, grad)
    for found, value in zip(torch.autograd.grad(y, leaves, grad), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)


def test_maps_with_too_many_positions_are_left_to_torch(interpreter: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "_MAX_POSITIONS", 2)
    x, *parameters, _ = CASE.tensors()
    torch.testing.assert_close(kernel(x, *parameters), plain(x, *parameters), rtol=1e-4, atol=1e-5)
    assert "inceptionnext_lit.models.kernels.depthwise" not in sys.modules


@pytest.mark.slow
def test_models_import_no_kernels() -> None:
    names = {path.stem for path in Path(operators.__file__).parent.glob("*.py")} - {"__init__"}
    script = "import sys, inceptionnext_lit.models; print(*(n for n in sys.modules if '.kernels.' in n))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in done.stdout.split() if name.startswith("inceptionnext_lit")}
    assert names - loaded >= {"depthwise", "moments", "weight_grads"}
    assert "operators" in loaded


def test_a_graph_of_the_operator_runs_without_triton() -> None:
    def step(x: Tensor, *parameters: Tensor) -> Tensor:
        return kernel(x, *parameters)

    torch.compiler.reset()
    x, *parameters, _ = CASE.tensors()
    found = torch.compile(step, backend="aot_eager", fullgraph=True)(x, *parameters)
    torch.testing.assert_close(found, plain(x, *parameters), rtol=1e-4, atol=1e-5)
