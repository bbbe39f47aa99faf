"""The block: LayerScale in the last weights, and autocast."""

import pytest
import timm
import torch
from torch import Tensor, nn

from inceptionnext_lit.models import MetaNeXtBlock


def block(**options: object) -> MetaNeXtBlock:
    torch.manual_seed(0)
    made = MetaNeXtBlock(16, ls_init_value=0.5, **options)  # type: ignore[arg-type]
    nn.init.uniform_(made.gamma, 0.2, 2)
    return made


def plain(module: MetaNeXtBlock, x: Tensor) -> Tensor:
    """The paper's formula, written out."""
    mlp = module.mlp
    branch = mlp.fc2(mlp.act(mlp.fc1(module.norm(module.token_mixer(x)))))
    return x + module.gamma.reshape(1, -1, 1, 1) * branch


def test_outputs_and_gradients_are_those_of_a_scaled_branch() -> None:
    module, x = block().double(), torch.randn(3, 16, 6, 6, dtype=torch.float64)
    grads = []
    for run in (module, lambda images: plain(module, images)):
        images = x.clone().requires_grad_()
        out = run(images)
        module.zero_grad()
        (out * torch.arange(out.numel()).reshape(out.shape)).sum().backward()
        grads.append([out.detach(), images.grad, *(p.grad.clone() for p in module.parameters())])
    assert len(grads[0]) == 2 + len(list(module.parameters()))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_replacement_of_the_last_layer_is_called() -> None:
    class Adapted(nn.Module):
        def __init__(self, base: nn.Conv2d) -> None:
            super().__init__()
            self.weight, self.bias, self.base = base.weight, base.bias, base

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + 1.0

    module, x = block().eval(), torch.randn(2, 16, 6, 6)
    before = module(x)
    module.mlp.fc2 = Adapted(module.mlp.fc2)
    torch.testing.assert_close(module(x), before + module.gamma.reshape(1, -1, 1, 1))


@pytest.mark.parametrize("depth", [18, 36])
def test_without_layer_scale_the_sum_stays_in_single_precision_too(depth: int) -> None:
    """Isotropic models: the error of a half-precision sum grows with the number of blocks."""
    torch.manual_seed(0)
    model = timm.create_model("inceptionnext_iso_micro", depth=depth).eval()
    images = torch.randn(4, 3, 28, 28)
    exact = model.forward_features(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.forward_features(images)
    assert found.dtype == torch.float32

    def halved(block: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].bfloat16(),)

    for block in model.blocks:
        block.register_forward_pre_hook(halved)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.forward_features(images)
    assert (found - exact).norm() < 0.8 * (rounded - exact).norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_sum_over_blocks_in_single_precision(dtype: torch.dtype) -> None:
    module, x = block().eval(), torch.randn(2, 16, 6, 6)
    nn.init.constant_(module.gamma, 1e-6)  # times a weight of 0.02, this is 0 in float16
    with torch.autocast("cpu", dtype):
        mixed = module.token_mixer(x)
        out = module(x.to(dtype))
    assert mixed.dtype == dtype
    assert out.dtype == torch.float32
    added, expected = out - x.to(dtype).float(), plain(module, x.double().float()) - x
    assert added.abs().max() > 0
    assert torch.nn.functional.cosine_similarity(added.flatten(), expected.flatten(), dim=0) > 0.9
