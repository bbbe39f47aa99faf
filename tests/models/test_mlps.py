"""The MLPs equal the formulas of their papers and timm's layers, and cost what the plain one does."""

import re
from functools import partial

import pytest
import timm
import torch
from timm.layers import GlobalResponseNormMlp, GluMlp, Mlp
from timm.models.metaformer import StarReLU
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models import VARIANTS, MetaNeXtBlock
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.layers import ConvMlp
from inceptionnext_lit.models.mlps import ConvGluMlp, GrnMlp, StarReluMlp, SwiGluMlp
from tests.recipes import REPO

ALL = (ConvMlp, SwiGluMlp, ConvGluMlp, GrnMlp, StarReluMlp)
ROWS = {row.name: row for row in VARIANTS}
each = pytest.mark.parametrize("mlp", ALL, ids=lambda mlp: mlp.__name__)


def images(channels: int = 12, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, channels, 5, 6, dtype=dtype, generator=torch.Generator().manual_seed(1))


def filled(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return module.double().eval()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ConvMlp(12, 20), Mlp(12, 20, use_conv=True)),
        (SwiGluMlp(12, 10), GluMlp(12, 20, act_layer=nn.SiLU, use_conv=True, gate_last=False)),
        (GrnMlp(12, 20), GlobalResponseNormMlp(12, 20, use_conv=True)),
        (StarReluMlp(12, 20), Mlp(12, 20, act_layer=StarReLU, use_conv=True)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_it_is_timms_layer_with_the_same_names(ours: nn.Module, theirs: nn.Module) -> None:
    filled(ours)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(images()), theirs.double()(images()))


def test_convolutional_glu_is_the_formula() -> None:
    mlp = filled(ConvGluMlp(12, 10))
    weights = mlp.state_dict()
    gate, value = functional.conv2d(images(), weights["fc1.weight"], weights["fc1.bias"]).split(10, dim=1)
    gate = functional.conv2d(gate, weights["dwconv.weight"], weights["dwconv.bias"], padding=1, groups=10)
    expected = functional.conv2d(functional.gelu(gate) * value, weights["fc2.weight"], weights["fc2.bias"])
    torch.testing.assert_close(mlp(images()), expected)


def test_grn_compares_the_norms_of_channels() -> None:
    grn = GrnMlp(2, 2).grn
    x = torch.tensor([[[[3.0, 4.0]], [[0.0, 15.0]]]])  # norms 5 and 15, so the contrasts are 0.5 and 1.5
    torch.testing.assert_close(grn(x), x, rtol=0, atol=0)
    with torch.no_grad():
        grn.weight.copy_(torch.tensor([1.0, 2.0]))
        grn.bias.copy_(torch.tensor([10.0, 20.0]))
    torch.testing.assert_close(grn(x), torch.tensor([[[[14.5, 16.0]], [[20.0, 80.0]]]]))


@each
def test_scale_multiplies_the_output(mlp: type[ConvMlp]) -> None:
    module, scale = filled(mlp(12, 10)), torch.linspace(-1, 2, 12, dtype=torch.float64)
    torch.testing.assert_close(module(images(), scale), module(images()) * scale.reshape(-1, 1, 1))


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_in_half_precision_and_close(mlp: type[ConvMlp], dtype: torch.dtype) -> None:
    module, x = filled(mlp(12, 10)).float(), images(dtype=torch.float32) / 4
    with torch.autocast("cpu", dtype):
        half = module(x)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), module(x), rtol=0.1, atol=0.1)


@each
def test_deploy_folds_norm_and_layer_scale_exactly(mlp: type[ConvMlp]) -> None:
    block = filled(MetaNeXtBlock(16, mlp_layer=mlp, mlp_ratio=1.5, drop_path=0.2))
    folded = deploy(block)
    assert isinstance(folded.norm, nn.Identity)
    assert folded.gamma is None
    assert sum(p.numel() for p in folded.parameters()) == sum(p.numel() for p in block.parameters()) - 3 * 16
    torch.testing.assert_close(folded(images(16)), block(images(16)), rtol=1e-9, atol=1e-9)


def test_deploy_keeps_what_is_around_an_mlp_of_another_kind() -> None:
    class Own(nn.Module):
        def __init__(self, dim: int, hidden: int) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Conv2d(dim, hidden, 1), nn.Conv2d(hidden, dim, 1)

        def forward(self, x: Tensor, scale: Tensor | None) -> Tensor:
            return self.fc2(self.fc1(x.tanh())) * scale.reshape(-1, 1, 1)

    block = filled(MetaNeXtBlock(16, mlp_layer=Own))
    torch.testing.assert_close(deploy(block)(images(16)), block(images(16)), rtol=0, atol=0)


def test_a_dilated_stage_dilates_an_mlp_that_mixes_positions() -> None:
    sizes = {"depths": (1, 1, 1, 1), "dims": (16, 16, 16, 16)}
    model = timm.create_model("inceptionnext_tiny_convglu", output_stride=8, **sizes)
    assert [stage.blocks[0].mlp.dwconv.dilation[0] for stage in model.stages] == [1, 1, 2, 4]
    assert [stage.blocks[0].mlp.dwconv.padding[0] for stage in model.stages] == [1, 1, 2, 4]
    timm.create_model("inceptionnext_tiny_swiglu", output_stride=8, **sizes)
    own = timm.create_model("inceptionnext_tiny", output_stride=8, mlp_layer=partial(ConvGluMlp), **sizes)
    assert own.stages[3].blocks[0].mlp.dwconv.dilation == (4, 4)


@pytest.mark.parametrize("parent", ["inceptionnext_tiny", "inceptionnext_iso_small"])
@pytest.mark.parametrize("mlp", ["swiglu", "convglu", "grn", "starrelu"])
def test_the_budget_is_the_parents(parent: str, mlp: str) -> None:
    own, plain = ROWS[f"{parent}_{mlp}"], ROWS[parent]
    assert own.params_m == pytest.approx(plain.params_m, rel=0.01)
    assert own.macs_g == pytest.approx(plain.macs_g, rel=0.01)


def test_the_page_on_mlps_has_an_example_that_runs() -> None:
    page = (REPO / "docs/develop/add-a-mixer.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(import timm.*?)```", page, re.DOTALL)
    names: dict[str, nn.Module] = {}
    with torch.device("meta"):
        exec(code, names)
    parameters = sum(p.numel() for p in names["model"].parameters()) / 1e6
    assert parameters == pytest.approx(ROWS["inceptionnext_nano"].params_m, rel=0.01)
