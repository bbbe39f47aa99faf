"""Distillation: its losses against their formulas, its teachers, and what a distilled checkpoint contains."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import SharedError, UserError
from inceptionnext_lit.export.safetensors import convert_checkpoint
from inceptionnext_lit.models.pre_logits import PreLogits, pre_logits_width
from inceptionnext_lit.models.weights import load_weights
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.distillation import Distill, Distillation, feature_loss, logit_loss
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from inceptionnext_lit.tasks.classification.teacher import Teacher, load_teacher
from inceptionnext_lit.tasks.loading import load_task
from inceptionnext_lit.training.callbacks.nan_guard import NanGuard
from tests.small_checkpoint import save_checkpoint
from tests.small_segmenter import save_segmenter

MICRO = "inceptionnext_iso_micro"
CLASSES = ["a", "b", "c"]
INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
SPEC = DataSpec(CLASSES, 3, preprocessing=INPUT)
NARROW = {"dim": 24, "depth": 2, "drop_rate": 0.3}
STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]], dtype=torch.float64)
TEACHER = torch.tensor([[1.0, 2.0, -2.0], [0.0, -0.5, 1.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 2.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with another normalization than the student's, and dropout and stochastic depth."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.ckpt"
    save_checkpoint(path, CLASSES, kwargs={"drop_rate": 0.5}, drop_path=0.5, ema_decay=0.9)
    return path


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_of_logits_is_the_divergence_from_the_teacher(temperature: float, weights: Tensor | None) -> None:
    expected = 0.0
    for row, other, weight in zip(STUDENT.tolist(), TEACHER.tolist(), WEIGHTS.tolist(), strict=True):
        mine, its = softmax(row, temperature), softmax(other, temperature)
        divergence = sum(q * math.log(q / p) for p, q in zip(mine, its, strict=True))
        expected += temperature**2 * divergence * (1.0 if weights is None else weight) / 2
    assert float(logit_loss(STUDENT, TEACHER, temperature, weights=weights)) == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_the_loss_of_logits() -> None:
    """d/dz T² KL = T (p - q), over N images."""
    logits = STUDENT.clone().requires_grad_()
    logit_loss(logits, TEACHER, 2.0).backward()
    torch.testing.assert_close(logits.grad, 2.0 * ((STUDENT / 2).softmax(1) - (TEACHER / 2).softmax(1)) / 2)
    assert float(logit_loss(TEACHER, TEACHER, 2.0)) == 0


def test_the_loss_of_logits_of_several_labels_is_a_divergence_per_label() -> None:
    temperature, expected = 2.0, 0.0
    for row, other in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        for logit, its in zip(row, other, strict=True):
            p, q = (1 / (1 + math.exp(-value / temperature)) for value in (logit, its))
            expected += temperature**2 * (q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))) / 6
    loss = logit_loss(STUDENT, TEACHER, temperature, multi_label=True)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    logits = STUDENT.clone().requires_grad_()
    logit_loss(logits, TEACHER, temperature, multi_label=True).backward()
    torch.testing.assert_close(logits.grad, 2.0 * ((STUDENT / 2).sigmoid() - (TEACHER / 2).sigmoid()) / 6)


def test_the_loss_of_features_is_the_mean_squared_difference() -> None:
    expected = [sum((a - b) ** 2 for a, b in zip(*rows, strict=True)) / 3
                for rows in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)]  # fmt: skip
    assert float(feature_loss(STUDENT, TEACHER)) == pytest.approx(sum(expected) / 2)
    weighted = feature_loss(STUDENT, TEACHER, WEIGHTS)
    assert float(weighted) == pytest.approx((0.5 * expected[0] + 2 * expected[1]) / 2)


@pytest.mark.parametrize("loss", [logit_loss, feature_loss])
def test_losses_of_half_precision_are_computed_in_single(loss: Callable[..., Tensor]) -> None:
    halves = STUDENT.bfloat16(), TEACHER.bfloat16()
    more = (2.0,) if loss is logit_loss else ()
    result = loss(*halves, *more)
    assert result.dtype == torch.float32
    assert float(result) == pytest.approx(float(loss(*(half.double() for half in halves), *more)), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "soft"}, "model.distill.kind is 'soft'; it must be one of hard, logits, features."),
        ({"teacher": ""}, "model.distill.teacher is empty; give a model with published weights, or a checkpoint."),
        ({"weight": 1.5}, "model.distill.weight is 1.5; it must be between 0 and 1."),
        ({"weight": math.nan}, "model.distill.weight is nan; it must be between 0 and 1."),
        ({"kind": "logits", "temperature": 0.0}, "model.distill.temperature is 0.0; it must be greater than 0."),
        ({"kind": "features", "temperature": 2.0}, "only the kind logits has one, not features; leave it out."),
    ],
)
def test_options_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Distill(**({"teacher": "x"} | arguments))
    assert message in str(error.value)


def distillation(options: Distill, model: torch.nn.Module, **arguments: Any) -> Distillation:
    teacher = load_teacher(options.teacher, SPEC, as_features=options.kind == "features")
    arguments = {"loss": "cross_entropy", "multi_label": False} | arguments
    return Distillation(options, teacher, model, "student", INPUT, **arguments)


def outputs(path: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and features of a teacher for images of the student's normalization, computed by hand."""
    task, _ = load_task(path)
    model: Any = task.inference_model.eval()
    pixels = images * torch.tensor(INPUT["std"]).view(3, 1, 1) + torch.tensor(INPUT["mean"]).view(3, 1, 1)
    with torch.no_grad():
        maps = model.forward_features((pixels - 0.5) / 0.25)  # its own normalization
        return model.forward_head(maps), model.forward_head(maps, pre_logits=True)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def test_a_teacher_has_its_own_normalization_and_averaged_weights(teacher_file: Path, images: Tensor) -> None:
    logits, features = outputs(teacher_file, images)
    teachers = [load_teacher(str(teacher_file), SPEC, as_features=one) for one in (False, True)]
    for teacher, expected in zip(teachers, (logits, features), strict=True):
        found = teacher(images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(teacher(images), found)  # no dropout, and no statistics that change
        assert not found.requires_grad
    same = load_teacher(str(teacher_file), DataSpec(CLASSES, 3, preprocessing=INPUT | {"mean": [0.5] * 3,
                        "std": [0.25] * 3}), as_features=False)  # fmt: skip
    assert same.normalized(images) is images
    half = teachers[0].normalized(images.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, teachers[0].normalized(images.bfloat16().float()).bfloat16())


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_hard_learns_the_most_probable_class(teacher_file: Path, images: Tensor, loss: str) -> None:
    model = timm.create_model(MICRO, num_classes=3)
    logits = torch.randn(5, 3)
    value = distillation(Distill(str(teacher_file)), model, loss=loss)(images, logits)
    best = outputs(teacher_file, images)[0].argmax(1)
    expected = F.cross_entropy(logits, best)
    if loss == "bce":
        expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(best, 3).float())
    torch.testing.assert_close(value, expected)


