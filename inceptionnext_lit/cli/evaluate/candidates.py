"""The classifiers that ``evaluate`` compares: checkpoints, published weights, or tables of predictions."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inceptionnext_lit.cli.evaluate.exports import ExportedTask
from inceptionnext_lit.cli.exported_file import is_exported
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.evaluation_set import Run
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.loading import load_published, load_task
from inceptionnext_lit.training.callbacks.same_data import KEY as DATA
from inceptionnext_lit.training.callbacks.settings import KEY as RUN

_SHOWN = ("acc1", "macro_acc", "mAP", "f1", "mIoU", "mAcc", "aAcc", "loss")  # metrics of a run with a curve
_MOST_CURVES = 8


@dataclass(frozen=True)
class Candidate:
    """A classifier to evaluate.

    Attributes:
        source: Its file, or the name of its published weights.
        task: The classifier.
        path: Its file; None for downloaded weights.
        run: What its checkpoint says about its run.
        curves: Logged metrics of its run: pairs of epoch and value.
    """

    source: str
    task: ClassificationTask | ExportedTask
    path: Path | None = None
    run: Run = field(default_factory=Run)
    curves: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The model's description as plain data."""
        arguments = self.task.plain_hparams()
        spec = dict(arguments.pop("data_spec", None) or {})
        return {
            "name": arguments.get("name"),
            "preprocessing": spec.get("preprocessing"),
            "temperature": self.task.calibration.temperature,
            "arguments": {key: value for key, value in arguments.items() if value is not None},
        }


def load_candidates(
    checkpoints: Sequence[str],
    name: str | None = None,
    pretrained: str | None = None,
    class_names: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Candidate]:
    """Load the classifiers to evaluate.

    Args:
        checkpoints: Checkpoints of ``fit``, or exported files.
        name: A model name, if published weights are evaluated.
        pretrained: ``true`` or a file of weights, for that model.
        class_names: The names of its classes; None for those that the weights have.
        max_pixels: Maximum number of pixels of an image of an exported file.

    Raises:
        UserError: If there are none, or one cannot be loaded.
    """
    candidates = [_from_file(Path(path).expanduser(), max_pixels) for path in checkpoints]
    if name is not None:
        chosen: str | bool = True if pretrained in (None, "true", "True") else str(pretrained)
        path = Path(chosen).expanduser() if isinstance(chosen, str) else None
        source = name if path is None else f"{name} with {chosen}"
        candidates.append(Candidate(source, load_published(name, chosen, class_names), path))
    elif pretrained is not None:
        raise UserError("--model.pretrained needs the model's name as well: --model.name NAME.")
    return candidates


def _from_file(path: Path, max_pixels: int) -> Candidate:
    if is_exported(path):
        return Candidate(str(path), ExportedTask(path, max_pixels), path)
    task, content = load_task(path)
    return Candidate(str(path), task, path, Run(content.get(RUN, {}), content.get(DATA, {})), logged_curves(path))


def class_names_of(task: ClassificationTask | ExportedTask, root: ImageRoot) -> list[str]:
    """Return a classifier's class names; those of the images' folders if it has as many outputs and no names.

    Args:
        task: The classifier.
        root: The images.
    """
    names = task.class_names
    if names != [str(number) for number in range(len(names))]:
        return names
    folders = root.source.classes()
    # sorted as text, 10 comes before 2
    return folders if len(folders) == len(names) and set(folders) != set(names) else names


def logged_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the validation metrics and losses by epoch of the run that a checkpoint is in, if any.

    Args:
        path: The checkpoint.
    """
    table = path.parent.parent / "metrics.csv"
    if path.parent.name != "checkpoints" or not table.is_file():
        return {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return _by_epoch(rows)
    except (OSError, ValueError, csv.Error):
        return {}


def _by_epoch(rows: list[dict[str, str]]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, text in row.items():
            stage, _, metric = str(name).partition("/")
            if text and metric in _SHOWN and stage in ("train", "val", "val_ema") and row.get("epoch"):
                value = float(text)
                if value == value and abs(value) < float("inf"):
                    found.setdefault(name, []).append((float(row["epoch"]), value))
    order = sorted(found, key=lambda name: (_SHOWN.index(name.partition("/")[2]), name))
    return {name: found[name] for name in order[:_MOST_CURVES]}
