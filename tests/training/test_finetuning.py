"""Frozen layers, the linear probe before the rest, and resuming it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.callbacks.summary import RunSummary
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO
from inceptionnext_lit.training.finetuning import Finetuning, classifier_parameters, freeze, frozen_parameters, thaw
from inceptionnext_lit.training.optim import OptimizerOptions, default_lr
from inceptionnext_lit.training.schedule import Schedule

pytestmark = [
    pytest.mark.filterwarnings("ignore:The images are normalized with mean"),  # weights of other images
]

MICRO = "inceptionnext_iso_micro"
INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5] * 3, std=[0.5] * 3)


def loader(count: int = 16, batch_size: int = 4) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 28, 28, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(count) % 3), batch_size=batch_size)


def fit(task: ClassificationTask, folder: Path, epochs: int = 1, *callbacks: Callback) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(task, loader(), loader())
    return trainer


def changed(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_what_is_frozen() -> None:
    four_stages = timm.create_model("inceptionnext_atto", num_classes=3)
    assert classifier_parameters(four_stages) == {"head.fc2.weight", "head.fc2.bias"}
    frozen = frozen_parameters(four_stages, "stages.1")
    assert {name.split(".")[0] for name in frozen} == {"stem", "stages"}
    assert {name.split(".")[1] for name in frozen if name.startswith("stages")} == {"0", "1"}
    isotropic = timm.create_model(MICRO, num_classes=3)
    assert all(name.startswith(("stem", "blocks.0", "blocks.1")) for name in frozen_parameters(isotropic, "blocks.1"))
    assert not [name for name in frozen_parameters(isotropic, "stem") if not name.startswith("stem")]
    assert frozen_parameters(isotropic, "backbone") == {
        name for name, _ in isotropic.named_parameters() if not name.startswith("head.")
    }
    resnet = timm.create_model("resnet18", num_classes=3)
    assert not [name for name in frozen_parameters(resnet, "layer2") if name.startswith(("layer3", "layer4", "fc"))]


def test_freezing_a_missing_module_or_everything() -> None:
    model = timm.create_model("inceptionnext_atto", num_classes=3)
    with pytest.raises(UserError, match=r"^model\.finetuning\.freeze is 'stage\.1', .* try .*stages\.1"):
        frozen_parameters(model, "stage.1")
    with pytest.raises(UserError, match=r"model\.finetuning\.freeze head leaves nothing to train"):
        frozen_parameters(model, "head")
    with pytest.raises(UserError, match=r"probe_epochs is -1; it must be 0 or more"):
        Finetuning(probe_epochs=-1)
    with pytest.raises(UserError, match=r"probe_lr is 0; it must be above 0"):
        Finetuning(probe_lr=0)
    with pytest.raises(UserError, match=r"freeze backbone already trains the last layer alone"):
        Finetuning(freeze="backbone", probe_epochs=1)


def test_frozen_modules_survive_train_and_deepcopy_and_thawing_undoes_it() -> None:
    model = timm.create_model("inceptionnext_atto", num_classes=3).train()
    freeze(model, frozen_parameters(model, "stages.1"))
    for one in (model.train(), deepcopy(model).train()):
        assert not one.stages[1].training
        assert not [m for m in one.stages[0].modules() if m.training]
        assert one.stages[2].training
        one.stages[0].train()
        assert not [m for m in one.stages[0].modules() if m.training]
    copy = deepcopy(model)
    assert copy.stages[0].train() is copy.stages[0]
    thaw(model, {name for name, _ in model.named_parameters()})
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not copy.stages[1].training


@pytest.mark.slow
def test_a_frozen_part_keeps_weights_and_statistics(tmp_path: Path) -> None:
    task = ClassificationTask(
        MICRO,
        data_spec=DataSpec(num_classes=3, preprocessing=INPUT),
        ema_decay=0.9,
        finetuning=Finetuning(freeze="blocks.1", allow_random=True),
        lr=1e-2,
    )
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    fit(task, tmp_path, 2)
    moved = changed(before, task.model)
    assert not [name for name in moved if name.startswith(("stem", "blocks.0", "blocks.1"))]
    assert {"blocks.2.norm.running_mean", "head.weight"} <= moved
    assert not [name for name in changed(before, task.model_ema.module) if name.startswith(("stem", "blocks.0"))]


def test_a_linear_probe_trains_only_the_last_layer(tmp_path: Path) -> None:
    task = ClassificationTask(
        MICRO,
        data_spec=DataSpec(num_classes=3, preprocessing=INPUT),
        finetuning=Finetuning(freeze="backbone", allow_random=True),
    )
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    fit(task, tmp_path)
    assert changed(before, task.model) == {"head.weight", "head.bias"}


def test_the_summary_says_how_much_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(probe_then_all(), tmp_path, 1, RunSummary())
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Model:"))
    assert line == f"Model:      {MICRO}, 0.06 M parameters (147 of them are trained), on cpu, 32-true"


class Rates(Callback):
    """Record the learning rates of head and backbone, and what has changed, at the end of each epoch."""

    def __init__(self) -> None:
        self.seen: list[tuple[set[float], set[float]]] = []
        self.moved: list[set[str]] = []
        self.before: dict[str, torch.Tensor] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {name: value.clone() for name, value in pl_module.model.state_dict().items()}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        groups = trainer.optimizers[0].param_groups
        self.seen.append(({g["lr"] for g in groups if g["is_head"]}, {g["lr"] for g in groups if not g["is_head"]}))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.moved.append(changed(self.before, pl_module.model))


def probe_then_all(**options: Any) -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(
        MICRO, data_spec=DataSpec(num_classes=3, preprocessing=INPUT), lr=4e-3, drop_path=0.1,
        schedule=Schedule(warmup_epochs=0, min_lr=0.0),
        finetuning=Finetuning(probe_epochs=2, probe_lr=0.05, allow_random=True), **options,
    )  # fmt: skip


@pytest.mark.slow
def test_a_linear_probe_and_then_all(tmp_path: Path) -> None:
    rates = Rates()
    task = probe_then_all(optimizer=OptimizerOptions(head_lr_factor=10))
    fit(task, tmp_path, 4, rates)
    assert rates.moved[:2] == [{"head.weight", "head.bias"}] * 2
    assert {"stem.weight", "blocks.0.norm.running_mean", "head.weight"} <= rates.moved[2]
    assert rates.seen[:8] == [({0.05}, {0.0})] * 8
    for step, (head, backbone) in enumerate(rates.seen[8:]):
        expected = 4e-3 * (1 + torch.cos(torch.tensor(torch.pi * step / 8))) / 2
        assert list(head) == [pytest.approx(float(expected) * 10, rel=1e-5)]
        assert list(backbone) == [pytest.approx(float(expected), rel=1e-5)]


class SaveAt(Callback):
    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 8, 10])  # in the probe, on its last batch, after it
def test_a_continued_run_is_in_the_right_phase(
    tmp_path: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    root = make_folder(tmp_path / "data", {"train": 6, "val": 2})

    def run(path: str | None = None, *callbacks: Callback) -> dict[str, torch.Tensor]:
        task = probe_then_all()
        given = InputOptions(mean=INPUT["mean"], std=INPUT["std"], crop_pct=1.0)
        data = ImageFolderDataModule(str(root), image_size=28, batch_size=4, num_workers=0, input=given)
        trainer = Trainer(
            max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
            enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path, callbacks=list(callbacks),
        )  # fmt: skip
        trainer.strategy.checkpoint_io = SafeCheckpointIO()
        trainer.fit(task, data, ckpt_path=path)
        return task.model.state_dict()

    whole = run(None, SaveAt(tmp_path / "a.ckpt", step))
    continued = run(str(tmp_path / "a.ckpt"))
    assert {name for name in whole if not torch.equal(whole[name], continued[name])} == set()


def test_default_rates() -> None:
    assert [default_lr(size, width=768) for size in (32, 200)] == [3.1e-4, 7.8e-4]
    assert default_lr(32, width=48) == 5e-3
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), lr="auto")
    with pytest.raises(UserError, match=r"^model\.lr is auto, but the data module does not define step_size"):
        task.derive_lr(None)


RANDOM = r"keeps random weights, since none were loaded; give --model\.pretrained true or --model\.pretrained FILE"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (Finetuning(freeze="backbone"), "freeze backbone"),
        (Finetuning(freeze="stem"), "freeze stem"),
        (Finetuning(probe_epochs=1), "probe_epochs 1"),
    ],
)
def test_random_weights_are_not_frozen(tmp_path: Path, options: Finetuning, key: str) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3, preprocessing=INPUT), finetuning=options)
    with pytest.raises(
        UserError, match=rf"^model\.finetuning\.{key} {RANDOM}, or --model\.finetuning\.allow_random true"
    ):
        fit(task, tmp_path)
    fit(
        ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3, preprocessing=INPUT)), tmp_path
    )  # nothing is frozen


@pytest.mark.slow
def test_weights_may_come_from_anywhere(tmp_path: Path) -> None:
    first = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3, preprocessing=INPUT))
    trainer = fit(first, tmp_path)
    checkpoint, weights = tmp_path / "run.ckpt", tmp_path / "weights.pth"
    trainer.save_checkpoint(checkpoint)
    torch.save(first.model.state_dict(), weights)
    stem = first.model.state_dict()["stem.weight"].clone()
    spec = DataSpec(num_classes=3, preprocessing=INPUT)
    probe: dict[str, Any] = {"data_spec": spec, "finetuning": Finetuning(freeze="backbone")}
    for task in (
        ClassificationTask(MICRO, pretrained=str(checkpoint), **probe),
        ClassificationTask(MICRO, pretrained=str(weights), **probe),
        ClassificationTask(MICRO, kwargs={"checkpoint_path": str(weights)}, **probe),
        ClassificationTask.load_from_checkpoint(checkpoint, weights_only=True, finetuning=probe["finetuning"]),
    ):
        fit(task, tmp_path)
        assert torch.equal(task.model.state_dict()["stem.weight"], stem)


@pytest.mark.parametrize("name", ["inceptionnext_nano", "inceptionnext_iso_micro", "metanext_attn_nano", "resnet18"])
def test_the_backbone_is_all_but_the_classifier(name: str) -> None:
    task = ClassificationTask(name, data_spec=DataSpec(num_classes=3))
    mine = {id(parameter) for parameter in task.backbone.parameters()}
    others = {key for key, parameter in task.model.named_parameters() if id(parameter) not in mine}
    assert others == classifier_parameters(task.model)
    assert not [key for key in task.state_dict() if key.startswith("backbone")]


def test_lightnings_backbone_finetuning(tmp_path: Path) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), lr=0.1)
    before = {key: value.clone() for key, value in task.model.named_parameters()}
    moved: list[set[str]] = []

    class Watch(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            moved.append({key for key, value in task.model.named_parameters() if not torch.equal(value, before[key])})

    fit(task, tmp_path, 2, BackboneFinetuning(unfreeze_backbone_at_epoch=1, train_bn=False), Watch())
    norms = {f"blocks.{n}.norm.{key}" for n in range(len(task.model.blocks)) for key in ("weight", "bias")}
    assert moved[0] == classifier_parameters(task.model) | norms  # Lightning leaves BatchNorm to be trained
    assert {"stem.weight", "blocks.0.mlp.fc1.weight", "head.weight"} <= moved[1]
