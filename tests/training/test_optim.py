import re

import pytest
import timm
import torch
from timm.optim import list_optimizers
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import inceptionnext_lit.models  # noqa: F401 - registers the family
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.optim import OptimizerOptions


def rates(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The rate that each parameter really gets."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def layers(name: str, model: nn.Module) -> dict[str, int]:
    """Each parameter's layer, from the stem on, told from its name alone."""

    def layer(key: str) -> int:
        if key.startswith(("stem", "pos_embed")):
            return 0
        if found := re.match(r"blocks\.(\d+)", key):
            return 1 + int(found[1])
        if found := re.match(r"stages\.(\d+)\.(?:blocks\.(\d+)|downsample)", key):
            # a downsampling belongs to its stage's first block
            return 1 + sum(len(stage.blocks) for stage in model.stages[: int(found[1])]) + int(found[2] or 0)
        return 1 + depth

    depth = len(model.blocks) if hasattr(model, "blocks") else sum(len(stage.blocks) for stage in model.stages)
    return {key: layer(key) for key, _ in model.named_parameters()}


MODELS = ["inceptionnext_nano", "inceptionnext_iso_micro", "metanext_attn_nano", "convnext_iso_nano"]


@pytest.mark.parametrize("name", MODELS)
def test_each_parameter_gets_the_rate_of_its_layer(name: str) -> None:
    model = timm.create_model(name, num_classes=3)
    got = rates(model, OptimizerOptions(layer_decay=0.75).build(model, lr=0.1, weight_decay=0.05))
    expected = layers(name, model)
    last = max(expected.values())
    assert got.keys() == expected.keys()
    for key, layer in expected.items():
        assert got[key] == pytest.approx(0.1 * 0.75 ** (last - layer)), key
    assert last == {"inceptionnext_nano": 7, "inceptionnext_iso_micro": 4, "metanext_attn_nano": 7}.get(name, last)


def test_a_schedule_keeps_the_layers_apart() -> None:
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3)
    optimizer = OptimizerOptions(layer_decay=0.5).build(model, lr=0.8, weight_decay=0.0)
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    got = rates(model, optimizer)
    assert got["head.weight"] == pytest.approx(0.4)
    assert got["stem.weight"] == pytest.approx(0.4 * 0.5**4)
    assert not any("lr_scale" in group for group in optimizer.param_groups)


@pytest.mark.parametrize("layer_decay", [1.0, 0.9])
def test_what_decays(layer_decay: float) -> None:
    model = timm.create_model("metanext_attn_nano", num_classes=3)
    optimizer = OptimizerOptions(layer_decay=layer_decay).build(model, lr=0.1, weight_decay=0.05)
    assert type(optimizer) is torch.optim.AdamW
    names = {parameter: name for name, parameter in model.named_parameters()}
    decay = {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay["blocks.0.token_mixer.qkv.weight"] == 0.05
    spared = {name for name, value in decay.items() if value == 0}
    assert spared == {
        name for name in decay if name.endswith("bias") or ".norm." in name or name.startswith("norm")
    } | {"pos_embed"}


def test_frozen_parameters_are_left_out() -> None:
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3)
    model.stem.requires_grad_(False)
    for options in (OptimizerOptions(), OptimizerOptions(layer_decay=0.5)):
        assert not {"stem.weight", "stem.bias"} & rates(model, options.build(model, 0.1, 0.05)).keys()


@pytest.mark.parametrize(
    ("name", "kwargs"), [("lamb", None), ("sgd", {"momentum": 0.5}), ("lion", {"betas": [0.9, 0.98]}), ("adamw", None)]
)
def test_optimisers_by_name_train(name: str, kwargs: dict[str, object] | None) -> None:
    torch.manual_seed(0)
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3)
    before = model.head.weight.detach().clone()
    optimizer = OptimizerOptions(name, kwargs=kwargs).build(model, lr=0.1, weight_decay=0.0)
    assert name in type(optimizer).__name__.lower()
    for key, value in (kwargs or {}).items():
        assert (
            list(optimizer.param_groups[0][key]) == value if key == "betas" else optimizer.param_groups[0][key] == value
        )
    model(torch.randn(4, 3, 28, 28)).square().sum().backward()
    optimizer.step()
    assert (model.head.weight - before).abs().max() > 1e-4


def test_wrong_options_name_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"model\.optimizer\.name is 'adamm'.*did you mean .*adam"):
        OptimizerOptions("adamm")
    assert "adamw" in list_optimizers()
    for value in (0.0, 1.5):
        with pytest.raises(UserError, match=rf"model\.optimizer\.layer_decay is {value}"):
            OptimizerOptions(layer_decay=value)
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3)
    with pytest.raises(UserError, match=r"'adamw' does not take model\.optimizer\.kwargs.*momentun"):
        OptimizerOptions(kwargs={"momentun": 0.9}).build(model, 0.1, 0.0)
    with pytest.raises(UserError, match=r"Linear does not say which layers it has.*layer_decay"):
        OptimizerOptions(layer_decay=0.5).build(nn.Linear(2, 2), 0.1, 0.0)
