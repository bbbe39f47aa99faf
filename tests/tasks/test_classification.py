from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from inceptionnext_lit.training.execution import Execution
from inceptionnext_lit.training.schedule import Schedule

pytestmark = [
    pytest.mark.filterwarnings("ignore:model.schedule.min_lr is"),  # a learning rate of almost 0
]

MICRO = "inceptionnext_iso_micro"
INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5] * 3, std=[0.5] * 3)


def loader(count: int = 24, classes: int = 3, batch_size: int = 8) -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 28, 28, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(count) % classes), batch_size=batch_size)


def trainer(path: Path, **kwargs: Any) -> Trainer:
    settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings |= {"accelerator": "cpu", "enable_model_summary": False, "num_sanity_val_steps": 0}
    return Trainer(default_root_dir=path, **(settings | kwargs))


def test_metrics_are_fractions_of_images_and_of_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=7))
    images = torch.randn(20, 3, 28, 28)
    labels = torch.tensor([0] * 14 + [1] * 4 + [2, 3])  # unbalanced, and three classes without an image
    [logged] = trainer(tmp_path).validate(task, DataLoader(TensorDataset(images, labels), batch_size=6), verbose=False)
    with torch.no_grad():
        logits = task.eval().model(images)
    right = logits.argmax(dim=1) == labels
    top5 = (logits.topk(5, dim=1).indices == labels[:, None]).any(dim=1)
    assert logged["val/acc1"] == pytest.approx(float(right.float().mean()))
    assert logged["val/acc5"] == pytest.approx(float(top5.float().mean()))
    assert logged["val/loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), abs=1e-5)
    recalls = [float(right[labels == label].float().mean()) for label in labels.unique()]
    assert logged["val/macro_acc"] == pytest.approx(sum(recalls) / len(recalls), abs=1e-6)


def test_a_perfect_first_batch_does_not_merge_metrics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=10)).eval()
    images = torch.randn(16, 3, 28, 28)
    with torch.no_grad():
        ranked = task.model(images).argsort(dim=1, descending=True)
    labels = torch.cat([ranked[:8, 0], ranked[8:, 2]])  # all first, then all third
    [logged] = trainer(tmp_path).validate(task, DataLoader(TensorDataset(images, labels), batch_size=8), verbose=False)
    right = torch.arange(16) < 8
    recalls = [float(right[labels == label].float().mean()) for label in labels.unique()]
    assert logged["val/acc1"] == pytest.approx(0.5)
    assert logged["val/acc5"] == pytest.approx(1.0)
    assert logged["val/macro_acc"] == pytest.approx(sum(recalls) / len(recalls))


def test_only_the_training_loss_has_label_smoothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), loss=LossOptions(label_smoothing=0.5), lr=1e-9)
    run = trainer(tmp_path)
    run.fit(task, loader(8), loader(8))
    images, labels = next(iter(loader(8)))
    with torch.no_grad():
        in_training = F.cross_entropy(task.train().model(images), labels, label_smoothing=0.5)
        in_validation = F.cross_entropy(task.eval().model(images), labels)
    assert float(run.callback_metrics["train/loss"]) == pytest.approx(float(in_training), abs=1e-4)
    # BatchNorm's statistics moved by the pass above, as they had by the training step
    assert float(run.callback_metrics["val/loss"]) == pytest.approx(float(in_validation), abs=0.05)
    assert float(in_training) != pytest.approx(float(in_validation), abs=1e-3)


def test_a_mixing_run_reports_no_training_accuracy(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(
        ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), loss=LossOptions(mix=Mix(mixup=0.8, cutmix=1.0))),
        loader(),
        loader(),
    )
    assert "train/loss" in run.callback_metrics
    assert "train/acc1" not in run.callback_metrics
    assert "val/acc1" in run.callback_metrics


