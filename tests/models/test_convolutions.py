"""Convolutions and GELU with another path on a CPU: the results equal torch's own."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from inceptionnext_lit.models.convolutions import HorizontalConv2d, autocast_dtype
from inceptionnext_lit.models.layers import Gelu2d


def plain(conv: HorizontalConv2d) -> nn.Conv2d:
    same = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )
    same.load_state_dict(conv.state_dict())
    return same.to(conv.weight.dtype)


def gradients(layer: nn.Module, images: Tensor, weights: Tensor) -> list[Tensor]:
    images = images.detach().requires_grad_()
    out = layer(images)
    (out * weights).sum().backward()
    return [out.detach(), images.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kernel", "dilation", "size"), [(11, 1, (9, 14)), (11, 1, (7, 7)), (3, 2, (5, 8)), (5, 1, (6, 1))]
)
def test_rows_have_the_gradients_of_a_plain_convolution(
    kernel: int, dilation: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    conv = HorizontalConv2d(6, kernel, padding=dilation * (kernel // 2), dilation=dilation).double()
    images = torch.randn(3, 6, *size, dtype=torch.double).contiguous(memory_format=memory_format)
    weights = torch.randn_like(images)
    expected = gradients(plain(conv), images, weights)
    for ours, theirs in zip(gradients(conv, images, weights), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_rows_can_be_differentiated_twice() -> None:
    conv = HorizontalConv2d(2, 3, padding=1).double()
    images = torch.randn(2, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(conv, images)
    assert torch.autograd.gradgradcheck(conv, images)


def test_rows_have_gradients_per_sample() -> None:
    conv = HorizontalConv2d(2, 3, padding=1).double()
    parameters = {name: value.detach() for name, value in conv.named_parameters()}
    images = torch.randn(4, 2, 3, 5, dtype=torch.double)

    def loss(values: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(conv, values, (image[None],)).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(parameters, images)
    alone = [grad(loss)(parameters, image) for image in images]
    for name in parameters:
        torch.testing.assert_close(each[name], torch.stack([one[name] for one in alone]), rtol=1e-12, atol=1e-12)


def test_rows_have_a_weight_gradient_where_the_images_have_none() -> None:
    conv = HorizontalConv2d(2, 3, padding=1)
    images = torch.randn(2, 2, 3, 4)
    conv(images).square().sum().backward()
    expected = plain(conv)
    expected(images).square().sum().backward()
    for ours, theirs in zip(conv.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)


def test_rows_follow_autocast() -> None:
    conv = HorizontalConv2d(8, 5, padding=2)
    images = torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(images)
        expected = plain(conv)(images)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    out.float().sum().backward()
    assert images.grad is not None
    assert (images.grad.dtype, conv.weight.grad.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(("freeze", "way"), [(False, "_HorizontalConvolutionBackward"), (True, "ConvolutionBackward0")])
def test_rows_take_the_other_way_only_for_a_weight_that_is_trained(freeze: bool, way: str) -> None:
    conv = HorizontalConv2d(4, 3, padding=1).requires_grad_(not freeze)
    out = conv(torch.randn(1, 4, 3, 3, requires_grad=True))
    assert out.grad_fn is not None
    assert out.grad_fn.name() == way


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gelu_is_torchs_in_values_gradients_and_layout(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = (3 * torch.randn(2, 16, 5, 7)).to(dtype).contiguous(memory_format=memory_format)
    weights = torch.randn_like(images)
    ours, ours_grad = gradients(Gelu2d(), images, weights)
    theirs, theirs_grad = gradients(nn.GELU(), images, weights)
    assert ours.is_contiguous(memory_format=memory_format)
    step = torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0  # another kernel may round differently
    torch.testing.assert_close(ours, theirs, rtol=step, atol=step)
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=2 * step, atol=2 * step)


def test_the_dtype_of_autocast() -> None:
    image = torch.zeros(1)
    assert autocast_dtype(image) == torch.float32
    assert autocast_dtype(image.double()) == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_dtype(image) == torch.bfloat16
        assert autocast_dtype(image.double()) == torch.float64


def test_copies_and_pickles_keep_the_layer() -> None:
    conv = HorizontalConv2d(4, 7, padding=3, dilation=1)
    images = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(copy.deepcopy(conv)(images), conv(images), rtol=0, atol=0)
