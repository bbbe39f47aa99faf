"""The count against formulas written from the architectures' numbers, and against torch's own counter."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.cost import (
    DECODERS,
    STRIDES,
    Cost,
    Count,
    _count_decoder,
    build_model,
    count,
    count_model,
    count_segmenter,
)
from inceptionnext_lit.models.decoders import SemanticFPN, UperNet
from inceptionnext_lit.reports.budget.paper import PaperRow
from inceptionnext_lit.reports.budget.report import BudgetRow, judge

CLASSES = 1000
FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class Apply(nn.Module):
    """Apply a function to a tensor."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def isotropic(dim: int, depth: int, patch: int, side: int, mixer: Cost, norm: tuple[int, int]) -> Cost:
    """An isotropic model: stem, blocks of a mixer, a norm and an MLP, pooling, LayerNorm and head.

    The norm is its parameters per channel and its operations per element.
    """
    positions = (side // patch) ** 2
    stem = Cost(3 * patch**2 * dim + dim, positions * 3 * patch**2 * dim, positions * dim)
    mlp = Cost(8 * dim**2 + 5 * dim, positions * 8 * dim**2, positions * 5 * dim)
    normed = Cost(norm[0] * dim, norm[1] * positions * dim, 0)
    pooling = Cost(0, positions * dim, 0)
    last = Cost(2 * dim, 5 * dim, 0)
    head = Cost(dim * CLASSES + CLASSES, dim * CLASSES, CLASSES)
    return sum([mixer, normed, mlp] * depth, stem) + pooling + last + head


def inception(dim: int, positions: int) -> Cost:
    """An eighth of the channels in each branch; kernels of 3×3, 1×11 and 11×1."""
    branch, taps = dim // 8, 9 + 11 + 11
    return Cost(branch * (taps + 3), positions * branch * taps, positions * branch * 3)


def depthwise(dim: int, positions: int) -> Cost:
    """One kernel of 7×7 on every channel."""
    return Cost(dim * (49 + 1), positions * dim * 49, positions * dim)


def attention(dim: int, positions: int, heads: int) -> Cost:
    """Query, key, value and output projections; scores, and their product with the values."""
    scores = positions**2
    return Cost(4 * dim**2 + 4 * dim, positions * 4 * dim**2 + 2 * scores * dim, 5 * positions * dim + heads * scores)


BATCH_NORM, LAYER_NORM = (2, 2), (2, 5)
FORMULAS = {
    "inceptionnext_iso_small": isotropic(384, 18, 16, 224, inception(384, 196), BATCH_NORM),
    "inceptionnext_iso_nano": isotropic(96, 6, 4, 28, inception(96, 49), BATCH_NORM),
    "convnext_iso_small": isotropic(384, 18, 16, 224, depthwise(384, 196), LAYER_NORM),
    # a position embedding costs parameters alone
    "metanext_attn_small": isotropic(384, 12, 16, 224, attention(384, 196, 6), LAYER_NORM) + Cost(384 * 196, 0, 0),
    "metanext_attn_nano": isotropic(96, 6, 4, 28, attention(96, 49, 3), LAYER_NORM) + Cost(96 * 49, 0, 0),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_count_is_the_closed_formula_s(name: str) -> None:
    assert count_model(name)[0].total == FORMULAS[name]


def test_a_count_is_the_closed_formula_s_at_another_size() -> None:
    found, size = count_model("inceptionnext_iso_nano", (56, 56))
    assert size == (56, 56)
    assert found.total == isotropic(96, 6, 4, 56, inception(96, 196), BATCH_NORM)


@pytest.mark.slow
def test_attention_costs_the_same_fused_and_not(unfused: None) -> None:
    plain, _ = build_model("deit_small_patch16_224")
    assert not plain.blocks[0].attn.fused_attn
    set_fused_attn(True)
    fused, _ = build_model("deit_small_patch16_224")
    assert fused.blocks[0].attn.fused_attn
    image = torch.zeros(1, 3, 224, 224)
    assert count(plain, image).total == count(fused, image).total


@pytest.mark.parametrize(
    ("name", "depth", "tokens"),
    [pytest.param("deit_small_patch16_224", 12, 197, marks=pytest.mark.slow), ("metanext_attn_small", 12, 196)],
)
def test_without_its_handle_fused_attention_would_be_missed(name: str, depth: int, tokens: int) -> None:
    model, _ = build_model(name)
    image = torch.zeros(1, 3, 224, 224)
    found = count(model, image)
    default = FlopCountAnalysis(model, image).unsupported_ops_warnings(False)
    missed = depth * 2 * tokens**2 * 384
    assert default.total() == found.total.macs - missed
    assert missed > 0.07 * found.total.macs
    assert default.unsupported_ops()["aten::scaled_dot_product_attention"] == depth
    assert f"{found.total.macs / 1e9:.1f}" == "4.6"
    assert found.uncounted == {}


def fused_flops(query: list[int], key: list[int], value: list[int], *_: Any, **__: Any) -> int:
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def counted_again(model: nn.Module, image: Tensor) -> int:
    """Products by torch's counter, and norms and global pooling by hooks."""
    factors = {_BatchNorm: 2, nn.LayerNorm: 5, nn.GroupNorm: 5, nn.AdaptiveAvgPool2d: 1}
    small = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal small
        small += inputs[0].numel() * next((f for kind, f in factors.items() if isinstance(module, kind)), 0)

    hooks = [module.register_forward_hook(add) for module in model.modules()]
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping={FUSED: fused_flops}) as counter:
        model(image)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2 + small  # torch counts a multiply-add as two


@pytest.mark.parametrize(
    "name",
    [
        "inceptionnext_tiny",
        pytest.param("inceptionnext_tiny_sequential", marks=pytest.mark.slow),
        "inceptionnext_iso_small",
        pytest.param("convnext_tiny_k3_par3_8", marks=pytest.mark.slow),
        "metanext_attn_small",
        "deit_small_patch16_224",
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
        "resnet50",
        pytest.param("regnety_040", marks=pytest.mark.slow),
        pytest.param("poolformer_s24", marks=pytest.mark.slow),
        "pvt_v2_b0",
    ],
)
def test_torch_s_own_counter_agrees(name: str) -> None:
    model, size = build_model(name)
    image = torch.zeros(1, 3, *size)
    found = count(model, image)
    assert found.uncounted == {}
    assert found.total.macs == counted_again(model, image)


@pytest.mark.parametrize(
    ("function", "operators"),
    [
        (lambda x: torch.fft.rfft(x).abs(), {"aten::fft_rfft": 1}),
        (lambda x: torch.cdist(x, x) + torch.cdist(x, 2 * x), {"aten::cdist": 2}),
        (lambda x: torch.linalg.solve(x, x), {"aten::linalg_solve": 1}),
        (lambda x: torch.addbmm(x[0], x, x), {"aten::addbmm": 1}),
        (lambda x: torch.mv(x[0], x[0, 0]), {"aten::mv": 1}),
    ],
)
def test_uncounted_arithmetic_is_named(function: Callable[[Tensor], Tensor], operators: dict[str, int]) -> None:
    found = count(nn.Sequential(nn.Linear(8, 8), Apply(function)), torch.eye(8).repeat(2, 1, 1))
    assert found.uncounted == operators
    assert found.total.macs == 2 * 8 * 8 * 8  # the Linear


def test_a_count_with_a_gap_fails() -> None:
    found = count(Apply(lambda x: torch.cdist(x, x) + torch.fft.rfft(x, n=14).abs()), torch.zeros(8, 8))
    paper = PaperRow("ResNet-50", "resnet50", "0", "0.0")
    verdict = judge(found, paper)
    assert verdict == "not counted: aten::cdist (×1), aten::fft_rfft (×1)"
    for line in (paper, None):
        row = BudgetRow("ResNet-50", "resnet50", (8, 8), found.total, line, None, judge(found, line))
        assert row.verdict == verdict
        assert row.failed


def test_work_of_a_few_operations_per_element_is_free() -> None:
    def work(x: Tensor) -> Tensor:
        x = F.gelu(x).softmax(1) * x.sigmoid() + F.max_pool2d(x, 3, 1, 1) / F.avg_pool2d(x, 3, 1, 1)
        return F.interpolate(F.silu(x) - x.mean(), scale_factor=2, mode="bilinear")

    found = count(Apply(work), torch.ones(1, 4, 6, 6))
    assert found.uncounted == {}
    assert found.total == Cost(0, 0, 0)


def test_the_sum_of_a_tensor_and_a_batch_of_products() -> None:
    tensors = torch.zeros(2, 3, 5), torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)
    found = count(Apply(torch.baddbmm), *tensors)
    assert found == Count(Cost(0, 2 * 3 * 4 * 5, 2 * 3 * 5), found.modules, {})