def test_no_weight_decay_on_biases_norms_layer_scale_and_position_embeddings(tmp_path: Path) -> None:
    decayed: dict[str, set[str]] = {}
    for name, size in (("inceptionnext_nano", 32), ("metanext_attn_nano", 28)):
        task = ClassificationTask(name, data_spec=DataSpec(num_classes=3), weight_decay=0.05)
        run = trainer(tmp_path, max_epochs=None, max_steps=1, limit_val_batches=0)
        run.fit(task, DataLoader(TensorDataset(torch.randn(4, 3, size, size), torch.arange(4) % 3), batch_size=4))
        groups = run.optimizers[0].param_groups
        names = {parameter: key for key, parameter in task.model.named_parameters()}
        decayed[name] = {names[p] for group in groups if group["weight_decay"] > 0 for p in group["params"]}
        assert {group["weight_decay"] for group in groups} == {0.0, 0.05}
        assert sum(len(group["params"]) for group in groups) == len(names)
        assert not {key for key in decayed[name] if key.endswith((".bias", ".gamma"))}
        assert not {key for key in decayed[name] if ".norm." in key}
    assert "stages.0.blocks.0.token_mixer.dwconv_w.weight" in decayed["inceptionnext_nano"]
    assert "pos_embed" not in decayed["metanext_attn_nano"]


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to the hub.\nlong explanation")

    monkeypatch.setattr("inceptionnext_lit.models.hub.get_hf_file_metadata", offline)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", offline)
    with pytest.raises(
        UserError,
        match=r"weights of 'inceptionnext_atto' .* from https://huggingface.co/timm/inception_next_atto.* or "
        r"https://github.com/.*/inceptionnext_atto.pth \(no route to the hub\)\. Download .*--model.pretrained FILE",
    ):
        ClassificationTask("inceptionnext_atto", data_spec=DataSpec(num_classes=3), pretrained=True)
    with pytest.raises(UserError, match=r"weights of 'resnet18' .*huggingface.co/timm/resnet18.*no route to the hub"):
        ClassificationTask("resnet18", data_spec=DataSpec(num_classes=3), kwargs={"pretrained": True})
    with pytest.raises(UserError, match=f"No public weights of '{MICRO}'"):
        ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), pretrained=True)


def test_pretrained_file_is_loaded_and_not_needed_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model(MICRO, num_classes=7).eval()
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), pretrained=str(path))
    assert str(task.loaded) == (
        f"{path} (the model's own names): 49 tensors loaded, 2 reinitialized (head.weight, head.bias), 0 skipped"
    )
    image = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(task.eval().model.forward_features(image), source.forward_features(image))
    checkpoint: dict[str, Any] = {}
    task.on_save_checkpoint(checkpoint)
    assert checkpoint["hyper_parameters"]["pretrained"] is False
    with pytest.raises(UserError, match=r"No checkpoint at nowhere.pth"):
        ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), pretrained="nowhere.pth")


def test_learning_rate_follows_the_schedule_per_step(tmp_path: Path) -> None:
    rates = []

    class Watch(ClassificationTask):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            rates.append(self.optimizers().param_groups[0]["lr"])

    schedule = Schedule(warmup_epochs=1, warmup_lr=0.0, min_lr=0.0)
    task = Watch(MICRO, data_spec=DataSpec(num_classes=3), lr=1.0, schedule=schedule)
    trainer(tmp_path, max_epochs=2, limit_val_batches=0).fit(task, loader(16, batch_size=4))
    expected = [0.0, 0.25, 0.5, 0.75, 1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]
    assert rates == pytest.approx(expected)


def test_accumulation_counts_optimizer_steps(tmp_path: Path) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), schedule=Schedule(warmup_epochs=1))
    run = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=2, limit_val_batches=0)
    run.fit(task, loader(20, batch_size=4))  # 5 batches: 3 steps an epoch
    assert run.global_step == 6
    assert run.lr_scheduler_configs[0].scheduler.last_epoch == 6


def test_averaged_weights_follow_each_optimizer_step(tmp_path: Path) -> None:
    history = []

    class Watch(ClassificationTask):
        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            super().optimizer_step(*args, **kwargs)
            history.append(self.model.stem.weight.detach().clone())

    task = Watch(MICRO, data_spec=DataSpec(num_classes=3), lr=1e-2, ema_decay=0.5)
    trainer(tmp_path, limit_val_batches=0).fit(task, loader(32, batch_size=8))
    expected, ema = history[0], task.model_ema
    assert ema is not None
    for step, weights in enumerate(history[1:], start=1):
        expected = expected.lerp(weights, 1 - ema.get_decay(step))
    torch.testing.assert_close(ema.module.stem.weight, expected)
    assert task.inference_model is ema.module
    assert not any(p.requires_grad for p in ema.parameters())


def test_a_checkpoint_made_in_python_loads_as_plain_data(tmp_path: Path) -> None:
    task = ClassificationTask(
        MICRO, data_spec=DataSpec(class_names=["a", "b", "c"], preprocessing=INPUT),
        loss=LossOptions(mix=Mix(mixup=0.1)), drop_path=0.2,
        kwargs={"depth": 2, "pretrained": False}, schedule=Schedule(warmup_epochs=3),
    )  # fmt: skip
    run = trainer(tmp_path, limit_val_batches=0)
    run.fit(task, loader())
    run.save_checkpoint(tmp_path / "x.ckpt")
    loaded = ClassificationTask.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert loaded.class_names == ["a", "b", "c"]
    assert loaded.preprocessing == INPUT
    assert loaded.loss == LossOptions(mix=Mix(mixup=0.1))
    assert loaded.schedule == Schedule(warmup_epochs=3)
    assert loaded.hparams["kwargs"] == {"depth": 2}
    for key, value in task.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, msg=key)


