"""What timm's tools expect of a backbone, for each class of the other systems; a new class adds an entry to CASES."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import BASELINES, Variant
from inceptionnext_lit.models.baselines.focal import FocalTransformer
from inceptionnext_lit.models.baselines.googlenet import GoogLeNet, Widths
from inceptionnext_lit.models.baselines.iformer import IFormer
from inceptionnext_lit.models.baselines.pvt import PVT
from inceptionnext_lit.models.baselines.replknet import RepLKNet
from inceptionnext_lit.models.baselines.t2t_vit import T2TViT
from inceptionnext_lit.models.deploy import deploy

Build = Callable[..., nn.Module]
Randomise = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Case:
    """A small model of a class.

    Attributes:
        args: Arguments that make it small.
        strides: Strides of its levels.
        blocks: Number of its blocks.
        pool: Its default pooling.
        rounds_up: Whether a stride that does not divide a side adds a position.
        least: Sides of the smallest image.
        has_depth: Whether it has stochastic depth, and a norm of the last map.
        exported: Sizes of images for a graph of any size, the first one to capture it.
        refused: Sizes that this graph refuses, since torch.export takes a map's single row or column for a constant.
    """

    args: dict[str, Any]
    strides: tuple[int, ...]
    blocks: int
    pool: str = "avg"
    rounds_up: bool = False
    least: int = 32
    has_depth: bool = True
    exported: tuple[tuple[int, int], ...] = ((64, 96), (32, 48), (96, 64))
    refused: tuple[tuple[int, int], ...] = ()

    def grid(self, stride: int) -> tuple[int, int]:
        """Height and width of a level's map of IMAGE."""
        added = stride - 1 if self.rounds_up else 0
        return (32 + added) // stride, (48 + added) // stride


STAGES = (4, 8, 16, 32)
SEVERAL = ((64, 96), (65, 140))  # sizes for graphs that need several positions in the last map
ONE = ((32, 48), (32, 32))  # sizes with one position in the last map, or one row
WIDTHS = Widths(6, 4, 10, 3, 5, 3)
CASES: dict[type[nn.Module], Case] = {
    PVT: Case(
        dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4)),
        STAGES,
        5,
        "token",
        exported=((64, 96), (96, 64), (65, 140), (224, 224)),
        refused=ONE,
    ),
    T2TViT: Case(dict(depth=3, dim=48, num_heads=4, token_dim=16), (16, 16, 16), 3, "token", least=16),
    IFormer: Case(
        dict(depths=(1, 1, 2, 1), dims=(16, 24, 32, 40), attention_heads=(1, 1, 2, 2, 4), head_dim=8, img_size=64),
        STAGES,
        5,
        rounds_up=True,
        exported=SEVERAL,
        refused=ONE,
    ),
    GoogLeNet: Case(
        dict(stem_dims=(8, 12), modules=[[WIDTHS], [WIDTHS] * 2, [WIDTHS]]),
        STAGES,
        6,
        rounds_up=True,
        least=15,
        has_depth=False,
        exported=SEVERAL,
        refused=ONE,
    ),
    FocalTransformer: Case(
        dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4)),
        STAGES,
        4,
        exported=((288, 320), (320, 257)),  # the graph is for maps that need padding, in several windows
    ),
    RepLKNet: Case(
        dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), kernel_sizes=(13, 11, 9, 7)),
        STAGES,
        5,
        rounds_up=True,
        exported=SEVERAL,
        refused=ONE,
    ),
}
FIRST = {row.form: row for row in reversed(BASELINES)}  # of each class
IMAGE = torch.linspace(-2, 2, 2 * 3 * 32 * 48).sin().reshape(2, 3, 32, 48)


@pytest.fixture(params=[pytest.param(row, id=row.form.__name__) for row in FIRST.values()])
def row(request: pytest.FixtureRequest) -> Variant:
    """The first row of each class."""
    return request.param


@pytest.fixture
def case(row: Variant) -> Case:
    """The row's small form."""
    return CASES[row.form]


@pytest.fixture
def shrunk(row: Variant, case: Case) -> Build:
    """Build the row's model with timm, seeded and small."""

    def build(**kwargs: Any) -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model(row.name, **{**case.args, **kwargs})

    return build


