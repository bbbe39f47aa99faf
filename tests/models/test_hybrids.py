"""InceptionDWConv2d in MetaFormer and Swin: the rest is timm's models, and the cost is theirs."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.models.metaformer import Attention, LayerNorm2dNoBias, LayerNormNoBias, MetaFormer, SepConv
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import HYBRIDS, InceptionDWConv2d, Variant
from inceptionnext_lit.models.cost import count_model
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.hybrids import HybridMetaFormer, HybridSwin, InceptionSwinBlock
from tests.recipes import REPO

Build = Callable[..., nn.Module]
ROWS = {row.name: row for row in HYBRIDS}
PARENTS = {  # parameters (M) and multiply-adds (G), counted like ours
    "convformer_s18_inception": ("convformer_s18", 26.77, 3.9593),
    "caformer_s18_inception": ("caformer_s18", 26.34, 4.1252),
    "swin_tiny_inception": ("swin_tiny_patch4_window7_224", 28.29, 4.5092),
    "swin_tiny_inception_stages12": ("swin_tiny_patch4_window7_224", 28.29, 4.5092),
}
SHRUNK: dict[type, dict[str, Any]] = {
    HybridMetaFormer: {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 64)},
    HybridSwin: {"depths": (1, 1, 2, 1), "embed_dim": 16, "num_heads": (1, 2, 2, 4), "window_size": 3, "img_size": 48},
}
WIDTHS = {HybridMetaFormer: [16, 24, 32, 64], HybridSwin: [16, 32, 64, 128]}
IMAGE = torch.linspace(-2, 2, 2 * 3 * 48 * 64).sin().reshape(2, 3, 48, 64)


@pytest.fixture(params=HYBRIDS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Variant:
    return request.param


@pytest.fixture
def shrunk(row: Variant) -> Build:
    def build(**kwargs: Any) -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model(row.name, **{**SHRUNK[row.form], **kwargs})

    return build


def mixers(model: nn.Module) -> list[str]:
    """Return the class of each stage's mixers."""
    stages = model.stages if isinstance(model, MetaFormer) else model.layers
    kinds = [{type(getattr(b, "token_mixer", None) or b.attn).__name__ for b in stage.blocks} for stage in stages]
    return [kind for [kind] in kinds]


def test_mixers_of_the_stages() -> None:
    inception, attention = ["MetaFormerInception", "InceptionDWConv2d"], ["Attention", "WindowAttention"]
    with torch.device("meta"):
        found = {name: mixers(timm.create_model(name)) for name in ROWS}
    assert found == {
        "convformer_s18_inception": [inception[0]] * 4,
        "caformer_s18_inception": [inception[0]] * 2 + [attention[0]] * 2,
        "swin_tiny_inception": [inception[1]] * 4,
        "swin_tiny_inception_stages12": [inception[1]] * 2 + [attention[1]] * 2,
    }


def test_the_budget_is_the_parents(row: Variant) -> None:
    _, params, macs = PARENTS[row.name]
    assert row.params_m == pytest.approx(params, rel=0.02)
    assert row.macs_g == pytest.approx(macs, rel=0.02)


def test_the_table_has_these_numbers(row: Variant) -> None:
    parent, params, macs = PARENTS[row.name]
    stages = "all" if row.args.get("mixers") is None else "1 and 2"
    line = (
        f"| `{row.name}` | {row.image_size} | {row.params_m:.2f} | {row.macs_g:#.3g} | {stages} | `{parent}` | "
        f"{params:.2f} | {macs:#.3g} |"
    )
    assert line in (REPO / "docs/models.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "params", "macs"), sorted(set(PARENTS.values())))
def test_the_parents_cost(name: str, params: float, macs: float) -> None:
    total = count_model(name)[0].total
    assert (round(total.params / 1e6, 2), round(total.macs / 1e9, 4)) == (params, macs)


def test_full_size_model_has_the_rows_config_and_shapes(row: Variant) -> None:
    with torch.device("meta"):
        model = timm.create_model(row.name).eval()
        assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)
    cfg = model.pretrained_cfg
    assert (cfg["crop_pct"], cfg["pool_size"]) == (row.crop_pct, (7, 7))
    assert isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv2d)
    assert model.get_submodule(cfg["classifier"]).out_features == 1000


def test_other_mixers_are_timms_metaformer() -> None:
    sizes = {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 64), "num_classes": 3}
    ours = HybridMetaFormer(mixers=("conv", "conv", "attention", "attention"), **sizes).eval()
    theirs = MetaFormer(
        token_mixers=[SepConv, SepConv, Attention, Attention],
        norm_layers=[LayerNorm2dNoBias] * 2 + [LayerNormNoBias] * 2,
        **sizes,
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(IMAGE), theirs(IMAGE), rtol=0, atol=0)


def test_other_mixers_are_timms_swin() -> None:
    sizes = {**SHRUNK[HybridSwin], "num_classes": 3}
    ours = HybridSwin(mixers=("attention",) * 4, **sizes).eval()
    theirs = SwinTransformer(**sizes, dynamic_img_size=True).eval()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(IMAGE), theirs(IMAGE), rtol=0, atol=0)