def test_attention_with_other_lengths_and_widths_of_the_keys() -> None:
    tensors = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 7, 4)
    found = count(Apply(F.scaled_dot_product_attention), *tensors).total
    plain = count(Apply(lambda q, k, v: q.matmul(k.transpose(2, 3)).softmax(3).matmul(v)), *tensors).total
    assert found == plain == Cost(0, 2 * 3 * 5 * 7 * (8 + 4), 2 * 3 * 5 * (7 + 4))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # on a map of 5×7 positions with 4 channels
        (nn.Conv2d(4, 6, 3, padding="same"), Cost(222, 35 * 6 * 4 * 9, 35 * 6)),
        (nn.Conv2d(4, 6, 3, padding="valid"), Cost(222, 15 * 6 * 4 * 9, 15 * 6)),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), Cost(114, 35 * 6 * 2 * 9, 35 * 6)),
        (nn.Conv2d(4, 6, 3, padding="same", groups=2), Cost(114, 35 * 6 * 2 * 9, 35 * 6)),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4, bias=False), Cost(36, 12 * 4 * 9, 12 * 4)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), Cost(222, 35 * 4 * 6 * 9, 11 * 15 * 6)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), Cost(114, 35 * 4 * 3 * 9, 11 * 15 * 6)),
    ],
)
def test_convolutions_of_every_kind(layer: nn.Module, expected: Cost) -> None:
    found = count(layer, torch.zeros(1, 4, 5, 7))
    assert found.total == expected
    assert found.uncounted == {}