def expected_shapes(case: Case, channels: list[int]) -> list[tuple[int, ...]]:
    return [(2, c, *case.grid(s)) for c, s in zip(channels, case.strides, strict=True)]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=[pytest.mark.slow] * (row not in FIRST.values())) for row in BASELINES],
    indirect=True,
)
def test_full_size_model_has_the_rows_config_and_shapes(row: Variant, case: Case) -> None:
    with torch.device("meta"):
        model = timm.create_model(row.name).eval()
        images = torch.zeros(2, 3, row.image_size, row.image_size)
        features = model.forward_features(images)
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
        assert model(images).shape == (2, 1000)
        model.reset_classifier(0, "")
        assert model(images).shape == (2, model.num_features, *model.default_cfg["pool_size"])
    cfg = model.pretrained_cfg
    assert cfg["input_size"] == (3, row.image_size, row.image_size)
    assert (cfg["crop_pct"], cfg["interpolation"], cfg["fixed_input_size"]) == (row.crop_pct, row.interpolation, False)
    assert cfg["first_conv"] is None or isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv2d)
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    model = timm.create_model(row.name, **case.args)
    assert (model.num_classes, model.in_chans, model.global_pool) == (1000, 3, case.pool)


def test_without_classes_the_model_returns_the_classifiers_input(shrunk: Build) -> None:
    model = shrunk().eval()
    logits_from = model.forward_head(model.forward_features(IMAGE), pre_logits=True)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    torch.testing.assert_close(model(IMAGE), logits_from, rtol=0, atol=0)
    headless = shrunk(num_classes=0).eval()
    assert headless.num_classes == 0
    assert headless(IMAGE).shape == (2, headless.head_hidden_size)


def test_reset_classifier_replaces_only_the_classifier(shrunk: Build, row: Variant) -> None:
    model = shrunk().eval()
    kept = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith(row.form.classifier_name)}
    model.reset_classifier(7, "max")
    assert (model.num_classes, model.global_pool) == (7, "max")
    assert model(IMAGE).shape == (2, 7)
    assert model.get_classifier().weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert not any(module.training for module in model.modules())
    now = model.state_dict()
    assert [name for name in kept if name not in now] == [name for name in kept if name.endswith("cls_token")]
    for key in kept.keys() & now.keys():
        torch.testing.assert_close(now[key], kept[key], rtol=0, atol=0)


def test_reset_classifier_keeps_the_dtype(shrunk: Build, case: Case) -> None:
    model = shrunk(global_pool="avg").double().eval()
    model.reset_classifier(5, case.pool)
    assert model(IMAGE.double()).dtype == torch.float64


def test_pooling_by_maximum_takes_the_maximum(shrunk: Build) -> None:
    model = shrunk(num_classes=0, global_pool="max").eval()
    features = model.forward_features(IMAGE)
    strongest = features.amax((2, 3), keepdim=True).expand_as(features)
    torch.testing.assert_close(model.forward_head(features), model.forward_head(strongest))


def test_without_pooling_each_position_is_classified(shrunk: Build, randomise: Randomise, case: Case) -> None:
    model = randomise(shrunk(num_classes=5, global_pool="avg")).eval()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grid = case.grid(case.strides[-1])
    features = model.forward_features(IMAGE)
    corner = model.forward_head(features[:, :, :1, :1])
    model.reset_classifier(5, "")
    model.load_state_dict(weights)
    assert (model.global_pool, model(IMAGE).shape) == ("", (2, 5, *grid))
    torch.testing.assert_close(model(IMAGE)[:, :, 0, 0], corner)
    model.reset_classifier(0)
    assert model.global_pool == ""
    torch.testing.assert_close(model(IMAGE), model.forward_head(features, pre_logits=True), rtol=0, atol=0)
    built = shrunk(num_classes=0, global_pool="").eval()
    built.load_state_dict(model.state_dict())
    torch.testing.assert_close(built(IMAGE), model(IMAGE), rtol=0, atol=0)


def test_create_model_places_and_casts(shrunk: Build) -> None:
    model = shrunk(device="meta", dtype=torch.float64, num_classes=3)
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.float64)}
    model.reset_classifier(2, "")
    assert model.get_classifier().weight.is_meta
    assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))


def test_one_input_channel(shrunk: Build, row: Variant) -> None:
    model = shrunk(in_chans=1, num_classes=4).eval()
    assert row.form.first_conv is None or model.get_submodule(row.form.first_conv).weight.shape[1] == 1
    assert model(IMAGE[:, :1]).shape == (2, 4)


def test_wrong_channel_count_is_a_users_error(shrunk: Build) -> None:
    with pytest.raises(UserError, match=r"^The images have 1 channels, but this model was built for 3\.$"):
        shrunk()(IMAGE[:, :1])


