"""What timm's tools expect of a backbone, for each row of the table."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import MetaNeXt, Variant

Build = Callable[..., nn.Module]
Randomise = Callable[[nn.Module], nn.Module]
IMAGE = torch.linspace(-2, 2, 2 * 3 * 32 * 48).sin().reshape(2, 3, 32, 48)


def last_stride(row: Variant) -> int:
    return 32 if row.form is MetaNeXt else 8  # of the shrunk model


def test_full_size_model_has_the_rows_config_and_shapes(row: Variant) -> None:
    with torch.device("meta"):
        model = timm.create_model(row.name).eval()
        images = torch.zeros(2, 3, row.image_size, row.image_size)
        features = model.forward_features(images)
        assert features.shape == (2, model.num_features, *model.default_cfg["pool_size"])
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
        assert model(images).shape == (2, 1000)
    cfg = model.pretrained_cfg
    assert cfg["input_size"] == (3, row.image_size, row.image_size)
    assert (cfg["crop_pct"], cfg["interpolation"]) == (row.crop_pct, "bicubic")
    assert isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv2d)
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    assert (model.num_classes, model.in_chans, model.global_pool) == (1000, 3, "avg")


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
    assert model.get_classifier().weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not any(module.training for module in model.modules())
    now = model.state_dict()
    for key, value in kept.items():
        torch.testing.assert_close(now[key], value, rtol=0, atol=0)


def test_reset_classifier_keeps_the_dtype(shrunk: Build) -> None:
    model = shrunk().double().eval()
    model.reset_classifier(5)
    assert model(IMAGE.double()).dtype == torch.float64


def test_pooling_by_maximum_takes_the_maximum(shrunk: Build) -> None:
    model = shrunk(num_classes=0, global_pool="max").eval()
    features = model.forward_features(IMAGE)
    strongest = features.amax((2, 3), keepdim=True).expand_as(features)
    torch.testing.assert_close(model.forward_head(features), model.forward_head(strongest))


def test_without_pooling_each_position_is_classified(shrunk: Build, randomise: Randomise, row: Variant) -> None:
    model = randomise(shrunk(num_classes=5)).eval()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grid = (32 // last_stride(row), 48 // last_stride(row))
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
    assert built(IMAGE).shape == (2, built.head_hidden_size, *grid)
    torch.testing.assert_close(built(IMAGE), model(IMAGE), rtol=0, atol=0)
    model.reset_classifier(5, "avg")
    model.load_state_dict(weights)
    assert (model.global_pool, model(IMAGE).shape) == ("avg", (2, 5))


def test_create_model_places_and_casts(shrunk: Build) -> None:
    model = shrunk(device="meta", dtype=torch.float64, num_classes=3)
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.float64)}
    model.reset_classifier(2, "")
    assert model.get_classifier().weight.is_meta
    assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))


def test_one_input_channel(shrunk: Build, row: Variant) -> None:
    model = shrunk(in_chans=1, num_classes=4).eval()
    assert model.get_submodule(row.form.first_conv).weight.shape[1] == 1
    assert model(IMAGE[:, :1]).shape == (2, 4)


def test_wrong_channel_count_is_a_users_error(shrunk: Build) -> None:
    with pytest.raises(UserError, match=r"^The images have 1 channels, but this model was built for 3\.$"):
        shrunk()(IMAGE[:, :1])


@pytest.mark.parametrize("kwargs", [{}, {"features_only": True}])
def test_too_small_an_image_is_a_users_error(shrunk: Build, row: Variant, kwargs: dict[str, bool]) -> None:
    model, least = shrunk(**kwargs).eval(), last_stride(row)
    model(torch.zeros(1, 3, least, least))
    for height, width in ((least - 1, least), (least, least - 1)):
        message = f"An image of {height}×{width} pixels is too small: this model needs at least {least}×{least}."
        with pytest.raises(UserError, match=message):
            model(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 96)])
def test_any_larger_size_works(shrunk: Build, size: tuple[int, int]) -> None:
    model = shrunk(num_classes=3).eval()
    assert model(torch.zeros(1, 3, *size)).isfinite().all()


def test_features_only_gives_evenly_spaced_levels(shrunk: Build, row: Variant) -> None:
    body = shrunk(features_only=True).eval()
    info, maps = body.feature_info, body(IMAGE)
    strides = [4, 8, 16, 32] if row.form is MetaNeXt else [8, 8, 8]
    assert info.reduction() == strides
    assert [m.shape for m in maps] == [(2, c, 32 // s, 48 // s) for c, s in zip(info.channels(), strides, strict=True)]
    whole = shrunk().eval()
    torch.testing.assert_close(maps[-1], whole.forward_features(IMAGE), rtol=0, atol=0)


@pytest.mark.parametrize("feature_cls", ["getter", "fx", "hook"])
def test_features_only_takes_the_levels_asked_for(shrunk: Build, randomise: Randomise, feature_cls: str) -> None:
    body = randomise(shrunk(features_only=True, out_indices=(0, 2), feature_cls=feature_cls).eval())
    whole = shrunk().eval()
    kept = {k.removeprefix("model.").removeprefix("graph_module.").removeprefix("body."): v
            for k, v in body.state_dict().items()}  # fmt: skip
    whole.load_state_dict(kept, strict=False)
    expected = whole.forward_intermediates(IMAGE, indices=[0, 2], intermediates_only=True)
    maps = body(IMAGE)
    assert len(maps) == 2
    for a, b in zip(maps, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_forward_intermediates(shrunk: Build, randomise: Randomise) -> None:
    model = randomise(shrunk()).eval()
    last, maps = model.forward_intermediates(IMAGE)
    torch.testing.assert_close(last, model.forward_features(IMAGE), rtol=0, atol=0)
    assert [m.shape[1] for m in maps] == [level["num_chs"] for level in model.feature_info]
    stopped, (second,) = model.forward_intermediates(IMAGE, indices=[1], stop_early=True)
    torch.testing.assert_close(stopped, maps[1], rtol=0, atol=0)
    torch.testing.assert_close(second, maps[1], rtol=0, atol=0)
    only = model.forward_intermediates(IMAGE, indices=2, intermediates_only=True)
    assert [m.shape for m in only] == [m.shape for m in maps[-2:]]
    with pytest.raises(UserError, match="output_fmt is 'NLC', but these models return their features as NCHW"):
        model.forward_intermediates(IMAGE, output_fmt="NLC")
    with pytest.raises(UserError, match=rf"this model has {len(maps)}, numbered 0 to {len(maps) - 1}"):
        model.forward_intermediates(IMAGE, indices=[0, 9])


def test_the_norm_of_intermediates_is_the_models_final_norm(shrunk: Build, randomise: Randomise, row: Variant) -> None:
    model = randomise(shrunk()).eval()
    (plain,) = model.forward_intermediates(IMAGE, indices=1, intermediates_only=True)
    (normed,) = model.forward_intermediates(IMAGE, indices=1, norm=True, intermediates_only=True)
    expected = plain
    if row.form is not MetaNeXt:
        expected = (plain - plain.mean(1, keepdim=True)) / (plain.var(1, False, keepdim=True) + 1e-6).sqrt()
        expected = expected * model.norm.weight[:, None, None] + model.norm.bias[:, None, None]
    torch.testing.assert_close(normed, expected)


def test_pruning_leaves_a_model_that_still_classifies(shrunk: Build) -> None:
    model = shrunk().eval()
    expected = model.forward_intermediates(IMAGE, indices=[0, 1], intermediates_only=True)
    assert model.prune_intermediate_layers([0, 1], prune_norm=True) == [0, 1]
    maps = model.forward_intermediates(IMAGE, indices=[0, 1], intermediates_only=True)
    for a, b in zip(maps, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(model(IMAGE), maps[-1].mean((2, 3)))
    assert (model.num_classes, model.num_features) == (0, maps[-1].shape[1])
    model.reset_classifier(6)
    assert model(IMAGE).shape == (2, 6)


def test_checkpointing_gives_the_same_gradients_and_statistics(shrunk: Build, randomise: Randomise) -> None:
    plain, checkpointed = randomise(shrunk(num_classes=5)), randomise(shrunk(num_classes=5))
    checkpointed.set_grad_checkpointing()
    for model in (plain, checkpointed):
        model.train()(IMAGE).square().sum().backward()
    for (key, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=0, atol=0, msg=key)
    for (key, a), b in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=0, msg=key)
    momenta = [m.momentum for m in checkpointed.modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta == [0.1] * len(momenta)
    checkpointed.set_grad_checkpointing(False)
    assert not any(getattr(m, "grad_checkpointing", False) for m in checkpointed.modules())


def test_parameters_are_grouped_by_depth(shrunk: Build, row: Variant) -> None:
    model = shrunk()
    groups = group_parameters(model, model.group_matcher())
    assert sorted(name for names in groups.values() for name in names) == sorted(dict(model.named_parameters()))
    blocks = 5 if row.form is MetaNeXt else 3
    joined = blocks + 2
    assert len(groups) == joined
    assert all(name.startswith(("stem", "pos_embed")) for name in groups[0])
    assert all(name.startswith(("norm", "head")) for name in groups[joined - 1])
    assert any(name.startswith("head") for name in groups[joined - 1])
    coarse = group_parameters(model, model.group_matcher(coarse=True))
    assert len(coarse) == (6 if row.form is MetaNeXt else 5)


def test_layer_decay_scales_the_stem_least(shrunk: Build) -> None:
    model = shrunk()
    groups = param_groups_layer_decay(
        model, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    depth = len(group_parameters(model, model.group_matcher()))
    first_conv = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert scale[id(first_conv.weight)] == 0.5 ** (depth - 1)
    assert scale[id(model.get_classifier().weight)] == 1
    assert decay[id(first_conv.weight)] == 0.1
    undecayed = {k for k, p in model.named_parameters() if decay[id(p)] == 0 and p.ndim > 1}
    assert undecayed == model.no_weight_decay()


def test_stochastic_depth_rises_linearly(shrunk: Build) -> None:
    model = shrunk(drop_path_rate=0.2)
    blocks = [m for m in model.modules() if hasattr(m, "token_mixer")]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.2 * i / (len(blocks) - 1) for i in range(len(blocks))])


def test_dropout_rate_reaches_the_head(shrunk: Build) -> None:
    rates = [m.p for m in shrunk(drop_rate=0.3).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.3]


def test_a_misspelled_argument_fails(shrunk: Build) -> None:
    with pytest.raises(TypeError, match="drop_path_rte"):
        shrunk(drop_path_rte=0.1)


def test_an_unknown_pooling_is_a_users_error(shrunk: Build) -> None:
    with pytest.raises(UserError, match="global_pool is 'token', but it must be avg, max, avgmax or '' "):
        shrunk(global_pool="token")


def test_bfloat16_stays_close_to_float32(shrunk: Build) -> None:
    model = shrunk(num_classes=3).eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(IMAGE)
    torch.testing.assert_close(half.float(), model(IMAGE), rtol=0.1, atol=0.02)