def numbers(cost: Cost) -> tuple[int, int, int]:
    return cost.params, cost.macs, cost.activations


def own_work(found: Count) -> dict[str, Cost]:
    """Return what modules with children do outside of them."""
    rest = {}
    for name, cost in found.modules.items():
        children = [child for child in found.modules if child and child.rpartition(".")[0] == name]
        inside = [numbers(found.modules[child]) for child in children]
        own = [whole - sum(parts) for whole, *parts in zip(numbers(cost), *inside, strict=True)]
        if children and any(own):
            rest[name] = Cost(*own)
    return rest


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("inceptionnext_iso_nano", {}),
        (
            "metanext_attn_nano",
            {"": Cost(96 * 49, 0, 0)}  # the position embedding
            | {f"blocks.{i}.token_mixer": Cost(0, 2 * 49**2 * 96, 3 * 49**2 + 49 * 96) for i in range(6)},
        ),
        (
            "inceptionnext_nano",  # LayerScale
            {
                f"stages.{i}.blocks.{j}": Cost(dim, 0, 0)
                for i, (depth, dim) in enumerate([(1, 32), (1, 64), (3, 128), (1, 256)])
                for j in range(depth)
            },
        ),
    ],
)
def test_modules_add_up(name: str, own: dict[str, Cost]) -> None:
    found, _ = count_model(name)
    assert found.modules[""] == found.total
    assert own_work(found) == own


