import re
from copy import deepcopy
from pathlib import Path
from typing import Literal

import pytest
import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from timm.optim import list_optimizers
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

import inceptionnext_lit.models  # noqa: F401 - registers the family
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.optim import OptimizerOptions


def rates(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the actual learning rate of each parameter."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def layers(name: str, model: nn.Module) -> dict[str, int]:
    """Return each parameter's layer, counted from the stem, by its name."""

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
def test_optimizers_by_name_train(name: str, kwargs: dict[str, object] | None) -> None:
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


def step(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def micro() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("inceptionnext_iso_micro", num_classes=3)


@pytest.mark.parametrize(
    ("name", "kwargs", "fused"),
    [
        ("adamw", None, True),
        ("adam", {"betas": [0.9, 0.95]}, True),
        ("sgd", None, True),
        ("momentum", None, True),
        ("adamw", {"fused": False}, False),
        ("adamw", {"foreach": True}, None),
        ("nadam", None, None),
    ],
)
def test_steps_are_fused_where_that_is_possible_and_nothing_else_is_asked(
    name: str, kwargs: dict[str, object] | None, fused: bool | None
) -> None:
    model = micro()
    optimizer = OptimizerOptions(name, kwargs=kwargs).build(model, 1e-3, 0.05)
    assert [group.get("fused") for group in optimizer.param_groups] == [fused] * 2
    plain = micro()
    step(model, optimizer, 2)
    unfused = OptimizerOptions(name, kwargs={"foreach": False} | (kwargs or {})).build(plain, 1e-3, 0.05)
    assert not unfused.defaults.get("fused")
    step(plain, unfused, 2)
    for value, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_computes_its_steps_as_before() -> None:
    whole, part = micro(), micro()
    before = OptimizerOptions(kwargs={"foreach": None}).build(whole, 1e-3, 0.05)
    step(whole, before, 2)
    part.load_state_dict(whole.state_dict())
    now = OptimizerOptions().build(part, 1e-3, 0.05)
    assert now._step_supports_amp_scaling
    now.load_state_dict(deepcopy(before.state_dict()))
    assert [group["fused"] for group in now.param_groups] == [None] * 2
    assert not now._step_supports_amp_scaling  # or a scaler would leave it the gradients to unscale
    step(whole, before, 2)
    step(part, now, 2)
    assert all(torch.equal(one, other) for one, other in zip(part.parameters(), whole.parameters(), strict=True))


def test_a_run_that_cannot_fuse_resumes_from_one_that_did() -> None:
    model = micro()
    fused = OptimizerOptions().build(model, 1e-3, 0.05)
    step(model, fused, 2)
    for kwargs in ({"foreach": None}, None):
        optimizer = OptimizerOptions(kwargs=kwargs).build(model, 1e-3, 0.05)
        optimizer.load_state_dict(deepcopy(fused.state_dict()))
        assert bool(optimizer.param_groups[0]["fused"]) == (kwargs is None)
        step(model, optimizer, 1)
        assert {float(state["step"]) for state in optimizer.state.values()} == {3.0}


@pytest.mark.parametrize("clip", [1e-3, None])
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_fused_steps_and_clipping_go_together_in_half_precision(
    tmp_path: Path, precision: Literal["16-mixed", "bf16-mixed"], clip: float | None
) -> None:
    images, labels = torch.randn(8, 3, 28, 28), torch.arange(8) % 3
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if precision == "16-mixed" else None
    norms: list[float] = []

    class Norm(Callback):
        def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if gradients:
                norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    trainer = Trainer(
        accelerator="cpu", plugins=MixedPrecision(precision, "cpu", scaler), gradient_clip_val=clip, max_epochs=1,
        default_root_dir=tmp_path, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        logger=False, callbacks=[Norm()],
    )  # fmt: skip
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3))
    before = task.model.head.weight.detach().clone()
    trainer.fit(task, DataLoader(TensorDataset(images, labels), batch_size=4))
    assert trainer.optimizers[0].param_groups[0]["fused"]
    assert not torch.equal(task.model.head.weight, before)
    assert len(norms) == 1  # of the first step, before the second
    assert norms[0] == pytest.approx(1e-3, rel=1e-3) if clip else norms[0] > 0.1


def test_a_restored_state_is_laid_out_like_its_parameter() -> None:
    """Fused AdamW steps traverse the memory of both together, ignoring their strides."""

    def stepped(fused: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        weight, gradient, mean, square = (torch.rand(4, 3, 5, 5, generator=generator) for _ in range(4))
        model = nn.Module()
        model.weight = nn.Parameter(weight.to(memory_format=torch.channels_last))
        model.weight.grad = gradient.to(memory_format=torch.channels_last)
        optimizer = OptimizerOptions(kwargs={"fused": fused}).build(model, lr=0.1, weight_decay=0.0)
        state = {0: {"step": torch.tensor(3.0), "exp_avg": mean, "exp_avg_sq": square}}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        optimizer.step()
        return model.weight.detach()

    torch.testing.assert_close(stepped(True), stepped(False), rtol=0, atol=1e-6)


def test_zero_weight_decay_keeps_the_groups() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    groups = [OptimizerOptions().build(model, lr=0.1, weight_decay=decay).param_groups for decay in (0.0, 0.1)]
    assert [[len(group["params"]) for group in of] for of in groups] == [[3, 1], [3, 1]]
    assert [group["weight_decay"] for group in groups[0]] == [0.0, 0.0]


def test_changed_arguments_are_tried_on_a_state() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    state = {"step": torch.tensor(1.0), "exp_avg": torch.ones(2, 2), "exp_avg_sq": torch.ones(2, 2)}
    assert OptimizerOptions(kwargs={"betas": (0.5, 0.5)}).try_step(weight, state) is None
    assert OptimizerOptions(kwargs={"amsgrad": True}).try_step(weight, state) == "KeyError: 'max_exp_avg_sq'"
    assert OptimizerOptions("sgd", kwargs={"momentum": 0.5}).try_step(weight, {}) is None
    assert torch.equal(weight, torch.ones(2, 2))


def test_an_optimizer_by_its_class_path() -> None:
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3)
    optimizer = OptimizerOptions("torch.optim.RAdam", kwargs={"eps": 1e-3}).build(model, lr=0.1, weight_decay=0.05)
    assert type(optimizer) is torch.optim.RAdam
    assert {(group["lr"], group["eps"]) for group in optimizer.param_groups} == {(0.1, 1e-3)}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim.RAdamm", "which cannot be imported: module 'torch.optim' has no attribute 'RAdamm'"),
        ("no_such.Adam", "which cannot be imported: No module named 'no_such'"),
        ("torch.nn.Linear", "which is not a subclass of torch's Optimizer"),
    ],
)
def test_a_wrong_class_path_is_a_users_error(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        OptimizerOptions(name).build(nn.Linear(2, 2), lr=0.1, weight_decay=0.0)


def test_an_unknown_optimizer_gets_the_nearest_names() -> None:
    with pytest.raises(UserError, match=r"'zzz', which timm does not know; did you mean \w+ or \w+ or \w+\? A class"):
        OptimizerOptions("zzz")
