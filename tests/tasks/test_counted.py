"""Metrics that are computed without synchronizing the device, and logged once per epoch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.metrics import recall_score
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.preprocessing import NOT_COUNTED
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.device_metrics import CountedAccuracy, MeanLoss
from inceptionnext_lit.training.schedule import Schedule

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``compute`` method of metric"),  # before the first image, on purpose
]

MICRO = "inceptionnext_iso_micro"
ACCURACIES = [{"average": "micro"}, {"average": "micro", "top_k": 3}]


@pytest.mark.parametrize("options", ACCURACIES, ids=str)
def test_accuracies_are_torchmetrics_own(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours, theirs = CountedAccuracy(6, **options), MulticlassAccuracy(6, **options, ignore_index=NOT_COUNTED)
    for count in (7, 5, 1):
        logits, labels = torch.randn(count, 6), torch.randint(0, 4, (count,))  # two classes without an image
        labels[1::3] = NOT_COUNTED
        ours.update(logits, labels)
        counted = labels != NOT_COUNTED
        theirs.update(logits[counted], labels[counted])
        assert float(ours.compute()) == float(theirs.compute())
    assert 0 < float(ours.compute()) < 1


def test_the_macro_accuracy_is_the_mean_recall_of_classes_with_images() -> None:
    torch.manual_seed(0)
    ours = CountedAccuracy(6, average="macro")
    logits, labels = torch.randn(30, 6), torch.randint(0, 4, (30,))  # two classes without an image, but predicted
    labels[1::3] = NOT_COUNTED
    ours.update(logits[:20], labels[:20])
    ours.update(logits[20:], labels[20:])
    counted = labels != NOT_COUNTED
    predicted = logits.argmax(dim=1)[counted]
    assert predicted.max() > 3
    recall = recall_score(labels[counted], predicted, labels=[0, 1, 2, 3], average="macro")
    assert float(ours.compute()) == pytest.approx(recall)


def test_the_mean_loss_is_that_of_all_images() -> None:
    mean = MeanLoss()
    mean.update(torch.tensor([1.0, 2.0, 0.0]), torch.tensor(2))
    mean.update(torch.tensor(9.0), 2)
    assert float(mean.compute()) == 3.0
    assert float(mean.total) == 12.0
    mean.reset()
    assert mean.compute().isnan()


class Looks(TorchDispatchMode):
    """Collect the operators that read a tensor's value on the host, which synchronizes a GPU."""

    KINDS = ("_local_scalar_dense", "nonzero", "unique", "bincount", "masked_select", "is_nonzero", "equal.default")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if any(kind in str(func) for kind in self.KINDS):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class Watched(ClassificationTask):
    """Watch a whole step: forward, loss, metrics, backward, clipping, optimizer and averaged weights."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.looks = Looks()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        with self.looks:
            super().optimizer_step(*args, **kwargs)

    def validation_step(self, *args: Any) -> None:
        with self.looks:
            super().validation_step(*args)


def trainer(path: Path, **kwargs: Any) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 1, "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return Trainer(accelerator="cpu", default_root_dir=path, **(settings | kwargs))


def test_the_watch_sees_what_stalls() -> None:
    with Looks() as looks:
        MulticlassAccuracy(3, average="macro", validate_args=False).update(torch.eye(3), torch.arange(3))
        float(torch.ones(1))
        bool(torch.eye(2)[torch.eye(2) > 0].all())
    found = [name.split(".")[1] for name in looks.found]
    assert found == ["bincount", "_local_scalar_dense", "_local_scalar_dense"]


def test_a_step_never_reads_a_value_from_the_device(tmp_path: Path) -> None:
    """Without mixing, whose random numbers are on the host; tests/test_gpu.py includes it."""
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(12, 3, 28, 28), torch.arange(12) % 3), batch_size=4)
    task = Watched(MICRO, data_spec=DataSpec(num_classes=3), ema_decay=0.9, drop_path=0.1)
    trainer(tmp_path, gradient_clip_val=1.0).fit(task, loader, loader)
    assert task.looks.count > 1000
    assert task.looks.found == []


class AtEpochEnds(Callback):
    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_epoch_metrics_are_over_exactly_its_batches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(20, 3, 28, 28), torch.arange(20) % 3
    loader = DataLoader(TensorDataset(images, labels), batch_size=8)  # the last one has four
    task = ClassificationTask(
        MICRO, data_spec=DataSpec(num_classes=3), lr=1e-30, weight_decay=0.0, schedule=Schedule(min_lr=1e-30)
    )
    watch = AtEpochEnds()
    trainer(tmp_path, max_epochs=2, val_check_interval=1, callbacks=[watch]).fit(task, loader, loader)
    with torch.no_grad():
        logits = [task.model(part) for part in images.split(8)]  # in training mode, as each batch was seen
    losses = [float(F.cross_entropy(out, part)) for out, part in zip(logits, labels.split(8), strict=True)]
    expected = (8 * losses[0] + 8 * losses[1] + 4 * losses[2]) / 20
    right = torch.cat(logits).argmax(dim=1) == labels
    assert len(watch.seen) == 2
    for metrics in watch.seen:
        assert metrics["train/loss"] == pytest.approx(expected, abs=1e-6)
        assert metrics["train/acc1"] == pytest.approx(float(right.float().mean()))
        assert metrics["train/loss_step"] == pytest.approx(losses[-1], abs=1e-6)
