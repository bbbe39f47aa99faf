"""``evaluate`` for exported files: the predictions of labeled images, and what the file costs."""

import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.decode.image import failure_reason
from inceptionnext_lit.data.evaluation_set import EvaluationSet
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.exported import ExportedClassifier, open_exported
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width, size_text
from inceptionnext_lit.reports.evaluation.inference import NOT_FINITE, RAW, Inference, normalized, table_without_logits
from inceptionnext_lit.tasks.classification.calibration import StoredCalibration

_LEAST, _MOST = 1e-38, 1 - 2**-24  # probabilities in single precision whose logits are finite
_SECONDS, _FEWEST = 1.0, 3  # of measurement; batches


class ExportedTask:
    """An exported file as ``evaluate`` describes a classifier.

    Attributes:
        classifier: The file.
        class_names: Its classes.
        data_spec: Its classes and input.
        preprocessing: Preprocessing of its input.
        calibration: Its thresholds; its probabilities are already divided by the temperature.

    Args:
        path: The file.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        UserError: If it is a segmentation model, or cannot be opened.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        opened = open_exported(path)
        if opened[1].task != "classification":
            raise UserError(f"{path} is a segmentation model; evaluate it apart from classifiers.")
        self.classifier = ExportedClassifier(path, max_pixels, opened)
        about = self.classifier.metadata
        self.class_names = list(about.class_names)
        self.preprocessing = self.classifier.preprocessing
        self.data_spec = DataSpec(self.class_names, len(self.class_names), about.multi_label, self.preprocessing)
        self.calibration = StoredCalibration(thresholds=about.thresholds)

    def plain_hparams(self) -> dict[str, Any]:
        """Return the model's description."""
        about = self.classifier.metadata
        spec = {"class_names": self.class_names, "preprocessing": dict(self.preprocessing)}
        return {"name": about.name, "input": about.takes, "data_spec": spec}

    def predict_images(
        self, images: EvaluationSet, *, batch_size: int, num_workers: int, tick: Callable[[int], object]
    ) -> Inference:
        """Predict labeled images.

        Args:
            images: The images.
            batch_size: Images per batch.
            num_workers: Threads that read images.
            tick: Called with the number of images of each batch.

        Raises:
            UserError: If no image can be read.
        """
        start, paths, is_multi = time.perf_counter(), images.samples.paths, self.data_spec.multi_label
        kept: list[int] = []
        logits, measures, lost = [], [], []
        with ThreadPoolExecutor(max(1, num_workers)) as pool:
            for first in range(0, len(paths), batch_size):
                indices = range(first, min(first + batch_size, len(paths)))
                read = dict(zip(indices, pool.map(self._read, (paths[index] for index in indices)), strict=True))
                good = {index: one for index, one in read.items() if not isinstance(one, str)}
                lost += [(index, one) for index, one in read.items() if isinstance(one, str)]
                scores = self.classifier.probabilities([pixels for pixels, _ in good.values()])
                for (index, (_, measured)), one in zip(good.items(), scores, strict=True):
                    if not np.isfinite(one).all():
                        lost.append((index, NOT_FINITE))
                        continue
                    kept.append(index)
                    measures.append(measured)
                    logits.append(_logits(one, multi_label=is_multi))
                tick(len(indices))
        unreadable = [(paths[index], reason) for index, reason in sorted(lost)]
        if not kept:
            raise UserError(
                f"None of {len(paths):,} images could be evaluated. The first, {unreadable[0][0]}: {unreadable[0][1]}."
            )
        base = table_without_logits(images, np.array(kept), np.array(measures))
        found = normalized(np.stack(logits), images.outputs, multi_label=is_multi)
        table = replace(base, logits=found, thresholds=self._thresholds(images.outputs))
        return Inference({RAW: table}, unreadable, time.perf_counter() - start)

    def _thresholds(self, outputs: Sequence[int] | None) -> list[float] | None:
        stored = self.calibration.thresholds
        return stored if stored is None or outputs is None else [stored[output] for output in outputs]

    def _read(self, path: str) -> tuple[NDArray[Any], tuple[float, float, float]] | str:
        """Return an image as the file takes it with its measures, or the reason why it cannot be read."""
        try:
            picture = self.classifier.load(path)
        except UserError as error:
            return failure_reason(error)
        width, height = picture.size if hasattr(picture, "size") and hasattr(picture, "mode") else (np.nan, np.nan)
        brightness = float(np.asarray(picture, np.float32).mean()) / (1.0 if np.isnan(width) else 255.0)
        return self.classifier.as_input(picture), (min(width, height), width / height, brightness)

    def cost(self, batch_size: int, path: Path) -> dict[str, Any]:
        """Measure the file as ``predict`` runs it.

        Args:
            batch_size: Images per batch.
            path: The file.
        """
        height, width = height_and_width(self.preprocessing)
        channels = len(self.preprocessing["mean"])
        takes_pixels = self.classifier.metadata.takes == "pixels"
        one: NDArray[Any] = (
            np.zeros((height, width, 3), np.uint8) if takes_pixels else np.zeros((channels, height, width), np.float32)
        )
        return measure_file(
            lambda: self.classifier.probabilities([one] * batch_size), batch_size, path, self.preprocessing
        )


def measure_file(
    run: Callable[[], object], batch_size: int, path: Path, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Measure how fast an exported file is.

    Args:
        run: Runs a batch.
        batch_size: Images per batch.
        path: The file.
        preprocessing: Preprocessing of its input.
    """
    run()  # the first batch allocates memory
    batches, start = 0, time.perf_counter()
    while batches < _FEWEST or time.perf_counter() - start < _SECONDS:
        run()
        batches += 1
    rate = batches * batch_size / (time.perf_counter() - start)
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return {
        "image_size": size_text(preprocessing),
        "images_per_second": round(rate, 1),
        "measured_on": f"CPU ({platform.machine()}), batches of {batch_size}, {path.name}",
        "file_bytes": sum(file.stat().st_size for file in files),
    }


def _logits(scores: NDArray[np.float32], *, multi_label: bool) -> NDArray[np.float32]:
    """Return logits of probabilities."""
    bounded = np.clip(scores.astype(np.float64), _LEAST, _MOST if multi_label else 1.0)
    found = np.log(bounded) - np.log1p(-bounded) if multi_label else np.log(bounded)
    return found.astype(np.float32)
