"""Operations that a case needs per image."""

from functools import cache
from pathlib import Path

from inceptionnext_lit.models.cost import count_model, image_macs
from inceptionnext_lit.reports.benchmark.case import Case
from inceptionnext_lit.reports.benchmark.segmenters import segmenter_macs
from inceptionnext_lit.tasks.loading import load_task

_BACKWARD = 3  # forward and backward need about three times the multiply-adds of the forward pass


def gflop_per_image(case: Case) -> float | None:
    """Return a case's operations per image in G, two per multiply-add; None for exported files, or if unknown.

    Args:
        case: The case. Its operations are unknown if it has an operator that cannot be counted.
    """
    path = Path(case.model).expanduser()
    if case.decoder is not None:
        macs = segmenter_macs(case)
    elif path.is_file():
        macs = None if case.file == case.model else _checkpoint_macs(path, case.image_size)
    else:
        macs = _model_macs(case.model, case.image_size)
    return None if macs is None else 2e-9 * macs * (_BACKWARD if case.mode == "train" else 1)


@cache  # takes seconds, and a model's variants all ask
def _model_macs(name: str, image_size: int) -> int | None:
    count, _ = count_model(name, (image_size, image_size))
    return None if count.uncounted else count.total.macs


def _checkpoint_macs(path: Path, image_size: int) -> int | None:
    task = load_task(path)[0]
    channels = 3 if task.preprocessing is None else len(task.preprocessing["mean"])
    return image_macs(task.inference_model, (channels, image_size, image_size))