@pytest.mark.parametrize("kwargs", [{}, {"features_only": True}])
def test_too_small_an_image_is_a_users_error(shrunk: Build, case: Case, kwargs: dict[str, bool]) -> None:
    model, least = shrunk(**kwargs).eval(), case.least
    model(torch.zeros(1, 3, least, least))
    for height, width in ((least - 1, least), (least, least - 1)):
        message = f"An image of {height}×{width} pixels is too small: this model needs at least {least}×{least}."
        with pytest.raises(UserError, match=message):
            model(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 96)])
def test_any_larger_size_works(shrunk: Build, size: tuple[int, int]) -> None:
    model, images = shrunk(num_classes=3).eval(), torch.zeros(1, 3, *size)
    assert model(images).isfinite().all()
    maps = model.forward_intermediates(images, intermediates_only=True)
    assert all(one.isfinite().all() for one in maps)


def test_features_only_gives_evenly_spaced_levels(shrunk: Build, case: Case) -> None:
    body = shrunk(features_only=True).eval()
    info, maps = body.feature_info, body(IMAGE)
    assert info.reduction() == list(case.strides)
    assert [tuple(m.shape) for m in maps] == expected_shapes(case, info.channels())


def test_features_only_takes_the_levels_asked_for(shrunk: Build, randomise: Randomise) -> None:
    body = randomise(shrunk(features_only=True, out_indices=(0, 2)).eval())
    whole = shrunk().eval()
    whole.prune_intermediate_layers([0, 2])
    whole.load_state_dict({key.removeprefix("model."): value for key, value in body.state_dict().items()}, strict=False)
    expected = whole.forward_intermediates(IMAGE, indices=[0, 2], intermediates_only=True)
    maps = body(IMAGE)
    assert len(maps) == 2
    for a, b in zip(maps, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_forward_intermediates(shrunk: Build, randomise: Randomise, case: Case) -> None:
    model = randomise(shrunk()).eval()
    last, maps = model.forward_intermediates(IMAGE)
    torch.testing.assert_close(last, model.forward_features(IMAGE), rtol=0, atol=0)
    assert [tuple(m.shape) for m in maps] == expected_shapes(case, [level["num_chs"] for level in model.feature_info])
    _, (second,) = model.forward_intermediates(IMAGE, indices=[1], stop_early=True)
    torch.testing.assert_close(second, maps[1], rtol=0, atol=0)
    only = model.forward_intermediates(IMAGE, indices=2, intermediates_only=True)
    for a, b in zip(only, maps[-2:], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(UserError, match="output_fmt is 'NLC', but these models return their features as NCHW"):
        model.forward_intermediates(IMAGE, output_fmt="NLC")
    with pytest.raises(UserError, match=rf"this model has {len(maps)}, numbered 0 to {len(maps) - 1}"):
        model.forward_intermediates(IMAGE, indices=[0, 9])


def test_the_norm_of_intermediates_is_the_models_final_norm(shrunk: Build, randomise: Randomise, case: Case) -> None:
    model = randomise(shrunk(global_pool="avg")).eval()
    (normed,) = model.forward_intermediates(IMAGE, indices=1, norm=True, intermediates_only=True)
    torch.testing.assert_close(normed, model.forward_features(IMAGE), rtol=0, atol=0)
    (plain,) = model.forward_intermediates(IMAGE, indices=1, intermediates_only=True)
    assert torch.allclose(plain, normed, atol=0.1) != case.has_depth


def test_pruning_leaves_a_model_that_still_classifies(shrunk: Build) -> None:
    model = shrunk(global_pool="avg").eval()
    expected = model.forward_intermediates(IMAGE, indices=[0, 1], intermediates_only=True)
    assert model.prune_intermediate_layers([0, 1], prune_norm=True) == [0, 1]
    maps = model.forward_intermediates(IMAGE, indices=[0, 1], intermediates_only=True)
    for a, b in zip(maps, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(model(IMAGE), maps[-1].mean((2, 3)))
    assert (model.num_classes, model.num_features) == (0, maps[-1].shape[1])
    model.reset_classifier(6)
    assert model(IMAGE).shape == (2, 6)


def test_checkpointing_gives_the_same_gradients(shrunk: Build, randomise: Randomise) -> None:
    plain, checkpointed = randomise(shrunk(num_classes=5)), randomise(shrunk(num_classes=5))
    checkpointed.set_grad_checkpointing()
    for model in (plain, checkpointed):
        torch.manual_seed(2)  # for dropout
        model.train()(IMAGE).square().sum().backward()
    for (key, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert a.grad is not None, key
        torch.testing.assert_close(b.grad, a.grad, rtol=0, atol=0, msg=key)
    checkpointed.set_grad_checkpointing(False)
    assert not any(getattr(m, "grad_checkpointing", False) for m in checkpointed.modules())


def test_parameters_are_grouped_by_depth(shrunk: Build, case: Case) -> None:
    model = shrunk()
    groups = group_parameters(model, model.group_matcher())
    assert sorted(name for names in groups.values() for name in names) == sorted(dict(model.named_parameters()))
    assert len(groups) == case.blocks + 2
    assert all(name.startswith(("norm", "head")) for name in groups[case.blocks + 1])
    assert any(name.startswith("head") for name in groups[case.blocks + 1])
    coarse = group_parameters(model, model.group_matcher(coarse=True))
    assert len(coarse) == (6 if case.strides == STAGES else case.blocks + 2)


def test_layer_decay_scales_the_stem_least(shrunk: Build, case: Case) -> None:
    model = shrunk()
    groups = param_groups_layer_decay(
        model, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    stem = [model.get_parameter(name) for name in group_parameters(model, model.group_matcher())[0]]
    assert {scale[id(p)] for p in stem} == {0.5 ** (case.blocks + 1)}
    assert scale[id(model.get_classifier().weight)] == 1
    undecayed = {k for k, p in model.named_parameters() if decay[id(p)] == 0 and p.ndim > 1}
    assert undecayed == model.no_weight_decay()


def test_stochastic_depth_rises_linearly(shrunk: Build, case: Case) -> None:
    if not case.has_depth:
        with pytest.raises(TypeError, match="drop_path_rate"):
            shrunk(drop_path_rate=0.2)
        return
    rates = [m.drop_prob for m in shrunk(drop_path_rate=0.2).modules() if isinstance(m, DropPath)]
    assert sorted(set(rates)) == pytest.approx([0.2 * i / (case.blocks - 1) for i in range(1, case.blocks)])


def test_dropout_rate_reaches_the_head(shrunk: Build) -> None:
    assert shrunk(drop_rate=0.3).head_drop.p == 0.3


def test_a_misspelled_argument_fails(shrunk: Build) -> None:
    with pytest.raises(TypeError, match="drop_path_rte"):
        shrunk(drop_path_rte=0.1)


def test_an_unknown_pooling_is_a_users_error(shrunk: Build, case: Case) -> None:
    for change in (lambda: shrunk(global_pool="mean"), lambda: shrunk().reset_classifier(2, "mean")):
        with pytest.raises(UserError, match=r"^global_pool is 'mean', but it must be .*avg, max, avgmax or '' "):
            change()


def test_bfloat16_stays_close_to_float32(shrunk: Build) -> None:
    model = shrunk(num_classes=3).eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(IMAGE)
    torch.testing.assert_close(half.float(), model(IMAGE), rtol=0.1, atol=0.02)
    assert model.bfloat16()(IMAGE.bfloat16()).dtype == torch.bfloat16


def test_the_deployed_form_has_the_same_outputs(shrunk: Build, randomise: Randomise) -> None:
    model = randomise(shrunk(num_classes=3)).eval()
    torch.testing.assert_close(deploy(model)(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("feature_cls", ["list", "dict"])
def test_rebuilding_from_layers_is_refused(shrunk: Build, row: Variant, feature_cls: str) -> None:
    with pytest.raises(UserError, match=rf"but {row.name} does more than run them in sequence; use 'getter'\."):
        shrunk(features_only=True, feature_cls=feature_cls)


@pytest.mark.slow
def test_the_exported_graph_takes_other_sizes(shrunk: Build, randomise: Randomise, case: Case) -> None:
    model = randomise(shrunk(num_classes=3)).eval()
    dim, (first, *others) = torch.export.Dim, case.exported
    shapes = ({0: dim.AUTO, 2: dim.AUTO, 3: dim.AUTO},)
    program = torch.export.export(model, (torch.randn(2, 3, *first),), dynamic_shapes=shapes).module()
    for count, size in enumerate(others, start=1):
        images = torch.randn(count, 3, *size)
        expected: Tensor = model(images)
        torch.testing.assert_close(program(images), expected, rtol=1e-4, atol=1e-5)
    for size in case.refused:
        images = torch.randn(1, 3, *size)
        assert model(images).isfinite().all()
        with pytest.raises(AssertionError, match=r"^Guard failed: "):
            program(images)
