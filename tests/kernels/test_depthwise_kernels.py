"""The kernels in Triton's interpreter, against torch's convolutions in double precision."""

import pytest
import torch

from inceptionnext_lit.models.kernels.operators import depthwise
from tests.kernels.convolutions import Case, error, kernel, plain, results

pytestmark = pytest.mark.usefixtures("interpreter")
SQUARE, ROW, COLUMN = (3, 3), (1, 11), (11, 1)
INCEPTION = (SQUARE, ROW, COLUMN)
CASES = [
    Case((2, 40, 9, 7), 5, INCEPTION),  # channels that no block divides, and positions that no chunk divides
    Case((1, 24, 13, 11), 4, (SQUARE, ROW)),
    Case((1, 24, 13, 11), 4, (SQUARE, COLUMN)),
    Case((1, 24, 13, 11), 4, (ROW, COLUMN)),
    Case((1, 16, 10, 12), 4, (SQUARE, (1, 7), (7, 1))),
    Case((1, 16, 10, 12), 4, (SQUARE, (1, 13), (13, 1))),
    Case((1, 48, 6, 5), 3, INCEPTION),
    Case((1, 15, 6, 5), 5, INCEPTION),  # no identity
    Case((3, 9, 1, 1), 2, INCEPTION),
    Case((1, 9, 1, 17), 2, INCEPTION),
    Case((1, 9, 17, 1), 2, INCEPTION),
    Case((1, 10, 9, 10), 10, ((7, 7),)),
    Case((1, 72, 3, 4), 70, ((5, 5),)),  # several blocks of channels
    Case((5, 8, 9, 7), 4, (COLUMN,)),  # several blocks of positions and chunks
]
HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_torchs_in_double_precision(case: Case) -> None:
    exact = results(plain, case.tensors(torch.float64))
    for found, value in zip(results(kernel, case.tensors()), exact, strict=True):
        assert error(found, value) < 1e-5


def test_sums_in_double_precision() -> None:
    tensors = CASES[0].tensors(torch.float64)
    for found, value in zip(results(kernel, tensors), results(plain, tensors), strict=True):
        torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("case", CASES[:1] + CASES[-3:-2], ids=str)
def test_half_precision_is_as_exact_as_torchs(case: Case, dtype: torch.dtype) -> None:
    exact = results(plain, case.tensors(torch.float64))
    ours, theirs = results(kernel, case.tensors(dtype)), results(plain, case.tensors(dtype))
    for found, other, value in zip(ours, theirs, exact, strict=True):
        assert found.dtype == dtype
        assert error(found, value) <= 1.5 * error(other, value) + 1e-9


@pytest.mark.parametrize("dtype", HALF)
def test_parameters_are_not_rounded_to_the_maps_dtype(dtype: torch.dtype) -> None:
    case = CASES[0]
    x, *parameters, grad = case.tensors()
    parameters = [parameter + torch.randn_like(parameter) / 500 for parameter in parameters]
    exact = results(plain, [tensor.double() for tensor in (x, *parameters, grad)])
    found = results(kernel, [x.to(dtype), *parameters, grad.to(dtype)])
    assert [tensor.dtype for tensor in found] == [dtype, dtype, *[torch.float32] * 6]
    for tensor, value in list(zip(found, exact, strict=True))[:2]:
        assert error(tensor, value) < torch.finfo(dtype).eps
    for tensor, value in list(zip(found, exact, strict=True))[2:]:
        assert error(tensor, value) < 1e-5


def test_each_run_has_the_same_gradients() -> None:
    tensors = CASES[-1].tensors()
    for first, second in zip(results(kernel, tensors), results(kernel, tensors), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["contiguous", "channels_last", "part", "reversed"])
def test_any_layout_of_the_map_and_of_the_gradient(form: str) -> None:
    case = CASES[0]
    x, *parameters, grad = case.tensors()
    expected = results(plain, [tensor.double() for tensor in (x, *parameters, grad)])
    layouts = {
        "contiguous": lambda t: t.clone(),
        "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
        "part": lambda t: torch.cat((t, t), dim=1)[:, : t.shape[1]],
        "reversed": lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    }
    lay = layouts[form]
    assert torch.equal(lay(x), x)
    found = results(kernel, [lay(x), *parameters, lay(grad)])
    for tensor, value in zip(found, expected, strict=True):
        assert error(tensor, value) < 1e-5
    assert found[0].stride() == found[1].stride() == x.contiguous(memory_format=torch.channels_last).stride()


def test_a_constant_gradient_without_memory_of_its_own() -> None:
    x, *parameters, _ = CASES[0].tensors()
    leaves = [tensor.requires_grad_() for tensor in (x, *parameters)]
    found = torch.autograd.grad(kernel(*leaves).sum(), leaves)
    expected = torch.autograd.grad(plain(*leaves).sum(), leaves)
    for tensor, value in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, value, rtol=1e-4, atol=1e-4)


def test_an_empty_batch() -> None:
    x, *parameters, _ = Case((0, 8, 5, 5), 2, (SQUARE, ROW)).tensors()
    assert kernel(x, *parameters).shape == (0, 8, 5, 5)


def test_kernels_of_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 3 kernels of the same width with odd sides"):
        depthwise(torch.zeros(1, 8, 4, 4), [torch.zeros(2, 1, 3, 3), torch.zeros(3, 1, 3, 3)], [torch.zeros(2)] * 2)
