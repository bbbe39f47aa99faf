"""The inference form of each row has the same outputs, with nontrivial statistics and LayerScales."""

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from torch import Tensor, nn

from inceptionnext_lit.models import VARIANTS, IsotropicMetaNeXt, MetaNeXt, Variant
from inceptionnext_lit.models.deploy import deploy
from tests.without_float64 import WithoutFloat64

SMALL = {
    MetaNeXt: {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 40)},
    IsotropicMetaNeXt: {"dim": 48, "depth": 2},
}
ROWS = {row.name: row for row in VARIANTS}


def narrow(row: Variant, **options: object) -> nn.Module:
    """A row's model with few channels and blocks, and values in every norm and LayerScale."""
    model = timm.create_model(row.name, num_classes=5, drop_path_rate=0.2, **(SMALL[row.form] | options)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name_, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(
                    torch.rand(tensor.shape, generator=generator) + 0.5 * ("var" in name_ or "weight" in name_)
                )
    return model


def relative_error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("row", VARIANTS, ids=lambda row: row.name)
def test_outputs_are_the_same(row: Variant) -> None:
    model = narrow(row)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images)
        folded = deploy(model)
        assert relative_error(folded(images), expected) < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not [key for key, _ in folded.named_parameters() if key.endswith("gamma")]
    assert not any(module.training for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_what_cannot_be_folded_stays() -> None:
    model = narrow(ROWS["inceptionnext_tiny"], output_stride=8)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        folded = deploy(model)
        assert relative_error(folded(images), model(images)) < 1e-5
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["stages.2.downsample.0", "stages.3.downsample.0"]


def test_a_model_of_another_family_is_copied() -> None:
    model = timm.create_model("resnet18", num_classes=3).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(deploy(model)(images), model(images)) < 1e-5


def test_layers_that_do_more_than_their_weights_say_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4)),
        nn.Sequential(StdConv2d(4, 4, 1), nn.BatchNorm2d(4)),
    ).eval()
    images = torch.randn(2, 3, 8, 8, generator=generator)
    with torch.no_grad():
        assert relative_error(deploy(model)(images), model(images)) < 1e-6
        adapted = narrow(ROWS["inceptionnext_tiny"])
        fc2 = adapted.stages[0].blocks[0].mlp.fc2
        adapted.stages[0].blocks[0].mlp.fc2 = nn.Sequential(fc2, nn.Tanh())
        images = torch.randn(1, 3, 64, 64, generator=generator)
        assert relative_error(deploy(adapted)(images), adapted(images)) < 1e-5


@pytest.mark.parametrize("name", ["inceptionnext_tiny", "inceptionnext_iso_small", "convnext_iso_small"])
def test_a_device_without_double_precision(name: str) -> None:
    model = narrow(ROWS[name])
    with WithoutFloat64():
        folded = deploy(model)
    expected = deploy(model).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in folded.state_dict().items())
    with pytest.raises(TypeError, match="has no float64"), WithoutFloat64():
        model.double()
