from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import DepthwiseConv2d, IsotropicMetaNeXt, Variant
from inceptionnext_lit.models.formats import checkpoint_filter, describe_names, fit_shapes, rename, to_public, unwrap
from tests.models.references import FourStages, Isotropic

RAW = {"fc.weight": torch.zeros(2), "fc.bias": torch.zeros(1)}
EMA = {"fc.weight": torch.ones(2), "fc.bias": torch.ones(1)}
NARROW = {"dims": (16, 24, 32, 40), "depths": (1, 1, 2, 1)}


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


BOTH = {
    "model and model_ema": {"model": RAW, "model_ema": EMA, "epoch": 3, "best": torch.tensor(0.8)},
    "timm's training script": {"state_dict": RAW, "state_dict_ema": EMA, "arch": "x"},
    "nested": {"model": {"state_dict": prefixed(RAW, "module.")}, "ema": {"module": EMA}},
    "lightning": {
        "state_dict": {
            **prefixed(RAW, "model."),
            **prefixed(EMA, "model_ema.module."),
            "metrics.acc.total": torch.tensor(4),
        },
        "hyper_parameters": {"name": "x"},
    },
    "lightning's dictionary alone": {**prefixed(EMA, "model_ema.module._orig_mod."), **prefixed(RAW, "model.")},
}


@pytest.mark.parametrize("content", BOTH.values(), ids=BOTH.keys())
def test_raw_and_averaged_weights_are_told_apart(content: dict[str, object]) -> None:
    for weights, value in (("raw", 0), ("ema", 1), (None, 1)):
        found = unwrap(content, weights)
        assert list(found.tensors) == ["fc.weight", "fc.bias"]
        assert all((tensor == value).all() for tensor in found.tensors.values())
        assert found.averaged == bool(value)


def test_other_tensors_of_a_lightning_checkpoint_are_named() -> None:
    assert unwrap(BOTH["lightning"], "raw").others == ("metrics.acc.total",)
    assert unwrap(BOTH["lightning"], "ema").others == ()


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.",
                                    "model.module._orig_mod."])  # fmt: skip
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_prefixes_and_wrappers_are_removed(prefix: str, wrapper: str | None) -> None:
    tensors = prefixed(RAW, prefix)
    found = unwrap(tensors if wrapper is None else {wrapper: tensors, "epoch": 1})
    assert list(found.tensors) == list(RAW)
    assert not found.averaged
    assert found.others == ()


def test_a_compiled_block_inside_a_model() -> None:
    assert list(unwrap({"blocks.0._orig_mod.norm.weight": RAW["fc.weight"]}).tensors) == ["blocks.0.norm.weight"]


@pytest.mark.parametrize(
    ("content", "weights", "message"),
    [
        ({"model": RAW}, "ema", r"^No averaged weights in x\.pth, only raw ones; ask for those\.$"),
        ({"model_ema": EMA}, "raw", r"^No raw weights in x\.pth, only averaged ones; ask for those\.$"),
        ({"epoch": 3, "lr": 0.1}, None, r"^No weights in x\.pth; it contains epoch, lr\.$"),
        ({"model": {}}, None, r"^No weights in x\.pth; it contains model\.$"),
        ({}, None, r"it contains nothing\.$"),
        ({"model": RAW}, "EMA", r"^weights is 'EMA', but it must be 'ema' or 'raw'\.$"),
    ],
)
def test_missing_weights(content: dict[str, object], weights: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        unwrap(content, weights, source="x.pth")


def test_public_names_of_convnext() -> None:
    partial = timm.create_model("convnext_tiny_k3_par1_2", **NARROW)
    names = list(to_public(partial.state_dict(), partial))
    assert names[:6] == [
        "downsample_layers.0.0.weight", "downsample_layers.0.0.bias", "downsample_layers.0.1.weight",
        "downsample_layers.0.1.bias", "stages.0.0.gamma", "stages.0.0.dwconv.conv.weight",
    ]  # fmt: skip
    assert {"downsample_layers.3.1.bias", "stages.2.1.pwconv2.weight", "norm.weight", "head.bias"} <= set(names)
    full = timm.create_model("convnext_tiny_k5", **NARROW)
    public = to_public(full.state_dict(), full)
    assert {"stages.3.0.dwconv.weight", "stages.3.0.norm.bias"} <= set(public)
    assert public["stages.3.0.pwconv1.weight"].shape == (160, 40)
    isotropic = timm.create_model("convnext_iso_small", depth=2)
    public = to_public(isotropic.state_dict(), isotropic)
    assert {"stem.weight", "blocks.1.dwconv.weight", "blocks.1.pwconv2.bias", "head.weight"} <= set(public)
    assert public["blocks.0.pwconv2.weight"].shape == (384, 1536)


def test_every_row_round_trips(row: Variant, shrunk: Callable[..., nn.Module]) -> None:
    model = shrunk(num_classes=3)
    own = model.state_dict()
    public = to_public(own, model)
    assert (list(public) == list(own)) == (not row.name.startswith("convnext_"))
    back = checkpoint_filter({"model": public}, model)
    assert list(back) == list(own)
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, own[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "reference", "label"),
    [
        ("convnext_iso_small", lambda: Isotropic(depth=1), "official ConvNeXt, isotropic"),
        ("convnext_tiny_k5", lambda: FourStages(5), "official ConvNeXt"),
        ("convnext_tiny_k3", lambda: FourStages(3), "official ConvNeXt"),
        ("convnext_tiny_k3_par3_8", lambda: FourStages(3, 3 / 8), "official ConvNeXt"),
        ("convnext_tiny_k3_par1_16", lambda: FourStages(3, 1 / 16), "official ConvNeXt"),
    ],
)
def test_public_names_and_shapes_are_the_references(name: str, reference: Callable[[], nn.Module], label: str) -> None:
    kwargs = {"depth": 1} if "iso" in name else {}
    with torch.device("meta"):
        model, theirs = timm.create_model(name, **kwargs), reference().state_dict()
    ours = to_public(model.state_dict(), model)
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
    assert describe_names(theirs) == label
    renamed = fit_shapes(rename(theirs), model.state_dict())
    assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_the_structure_and_not_the_mixer_alone_makes_a_convnext() -> None:
    batch_norm = IsotropicMetaNeXt(dim=8, depth=1, patch_size=4, token_mixer=DepthwiseConv2d)
    assert list(to_public(batch_norm.state_dict(), batch_norm)) == list(batch_norm.state_dict())


def test_only_trailing_ones_are_reshaped() -> None:
    own = {
        "a": torch.zeros(4, 3, 1, 1),
        "b": torch.zeros(4, 3),
        "c": torch.zeros(3, 4, 1, 1),
        "pos_embed": RAW["fc.bias"],
    }
    file = {"a": torch.zeros(4, 3), "b": torch.zeros(4, 3, 1, 1), "c": torch.zeros(4, 3), "d": torch.zeros(5)}
    shapes = {name: tuple(tensor.shape) for name, tensor in fit_shapes(file, own).items()}
    assert shapes == {"a": (4, 3, 1, 1), "b": (4, 3), "c": (4, 3), "d": (5,)}