def test_any_timm_model_gets_its_image_size(tmp_path: Path) -> None:
    task = ClassificationTask(
        "vit_tiny_patch16_224", data_spec=DataSpec(num_classes=4, preprocessing=INPUT | {"image_size": 64})
    )
    assert task.model.pos_embed.shape == (1, 17, 192)
    assert ClassificationTask("resnet10t", data_spec=DataSpec(num_classes=4)).model.num_classes == 4


def test_gradients_of_the_task_are_those_of_the_bare_model() -> None:
    torch.manual_seed(0)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3))
    bare = timm.create_model(MICRO, num_classes=3)
    bare.load_state_dict(task.model.state_dict())
    images, labels = next(iter(loader()))
    F.cross_entropy(task.train().model(images), labels).backward()
    F.cross_entropy(bare.train()(images), labels).backward()
    for (name, ours), theirs in zip(task.model.named_parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.0}, "model.lr is 0.0"),
        ({"weight_decay": -1.0}, "model.weight_decay is -1.0"),
        ({"drop_path": 1.0}, "model.drop_path is 1.0"),
        ({"name": "googlenet", "drop_path": 0.1}, "'googlenet' has no stochastic depth; set --model.drop_path to 0"),
        ({"name": "inceptionnext_iso_mikro"}, "inceptionnext_iso_micro"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClassificationTask(**({"name": MICRO} | arguments))


def test_wrong_values_in_groups() -> None:
    with pytest.raises(UserError, match=r"^model\.loss\.label_smoothing is -0\.1; it must be at least 0 and less"):
        LossOptions(label_smoothing=-0.1)
    with pytest.raises(UserError, match=r"^1 class names were given for 3 classes\.$"):
        DataSpec(class_names=["a"], num_classes=3)
    with pytest.raises(UserError, match=r"^model\.data_spec\.num_classes is 0; it must be 1 or more\.$"):
        DataSpec(num_classes=0)


def test_test_and_prediction_average_an_image_with_its_mirror_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), execution=Execution(test_time_flip=True)).eval()
    images, labels = torch.randn(6, 3, 28, 28), torch.arange(6) % 3
    with torch.no_grad():
        plain, mirrored = task.model(images).softmax(1), task.model(images.flip(-1)).softmax(1)
        mean = (plain + mirrored) / 2
        torch.testing.assert_close(task.scores(task(images)), mean)
    batches = DataLoader(TensorDataset(images, labels), batch_size=4)
    [tested] = trainer(tmp_path).test(task, batches, verbose=False)
    assert tested["test/loss"] == pytest.approx(float(F.nll_loss(mean.log(), labels)), abs=1e-5)
    [validated] = trainer(tmp_path).validate(task, batches, verbose=False)
    assert validated["val/loss"] == pytest.approx(tested["test/loss"], abs=1e-6)
    fitting = trainer(tmp_path)
    fitting.fit(task, batches, batches)  # validation does not flip, which would take twice the time
    with torch.no_grad():
        plain = task.eval().model(images).log_softmax(1)
    assert float(fitting.callback_metrics["val/loss"]) == pytest.approx(float(F.nll_loss(plain, labels)), abs=1e-5)


@pytest.mark.slow
def test_averaged_weights_are_useful_after_a_short_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), ema_decay=0.9999, lr=5e-3)
    images = torch.randn(24, 3, 28, 28) * 0.3 + torch.arange(24).remainder(3).view(-1, 1, 1, 1)
    batches = DataLoader(TensorDataset(images, torch.arange(24) % 3), batch_size=8)
    run = trainer(tmp_path, max_epochs=20)  # 60 steps: a plain average would still hold 99.4% of the first weights
    run.fit(task, batches, batches)
    assert run.callback_metrics["val/acc1"] > 0.9
    assert run.callback_metrics["val_ema/acc1"] > 0.9


def test_prediction_runs_the_inference_form_and_leaves_the_model_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=4), ema_decay=0.9)
    for parameter in task.model_ema.module.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    images, paths = torch.randn(2, 3, 28, 28), ["a", "b"]
    called: list[str] = []
    for model in (task.model, task.model_ema.module):
        model.register_forward_hook(lambda *_: called.append("whole"))
        model.blocks[0].norm.register_forward_hook(lambda *_: called.append("norm"))
    with torch.no_grad():
        expected = task.eval().scores(task.model_ema.module(images))
    assert called == ["norm", "whole"]
    keys = list(task.state_dict())
    folded: list[bool] = []

    class Look(Callback):
        def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            folded.append(list(pl_module.state_dict()) == keys)

    batches = DataLoader([(images, paths, [])], batch_size=None)
    called.clear()
    [found] = trainer(tmp_path, callbacks=[Look()]).predict(task, batches)
    assert "norm" not in called
    assert folded == [True]
    assert not torch.equal(task.model(images), task.model_ema.module(images))
    torch.testing.assert_close(found["probabilities"], expected.sort(descending=True).values)
    called.clear()
    task(images)
    assert called == ["norm", "whole"]
