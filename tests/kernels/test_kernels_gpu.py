"""Kernels on a CUDA device at their real sizes; run python -m pytest -m gpu."""

import copy
from collections.abc import Iterator

import pytest
import timm
import torch
from torch import Tensor, nn

from tests.kernels.convolutions import Case, error, kernel, plain, results

pytestmark = pytest.mark.gpu
INCEPTION = ((3, 3), (1, 11), (11, 1))
CASES = [
    Case((16, 96, 56, 56), 12, INCEPTION),
    Case((16, 192, 28, 28), 24, INCEPTION),
    Case((16, 384, 14, 14), 48, INCEPTION),
    Case((16, 768, 7, 7), 96, INCEPTION),
    Case((3, 40, 57, 55), 10, ((3, 3), (1, 9), (9, 1))),
    Case((2, 96, 14, 14), 6, INCEPTION),
    Case((2, 96, 14, 14), 24, ((1, 11), (11, 1))),
    Case((2, 96, 14, 14), 12, ((3, 3), (1, 13), (13, 1))),
    Case((5, 41, 1, 1), 5, INCEPTION),
    Case((16, 96, 56, 56), 96, ((7, 7),)),
    Case((16, 384, 14, 14), 384, ((7, 7),)),
    Case((4, 96, 28, 28), 48, ((3, 3),)),
]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Without TF32, in which torch's convolutions would round float32."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_as_exact_as_torchs(case: Case, dtype: torch.dtype) -> None:
    exact = results(plain, [tensor.cuda() for tensor in case.tensors(torch.float64)])
    tensors = [tensor.cuda() for tensor in case.tensors(dtype)]
    ours, theirs, again = results(kernel, tensors), results(plain, tensors), results(kernel, tensors)
    for found, other, value, second in zip(ours, theirs, exact, again, strict=True):
        assert found.dtype == dtype
        assert error(found, value) <= max(1.5 * error(other, value), 1e-5)
        torch.testing.assert_close(second, found, rtol=0, atol=0)


def test_offsets_beyond_32_bits() -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < 20 * 2**30:
        pytest.skip("needs 20 GB of free memory")
    x = torch.zeros((240, 96, 320, 320), dtype=torch.bfloat16, device="cuda", memory_format=torch.channels_last)
    assert x.numel() > 2**31
    torch.manual_seed(0)
    x[-1] = torch.randn_like(x[-1])
    parameters = [tensor.cuda().bfloat16() for tensor in Case((1, 96, 1, 1), 12, INCEPTION).tensors()[1:-1]]
    with torch.inference_mode():
        torch.testing.assert_close(kernel(x, *parameters)[-1:], plain(x[-1:], *parameters), rtol=0.02, atol=0.02)


def use_kernels(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "kernels"):
            module.kernels = "triton"
    return model


def step(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and all gradients of a training step under autocast."""
    model.zero_grad()
    labels = torch.arange(len(images), device="cuda") % 10
    with torch.autocast("cuda", torch.bfloat16):
        loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    grads = [parameter.grad.flatten().float() for parameter in model.parameters() if parameter.grad is not None]
    return loss.detach(), torch.cat(grads)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["inceptionnext_tiny", "inceptionnext_iso_small", "convnext_tiny_k5"])
def test_a_training_step_in_bfloat16(name: str, checkpointing: bool, compiled: bool) -> None:
    if compiled and (checkpointing or name == "convnext_tiny_k5"):
        pytest.skip("compiling takes minutes")
    torch.compiler.reset()
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).cuda().to(memory_format=torch.channels_last).train()
    model.set_grad_checkpointing(checkpointing)
    for key, parameter in model.named_parameters():
        if key.endswith("gamma"):
            nn.init.constant_(parameter, 0.1)  # at 1e-6, the blocks have no influence
    images = torch.randn(16, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
    other = use_kernels(copy.deepcopy(model))
    loss, grads = step(model, images)
    found, others = step(torch.compile(other, fullgraph=True) if compiled else other, images)
    torch.testing.assert_close(found, loss, rtol=0.01, atol=0.01)
    assert torch.cosine_similarity(others, grads, dim=0) > 0.98
    for (key, tensor), value in zip(other.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(tensor, value, rtol=0.05, atol=0.05, msg=key)


@pytest.mark.parametrize("mode", ["eager", "default", "reduce-overhead"])
def test_inference_in_bfloat16(mode: str) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    model = timm.create_model("inceptionnext_tiny").cuda().bfloat16().to(memory_format=torch.channels_last).eval()
    images = torch.randn(8, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    other = use_kernels(copy.deepcopy(model))
    with torch.inference_mode():
        expected = model(images)
        run = other if mode == "eager" else torch.compile(other, mode=mode, fullgraph=True)
        for _ in range(3):
            found = run(images)
    assert torch.cosine_similarity(found.float(), expected.float(), dim=1).min() > 0.999