def test_features_are_projected(teacher_file: Path, images: Tensor) -> None:
    model = timm.create_model(MICRO, num_classes=3, dim=24, depth=2).train()
    learned = distillation(Distill(str(teacher_file), "features"), model)
    assert learned.projection is not None
    assert tuple(learned.projection.weight.shape) == (48, 24)
    value = learned(images, model(images))
    own = model.forward_head(model.forward_features(images), pre_logits=True)  # BatchNorm uses the batch's statistics
    torch.testing.assert_close(value, F.mse_loss(learned.projection(own), outputs(teacher_file, images)[1]))
    value.backward()
    assert model.stem.weight.grad.abs().sum() > 0
    assert learned.projection.weight.grad is not None
    assert all(p.grad is None for p in learned.teacher.model.parameters())


@pytest.mark.parametrize("name", ["inceptionnext_nano", "convnext_iso_nano", "resnet10t", "test_vit"])
def test_pre_logits_are_those_of_timm(name: str) -> None:
    model = timm.create_model(name, num_classes=3).eval()
    size = 160 if name == "test_vit" else 32
    assert pre_logits_width(model, name, 3, (size, size)) == model.get_classifier().in_features
    assert not model.get_classifier()._forward_pre_hooks
    kept, image = PreLogits(model, name), torch.randn(2, 3, size, size)
    with torch.no_grad():
        model(image)
        expected = model.forward_head(model.forward_features(image), pre_logits=True)
    torch.testing.assert_close(kept.take(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_student_keeps_its_features_and_is_compiled_once(
    teacher_file: Path, images: Tensor, backend: str
) -> None:
    model = timm.create_model(MICRO, num_classes=3, dim=24, depth=2).train()
    learned = distillation(Distill(str(teacher_file), "features"), model)
    expected = learned(images, model(images))
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    for part in (model, learned.teacher.model):
        part.compile(backend=backend)
    for _ in range(3):
        torch.testing.assert_close(learned(images, model(images)), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]


class Seen(Callback):
    """Record the arguments and values of the training steps."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.states: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        teacher = pl_module.teacher
        if teacher is not None:
            self.states.append({key: value.clone() for key, value in teacher.model.state_dict().items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_start(trainer, pl_module)


def fit(
    path: Path, distill: Distill | None, *callbacks: Callback, precision: str = "32-true", spec: DataSpec = SPEC,
    labels: Tensor | None = None, steps: int = 2, ckpt_path: Path | None = None, drop_rate: float = 0.3,
    **arguments: Any,
) -> tuple[ClassificationTask, Trainer]:  # fmt: skip
    seed_everything(3)
    generator = torch.Generator().manual_seed(1)
    size = spec.preprocessing["image_size"]
    images = torch.randn(8, 3, size, size, generator=generator)
    data = DataLoader(TensorDataset(images, torch.arange(8) % 3 if labels is None else labels), batch_size=4)
    kwargs = NARROW | {"drop_rate": drop_rate}
    task = ClassificationTask(MICRO, kwargs=kwargs, data_spec=spec, distill=distill, **arguments)
    trainer = Trainer(
        accelerator="cpu", max_epochs=None, max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=path, precision=precision,
        callbacks=list(callbacks), num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(task, data, data, ckpt_path=ckpt_path, weights_only=True)
    return task, trainer


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_training_loss_is_the_weighted_sum(teacher_file: Path, tmp_path: Path, weight: float) -> None:
    distill = Distill(str(teacher_file), "logits", weight, 2.0)
    _, trainer = fit(tmp_path, distill, steps=1, loss=LossOptions(label_smoothing=0.1), drop_rate=0.0)
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    seed_everything(3)
    alone = ClassificationTask(MICRO, kwargs=NARROW | {"drop_rate": 0.0}, data_spec=SPEC)
    images = torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(1))[:4]
    with torch.no_grad():
        logits = alone.model.train()(images)
    label = float(F.cross_entropy(logits, torch.arange(4) % 3, label_smoothing=0.1))
    distilled = float(logit_loss(logits, outputs(teacher_file, images)[0], 2.0))
    assert logged["train/loss"] == pytest.approx((1 - weight) * label + weight * distilled, rel=1e-4)
    assert logged["train/distill_loss"] == pytest.approx(distilled, rel=1e-4)
    assert "train/acc1" in logged


def test_mixed_images_are_what_the_teacher_sees(teacher_file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seen: dict[str, list[Tensor]] = {"teacher": [], "student": []}
    call = Teacher.__call__

    def watched(self: Teacher, images: Tensor) -> Tensor:
        seen["teacher"].append(images.clone())
        return call(self, images)

    class Watch(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pl_module.model.register_forward_pre_hook(lambda _, inputs: seen["student"].append(inputs[0].clone()))

    monkeypatch.setattr(Teacher, "__call__", watched)
    _, trainer = fit(tmp_path, Distill(str(teacher_file)), Watch(), loss=LossOptions(mix=Mix(mixup=0.8)))
    for student, teacher in zip(seen["student"], seen["teacher"], strict=True):
        assert torch.equal(student, teacher)
    images = torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    assert not any(torch.equal(images[:4], one) or torch.equal(images[4:], one) for one in seen["teacher"])
    assert "train/distill_loss" in trainer.callback_metrics


@pytest.mark.parametrize("kind", ["hard", "logits"])
def test_a_teacher_whose_outputs_are_not_finite_ends_the_run(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "teacher.ckpt"
    save_checkpoint(path, CLASSES)
    content = torch.load(path, weights_only=True)
    head = content["state_dict"]["model.head.weight"]
    head.copy_(torch.where(head > 0, 3e38, -3e38))  # finite weights whose products overflow
    torch.save(content, path)
    with pytest.raises(SharedError) as error:
        fit(tmp_path, Distill(str(path), kind), NanGuard())
    assert str(error.value).startswith(
        f"The teacher {path} gives NaN or infinite outputs in step 1 (epoch 1, batch 1, "
    )


def test_the_teacher_is_not_blamed_for_images_that_are_not_finite(teacher_file: Path) -> None:
    teacher = load_teacher(str(teacher_file), SPEC, as_features=False)
    teacher(torch.zeros(1, 3, 28, 28))
    teacher(torch.full((1, 3, 28, 28), torch.nan))
    assert teacher.was_finite is not None
    assert bool(teacher.was_finite)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("kind", ["hard", "logits", "features"])
def test_the_teacher_is_frozen_and_runs_in_the_runs_precision(
    teacher_file: Path, tmp_path: Path, kind: Any, precision: str, monkeypatch: Any
) -> None:
    dtypes: list[torch.dtype] = []
    call = Teacher.__call__

    def watched(self: Teacher, images: Tensor) -> Tensor:
        found = call(self, images)
        dtypes.append(found.dtype)
        return found

    monkeypatch.setattr(Teacher, "__call__", watched)
    seen = Seen()
    task, _ = fit(tmp_path, Distill(str(teacher_file), kind), seen, precision=precision)
    assert set(dtypes) == {torch.float64 if precision == "64-true" else torch.bfloat16} or kind == "features"
    before, after = seen.states
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert task.teacher is not None
    assert not task.teacher.model.training


def test_a_teacher_is_no_part_of_the_task(teacher_file: Path, tmp_path: Path) -> None:
    plain, plain_run = fit(tmp_path, None, ema_decay=0.9)
    for kind in ("hard", "logits", "features"):
        task, trainer = fit(tmp_path, Distill(str(teacher_file), kind), ema_decay=0.9)
        besides = {"distillation.projection.weight", "distillation.projection.bias"} if kind == "features" else set()
        assert set(task.state_dict()) - set(plain.state_dict()) == besides
        assert set(dict(task.named_parameters())) - set(dict(plain.named_parameters())) == besides
        groups, plain_groups = (run.optimizers[0].param_groups for run in (trainer, plain_run))
        assert len(groups) == len(plain_groups) + len(besides)
        assert [group["weight_decay"] for group in groups[len(plain_groups) :]] == ([0.0, 0.05] if besides else [])
        path = tmp_path / f"{kind}.ckpt"
        trainer.save_checkpoint(path)
        content = torch.load(path, weights_only=True)
        assert set(content["state_dict"]) == set(task.state_dict())
        assert content["distillation"] == {"digest": task.teacher.digest if task.teacher else ""}
        assert content["hyper_parameters"]["distill"] == {
            "teacher": str(teacher_file), "kind": kind, "weight": 0.5, "temperature": 1.0, "name": None
        }  # fmt: skip


def test_a_distilled_checkpoint_is_used_without_its_teacher(teacher_file: Path, tmp_path: Path, images: Tensor) -> None:
    gone = tmp_path / "gone.ckpt"
    gone.write_bytes(teacher_file.read_bytes())
    task, trainer = fit(tmp_path, Distill(str(gone), "features"), ema_decay=0.9)
    path = tmp_path / "student.ckpt"
    trainer.save_checkpoint(path)
    gone.unlink()
    loaded, _ = load_task(path)
    assert loaded.teacher is None
    with torch.no_grad():
        expected = task.inference_model.eval()(images)
        torch.testing.assert_close(loaded.eval()(images), expected)
    report = convert_checkpoint(path, tmp_path / "student.safetensors")
    model = timm.create_model(MICRO, num_classes=3, **NARROW).eval()
    load_weights(model, tmp_path / "student.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected)
    assert report.parameters == sum(p.numel() for p in model.parameters())
    assert all(name.startswith("distillation.") for name in load_weights(model, path, weights="raw").skipped)
    checked = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    data = DataLoader(TensorDataset(images, torch.arange(5) % 3), batch_size=5)
    again = ClassificationTask(MICRO, kwargs=NARROW, data_spec=SPEC, distill=task.distill, ema_decay=0.9)
    [metrics] = checked.validate(again, data, ckpt_path=path, verbose=False, weights_only=True)
    assert metrics["val_ema/loss"] == pytest.approx(float(F.cross_entropy(expected, torch.arange(5) % 3)), abs=1e-5)
    with pytest.raises(UserError, match=r"^The teacher of model.distill cannot be used: No checkpoint at .*gone.ckpt"):
        fit(tmp_path, task.distill, ckpt_path=path, ema_decay=0.9, steps=4)


def test_a_run_is_not_continued_with_another_teacher(teacher_file: Path, tmp_path: Path) -> None:
    own = tmp_path / "teacher.ckpt"
    own.write_bytes(teacher_file.read_bytes())
    _, trainer = fit(tmp_path, Distill(str(own)))
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    moved = own.rename(tmp_path / "moved.ckpt")
    fit(tmp_path, Distill(str(moved), "logits", 0.7), ckpt_path=tmp_path / "student.ckpt", steps=3)
    save_checkpoint(own, CLASSES, kwargs={"dim": 32})
    with pytest.raises(UserError, match=r"^The teacher .*/teacher.ckpt has other weights than that of the checkpoint"):
        fit(tmp_path, Distill(str(own)), ckpt_path=tmp_path / "student.ckpt", steps=3)


@pytest.fixture(scope="module")
def four_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stages") / "teacher.ckpt"
    kwargs = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
    save_checkpoint(path, CLASSES, name="inceptionnext_nano", kwargs=kwargs, preprocessing={"image_size": 32})
    return path


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("hard", "features")]


@pytest.mark.parametrize("kind", ["logits", *SLOW])
def test_four_stages_teach_an_isotropic_model(four_stages: Path, tmp_path: Path, kind: Any) -> None:
    spec = DataSpec(CLASSES, 3, preprocessing=INPUT | {"image_size": 32})
    losses = []
    for steps in (2, 16):
        distill = Distill(str(four_stages), kind, weight=1.0)
        _, trainer = fit(tmp_path, distill, spec=spec, lr=5e-3, steps=steps, drop_rate=0.0)
        losses.append(float(trainer.callback_metrics["train/distill_loss"]))
    assert losses[1] < 0.7 * losses[0]


@pytest.mark.parametrize("kind", ["logits", "features"])
def test_several_labels(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "teacher.ckpt"
    save_checkpoint(path, CLASSES, multi_label=True)
    spec = DataSpec(CLASSES, 3, True, INPUT)
    labels = torch.eye(3)[torch.arange(8) % 3]
    _, trainer = fit(tmp_path, Distill(str(path), kind), spec=spec, labels=labels)
    assert math.isfinite(float(trainer.callback_metrics["train/distill_loss"]))
    with pytest.raises(UserError, match=r"model.distill.kind is hard, .* several labels; give logits or features"):
        fit(tmp_path, Distill(str(path)), spec=spec, labels=labels)
    with pytest.raises(UserError, match="gives an image several labels, and the student one label"):
        load_teacher(str(path), SPEC, as_features=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("inceptionnext_iso_nano", "No public weights of 'inceptionnext_iso_nano', so it cannot be the teacher; give"),
        ("convnext_tinny", "cannot be used: Unknown model 'convnext_tinny'. The nearest names are: convnext_tiny"),
        ("gone.ckpt", "cannot be used: No checkpoint at gone.ckpt; check the path."),
        ("folder/gone", "cannot be used: No checkpoint at folder/gone; check the path."),
        ("TEACHER of x y z", "in another order: its class 1 of 3 is a, and the student's x; give a teacher of the"),
        ("TEACHER of c b a", "has other classes, or the same in another order: its class 1 of 3 is a, and the"),
        ("TEACHER of a b x", "its class 3 of 3 is c, and the student's x"),
        ("TEACHER of a b", "has 3 classes, and the student 2; give a teacher of the same classes, or"),
        ("TEACHER gray", "takes images of 3 channels, and the student's have 1; give a teacher for the same images."),
        ("WEIGHTS", "does not name its model; give it with model.distill.name, or a checkpoint of fit, or what"),
    ],
)  # fmt: skip
def test_teachers_that_are_refused(
    teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(timm.create_model(MICRO, num_classes=3).state_dict(), tmp_path / "weights.pth")
    file, _, classes = given.partition(" of ")
    names = classes.split() or CLASSES
    gray = {"mean": [0.5], "std": [0.5]} if "gray" in given else {}
    files = {"TEACHER": str(teacher_file), "WEIGHTS": str(tmp_path / "weights.pth")}
    spec = DataSpec(names, len(names), preprocessing=INPUT | gray)
    with pytest.raises(UserError) as error:
        load_teacher(files.get(file.partition(" ")[0], file), spec, as_features=False)
    assert message in str(error.value)


def test_a_state_dict_of_other_channels_is_a_teacher_for_images_of_these(tmp_path: Path) -> None:
    path = str(tmp_path / "gray.pth")
    model = timm.create_model("resnet10t", num_classes=3, in_chans=1).eval()
    torch.save(model.state_dict(), path)
    gray = DataSpec(CLASSES, 3, preprocessing=INPUT | {"mean": [0.4], "std": [0.2]})
    teacher = load_teacher(path, gray, "resnet10t", as_features=False)
    pixels = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        expected = model((pixels - (0.485 + 0.456 + 0.406) / 3) / ((0.229 + 0.224 + 0.225) / 3))
    torch.testing.assert_close(teacher((pixels - 0.4) / 0.2), expected, rtol=1e-3, atol=1e-4)
    for as_features in (False, True):  # its stem is not adapted to them without a word
        with pytest.raises(
            UserError, match=r"gray\.pth does not take images of 3 channels, as the student's are; give"
        ):
            load_teacher(path, SPEC, "resnet10t", as_features=as_features)


def test_a_state_dict_is_a_teacher_of_several_labels(tmp_path: Path, images: Tensor) -> None:
    path = str(tmp_path / "weights.pth")
    model = timm.create_model(MICRO, num_classes=3).eval()
    torch.save(model.state_dict(), path)
    imagenet = INPUT | {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    teacher = load_teacher(path, DataSpec(CLASSES, 3, True, imagenet), MICRO, as_features=False)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), model(images))


def test_a_state_dict_with_its_name_is_a_teacher(tmp_path: Path, images: Tensor) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=3).eval()
    path = str(tmp_path / "weights.pth")
    torch.save({"arch": "resnet10t", "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    teacher = load_teacher(path, SPEC, "resnet10t", as_features=False)
    config = timm.get_pretrained_cfg("resnet10t")
    assert config is not None
    assert (teacher.preprocessing["mean"], teacher.preprocessing["std"]) == (list(config.mean), list(config.std))
    with torch.no_grad():
        expected = model(teacher.normalized(images))
    assert torch.equal(teacher(images), expected)
    two = DataSpec(["x", "y"], 2, preprocessing=INPUT)
    with pytest.raises(UserError, match=r"weights.pth has 3 classes, and not 2 classes; give a teacher of the same"):
        load_teacher(path, two, "resnet10t", as_features=False)
    assert load_teacher(path, two, "resnet10t", as_features=True)(images).shape == (len(images), 512)
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), path)
    with pytest.raises(UserError, match=r"weights.pth has no classifier, and not 3 classes"):
        load_teacher(path, SPEC, "resnet10t", as_features=False)
    with pytest.raises(UserError, match=r"Unknown model 'resnet10x'"):
        load_teacher(path, SPEC, "resnet10x", as_features=False)


def test_a_name_is_for_files_without_one(teacher_file: Path, tmp_path: Path) -> None:
    convert_checkpoint(teacher_file, tmp_path / "teacher.safetensors")
    for given in (str(teacher_file), str(tmp_path / "teacher.safetensors"), "resnet18.a1_in1k"):
        with pytest.raises(UserError) as error:
            load_teacher(given, SPEC, "resnet10t", as_features=False)
        assert f"model.distill.name is resnet10t, but {given} already says what model it is" in str(error.value)


def test_features_need_neither_the_same_classes_nor_labels(teacher_file: Path) -> None:
    spec = DataSpec(["x", "y"], 2, preprocessing=INPUT)
    assert load_teacher(str(teacher_file), spec, as_features=True)(torch.zeros(1, 3, 28, 28)).shape == (1, 48)


def test_a_converted_file_is_a_teacher(teacher_file: Path, tmp_path: Path, images: Tensor) -> None:
    path = tmp_path / "teacher.safetensors"
    convert_checkpoint(teacher_file, path)
    one, other = (load_teacher(str(file), SPEC, as_features=False) for file in (teacher_file, path))
    assert one.digest == other.digest
    assert torch.equal(one(images), other(images))
    with pytest.raises(UserError, match="its class 1 of 3 is a, and the student's x"):
        load_teacher(str(path), DataSpec(["x", "y", "z"], 3, preprocessing=INPUT), as_features=False)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Serve the weights of a published model of 1000 classes from a file."""
    source = timm.create_model("resnet10t", num_classes=1000).eval()
    path = tmp_path / "resnet10t.pth"
    torch.save(source.state_dict(), path)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: source.state_dict())
    monkeypatch.setattr("inceptionnext_lit.models.hub._check_hub", lambda *args: None)
    return source


def test_published_weights_are_a_teacher_of_as_many_classes(published: Any, images: Tensor) -> None:
    names = [f"class {number}" for number in range(1000)]
    teacher = load_teacher("resnet10t", DataSpec(names, 1000, preprocessing=INPUT), as_features=False)
    mean, std = (torch.tensor(INPUT[key]).view(3, 1, 1) for key in ("mean", "std"))
    own = timm.get_pretrained_cfg("resnet10t")
    own_mean, own_std = (torch.tensor(values).view(3, 1, 1) for values in (own.mean, own.std))
    with torch.no_grad():
        expected = published((images * std + mean - own_mean) / own_std)
    torch.testing.assert_close(teacher(images), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="resnet10t has 1,000 classes, and the student 3"):
        load_teacher("resnet10t", SPEC, as_features=False)
    assert load_teacher("resnet10t", SPEC, as_features=True)(images).shape == (5, 512)


def test_published_classes_in_another_order_are_refused(published: Any) -> None:
    from timm.data import ImageNetInfo

    names = ImageNetInfo("imagenet-1k").label_names()
    load_teacher("resnet10t", DataSpec(names, 1000, preprocessing=INPUT), as_features=False)
    with pytest.raises(UserError, match="in another order: its class 1 of 1,000 is"):
        load_teacher("resnet10t", DataSpec(names[::-1], 1000, preprocessing=INPUT), as_features=False)


def test_a_teacher_with_position_embeddings_is_built_for_the_images(tmp_path: Path) -> None:
    path = tmp_path / "teacher.ckpt"
    save_checkpoint(path, CLASSES, name="metanext_attn_nano")
    for size in (28, 56):
        spec = DataSpec(CLASSES, 3, preprocessing=INPUT | {"image_size": size})
        assert load_teacher(str(path), spec, as_features=False)(torch.zeros(2, 3, size, size)).shape == (2, 3)


def test_images_that_are_too_small_for_the_teacher(four_stages: Path) -> None:
    with pytest.raises(UserError, match=r"^The teacher .* used: .* cannot process images of 28 pixels .*image_size.$"):
        load_teacher(str(four_stages), SPEC, as_features=False)


def test_other_checkpoints_are_no_teachers(tmp_path: Path) -> None:
    save_segmenter(tmp_path / "masks.ckpt")
    with pytest.raises(UserError, match=r"masks.ckpt is a checkpoint of a segmentation model, and this needs one of a"):
        load_teacher(str(tmp_path / "masks.ckpt"), SPEC, as_features=True)
    content = {"hyper_parameters": {"name": MICRO}, "state_dict": {}}
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match="is not a checkpoint of a classifier"):
        load_teacher(str(tmp_path / "odd.ckpt"), SPEC, as_features=False)