def test_swins_block_is_the_formula() -> None:
    torch.manual_seed(0)
    theirs = SwinTransformerBlock(16, (6, 6), num_heads=2, window_size=3, drop_path=0.3)
    block = InceptionSwinBlock(theirs).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 5, 7, 16)
    mixed = block.token_mixer(block.norm1(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    expected = x + mixed + block.mlp(block.norm2(x + mixed))
    torch.testing.assert_close(block(x), expected)
    assert (block.drop_path1.drop_prob, block.drop_path2.drop_prob) == (0.3, 0.3)


def test_features_only(shrunk: Build, row: Variant) -> None:
    body = shrunk(features_only=True).eval()
    maps = body(IMAGE)
    assert (body.feature_info.reduction(), body.feature_info.channels()) == ([4, 8, 16, 32], WIDTHS[row.form])
    assert [m.shape for m in maps] == [
        (2, width, *size) for width, size in zip(WIDTHS[row.form], [(12, 16), (6, 8), (3, 4), (2, 2)], strict=True)
    ]
    (last,) = shrunk(features_only=True, out_indices=(3,)).eval()(IMAGE)
    torch.testing.assert_close(last, maps[3], rtol=0, atol=0)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 96)])
def test_any_image_size(shrunk: Build, size: tuple[int, int]) -> None:
    assert shrunk(num_classes=3).eval()(torch.randn(1, 3, *size)).isfinite().all()


def test_channels(shrunk: Build, row: Variant) -> None:
    model = shrunk(in_chans=1, num_classes=4).eval()
    assert model.get_submodule(row.form.first_conv).weight.shape[1] == 1
    assert model(IMAGE[:, :1]).shape == (2, 4)
    with pytest.raises(UserError, match=r"^The images have 3 channels, but this model was built for 1\.$"):
        model(IMAGE)


def test_too_small_an_image_is_a_users_error() -> None:
    model = HybridMetaFormer(**SHRUNK[HybridMetaFormer]).eval()
    assert model(IMAGE[..., :3, :3]).isfinite().all()
    with pytest.raises(UserError, match="An image of 2×3 pixels is too small: this model needs at least 3×3"):
        model(IMAGE[..., :2, :3])


def test_classifier(shrunk: Build) -> None:
    model = shrunk().eval()
    pooled = model.forward_head(model.forward_features(IMAGE), pre_logits=True)
    model.reset_classifier(0)
    torch.testing.assert_close(model(IMAGE), pooled, rtol=0, atol=0)
    model.reset_classifier(7)
    assert model(IMAGE).shape == (2, 7)


def test_stochastic_depth_rises_linearly(shrunk: Build) -> None:
    paths = [module for name, module in shrunk(drop_path_rate=0.2).named_modules() if name.endswith("drop_path1")]
    rates = [getattr(path, "drop_prob", 0.0) for path in paths]
    assert rates == pytest.approx([0.2 * i / 4 for i in range(5)])


def test_parameters_are_grouped_by_depth(shrunk: Build) -> None:
    model = shrunk()
    groups = group_parameters(model, model.group_matcher())
    assert sorted(name for names in groups.values() for name in names) == sorted(dict(model.named_parameters()))
    assert len(groups) == 1 + 5 + 1  # stem, blocks, norm and head
    assert all(name.startswith(("stem", "patch_embed")) for name in groups[0])
    assert all(name.startswith(("norm", "head")) for name in groups[6])
    assert len(group_parameters(model, model.group_matcher(coarse=True))) == 1 + 4 + 1


def test_checkpointing_gives_the_same_gradients(shrunk: Build) -> None:
    plain, checkpointed = shrunk(num_classes=5), shrunk(num_classes=5)
    checkpointed.set_grad_checkpointing()
    for model in (plain, checkpointed):
        model.train()(IMAGE).square().sum().backward()
    for (key, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert a.grad is not None, key
        torch.testing.assert_close(b.grad, a.grad, rtol=0, atol=0, msg=key)


def test_initial_values(shrunk: Build) -> None:
    for module in shrunk().modules():
        if isinstance(module, InceptionDWConv2d):
            weights = torch.cat([conv.weight.flatten() for conv in module.children()])
            assert weights.abs().max() < 0.1  # normal with deviation 0.02, unlike torch's own
            assert all((conv.bias == 0).all() for conv in module.children())


def test_the_inference_form_has_the_same_outputs(shrunk: Build) -> None:
    model = shrunk(num_classes=3).eval()
    torch.testing.assert_close(deploy(model)(IMAGE), model(IMAGE))


def test_bfloat16_stays_close_to_float32(shrunk: Build) -> None:
    model = shrunk(num_classes=3).eval()
    with torch.autocast("cpu", torch.bfloat16):
        half: Tensor = model(IMAGE)
    torch.testing.assert_close(half.float(), model(IMAGE), rtol=0.1, atol=0.02)


@pytest.mark.parametrize("name", ["swin_tiny_inception", "swin_tiny_inception_stages12"])
def test_swin_takes_another_input_size(name: str) -> None:
    model = timm.create_model(name, num_classes=3, **SHRUNK[HybridSwin]).eval()
    before = model(IMAGE)
    model.set_input_size(img_size=(64, 96))
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 3)
    if name == "swin_tiny_inception":  # without windows, the size has no effect
        torch.testing.assert_close(model(IMAGE), before, rtol=0, atol=0)


@pytest.mark.parametrize("form", [HybridMetaFormer, HybridSwin])
def test_impossible_mixers_are_refused(form: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="unknown mixer 'pool'; the mixers are inception, "):
        form(mixers=("pool", "attention", "inception", "inception"))
    with pytest.raises(ValueError, match="3 mixers for 4 stages"):
        form(mixers=("inception",) * 3)


def test_a_misspelled_argument_fails(shrunk: Build) -> None:
    with pytest.raises(TypeError, match="drop_path_rte"):
        shrunk(drop_path_rte=0.1)