@pytest.mark.parametrize("form", [UperNet, SemanticFPN])
def test_a_decoder_s_count_is_that_at_the_full_size(form: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    name, channels, size = f"small {form.__name__}", (8, 12, 16, 20), (256, 512)
    monkeypatch.setitem(DECODERS, name, partial(form, width=24))
    maps = [torch.zeros(1, dim, size[0] // s, size[1] // s) for dim, s in zip(channels, STRIDES, strict=True)]
    direct = count(form(channels, width=24).eval(), maps)
    found = _count_decoder(name, channels, size)
    assert found.total == direct.total
    assert found.uncounted == direct.uncounted == {}


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("inceptionnext_nano", (0, 1, 2, 3)),
        pytest.param("resnet18", (1, 2, 3, 4), marks=pytest.mark.slow),
        pytest.param("poolformer_s12", (0, 1, 2, 3), marks=pytest.mark.slow),
        # where not every position costs the same, a part of the image does not tell what the whole costs
        ("pvt_v2_b0", (0, 1, 2, 3)),  # attention
        pytest.param("regnety_002", (1, 2, 3, 4), marks=pytest.mark.slow),  # squeeze and excitation
    ],
)
def test_a_segmenter_costs_what_its_parts_cost_in_one_run(name: str, levels: tuple[int, ...]) -> None:
    size = (256, 256)
    backbone: Any = build_model(name, size, features_only=True, out_indices=levels)[0]
    decoder = SemanticFPN(backbone.feature_info.channels()).eval()
    direct = count(nn.Sequential(backbone, decoder), torch.zeros(1, 3, *size))
    found = count_segmenter(name, "SemanticFPN", size)
    assert found.total == direct.total == found.modules[""]
    assert (found.modules["backbone"], found.modules["decoder"]) == (direct.modules["0"], direct.modules["1"])
    assert found.uncounted == {}


@pytest.mark.slow
def test_a_segmenter_on_a_backbone_that_is_built_for_a_size() -> None:
    size = (256, 256)
    found = count_segmenter("swin_tiny_patch4_window7_224", "UperNet", size)
    backbone, _ = build_model("swin_tiny_patch4_window7_224", size, features_only=True)
    assert found.modules["backbone"] == count(backbone, torch.zeros(1, 3, *size)).total
    assert found.modules["decoder"] == _count_decoder("UperNet", (96, 192, 384, 768), size).total
    assert found.total == found.modules["backbone"] + found.modules["decoder"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "inceptionnext_iso_nanno",
            None,
            "Unknown model 'inceptionnext_iso_nanno'. The nearest names are: inceptionnext_iso_nano, ",
        ),
        ("resnet50.x", None, "resnet50 has no weights tagged 'x'; it has a1_in1k, "),
        (
            "inceptionnext_iso_nano",
            (28, 3),
            "The model 'inceptionnext_iso_nano' cannot process images of 28×3 pixels (An image of 28×3 pixels is too "
            "small: this model needs at least 4×4); set another --image_size.",
        ),
        (
            "vgg11",
            (16, 16),
            "The model 'vgg11' cannot process images of 16×16 pixels (Given input size: (512x1x1). Calculated output "
            "size: (512x0x0). Output size is too small); set another --image_size.",
        ),
    ],
)
def test_what_cannot_be_counted_is_reported(name: str, size: tuple[int, int] | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        count_model(name, size)
    assert str(caught.value).startswith(message)


def test_a_size_that_a_model_cannot_be_built_for_is_reported() -> None:
    with pytest.raises(
        UserError, match=r"^The model 'deit_tiny_patch16_224' cannot process images of 8×8 pixels \(.+\); "
    ):
        count_model("deit_tiny_patch16_224", (8, 8))


def test_counting_changes_nothing_and_repeats_itself() -> None:
    outputs = []

    def keep(x: Tensor) -> Tensor:
        outputs.append(x)
        return x

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Apply(keep)).train()
    image = torch.ones(2, 3, 5, 5)
    first = count(model, image)
    assert first.total == Cost(112 + 8, 2 * 9 * 4 * 27 + 5 * 2 * 9 * 4, 2 * 9 * 4)  # BatchNorm: 5 in training
    assert count(model, image) == first
    assert [x.requires_grad for x in outputs] == [False, False]
    assert torch.is_grad_enabled()
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_models_are_counted_in_eval_mode() -> None:
    model, size = build_model("inceptionnext_iso_micro")
    assert size == (28, 28)
    assert not any(module.training for module in model.modules())
    assert count(model, torch.zeros(1, 3, *size)) == count_model("inceptionnext_iso_micro")[0]
