"""Turn the float file of a classifier into an int8 file that loses no more than is accepted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS, Format
from inceptionnext_lit.export.graph import Graph
from inceptionnext_lit.export.int8.accuracy import Judge, Limits
from inceptionnext_lit.export.int8.choosing import Chosen, choose
from inceptionnext_lit.export.int8.quantizer import Quantizer
from inceptionnext_lit.export.int8.scores import BATCH, Scorer, speeds
from inceptionnext_lit.export.int8.search import Found, Search
from inceptionnext_lit.export.wrapper import ExportedModel
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.wording import count, listed


@dataclass(frozen=True)
class Int8Options:
    """How a classifier is quantized.

    Attributes:
        calibration: Images to calibrate on.
        images: How many of them, at most.
        max_drop: The largest drop of the accuracy that is accepted, in percentage points.
        min_agreement: The smallest share of labels that agree with the float file, in percent; None for any.
        check: Images of the accuracy check; None for others of the calibration folder.
        say: Called with lines on the progress.
    """

    calibration: str
    images: int = 300
    max_drop: float = 0.5
    min_agreement: float | None = None
    check: str | None = None
    say: Callable[[str], object] = print


@dataclass(frozen=True)
class Plan:
    """How a classifier is quantized, and on which images; made before anything is exported, since it may be refused.

    Attributes:
        options: How it is quantized.
        chosen: The images.
    """

    options: Int8Options
    chosen: Chosen


@dataclass(frozen=True)
class Int8Report:
    """An int8 file, and what it was made from.

    Attributes:
        found: What it loses.
        chosen: The images.
        layers: Number of layers that could be quantized.
        sizes: Sizes of the float file and of the int8 file in bytes.
        rates: Images per second of both.
        batch: Images per batch of the measurement.
        options: What was asked.
    """

    found: Found
    chosen: Chosen
    layers: int
    sizes: tuple[int, int]
    rates: tuple[float, float]
    batch: int
    options: Int8Options

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "method": self.found.quantizer.method,
            "layers": self.layers,
            "calibration": {"source": self.options.calibration, "images": len(self.chosen.calibration)},
            "max_drop": self.options.max_drop,
            "min_agreement": self.options.min_agreement,
            "check": self.found.record(),
            "notes": list(self.chosen.notes),
            "file_bytes": {"float": self.sizes[0], "int8": self.sizes[1]},
            "images_per_second": {
                "batch": self.batch,
                "float": round(self.rates[0], 1),
                "int8": round(self.rates[1], 1),
            },
        }

    def lines(self) -> list[str]:
        """Describe it."""
        floats = self.found.floats
        smoothing = self.found.smoothing
        smoothed = ", smoothed by SmoothQuant" if smoothing is not None and smoothing.is_used else ""
        kept = f", {len(floats)} of them left in floats: {listed(floats, 8)}" if floats else ""
        return [
            f"int8: {self.layers} layers{smoothed}{kept}; calibrated on "
            f"{count(len(self.chosen.calibration), 'image')} of {self.options.calibration}",
            *self.chosen.notes,
            *self.found.drop.lines(),
            f"Size: {self.sizes[0] / 1e6:.2f} MB in float, {self.sizes[1] / 1e6:.2f} MB in int8",
            f"Speed here, in turn, batches of {self.batch}: {self.rates[0]:,.0f} images/s in float, "
            f"{self.rates[1]:,.0f} in int8 ({self.rates[1] / self.rates[0]:.2f} times)",
        ]


def plan(task: ClassificationTask, model: ExportedModel, options: Int8Options, *, sizes: bool) -> Plan:
    """Choose the images.

    Args:
        task: The classifier.
        model: The exported module.
        options: How it is quantized.
        sizes: Whether the file takes images of any size.

    Raises:
        UserError: If there are none, or none can be read.
    """
    return Plan(options, choose(task, model, options.calibration, options.images, options.check, sizes=sizes))


def quantize(
    task: ClassificationTask, graph: Graph, float_file: Path, file: Path, one: Format, planned: Plan
) -> Int8Report:
    """Write the int8 file.

    Args:
        task: The classifier.
        graph: Its graph.
        float_file: The file in floats, which has been checked.
        file: The file to write.
        one: The format.
        planned: How it is quantized, and on which images.

    Raises:
        UserError: If nothing can be quantized, or the limits cannot be kept.
    """
    model, options, chosen = cast(ExportedModel, graph.model), planned.options, planned.chosen
    batch = BATCH if "batch" in graph.dynamic else 1
    scorer = Scorer(task, is_tensor=model.takes == "tensor", batch=batch)
    float_session = one.open_session(float_file)
    multi_label = task.data_spec.multi_label
    judge = Judge(
        scorer.scores(float_session, chosen.check),
        chosen.truth,
        multi_label=multi_label,
        thresholds=task.calibration.thresholds,
        max_drop=options.max_drop,
    )
    tried = FORMATS[one.trials or one.name]
    quantizer: Quantizer = tried.int8_module.quantizer(graph, float_file, chosen.calibration, batch)
    if not quantizer.layers:
        raise UserError(f"The model has no layer that can be quantized for {one.title}; leave out --int8.")
    search = Search(
        quantizer,
        tried.open_session,
        scorer,
        judge,
        chosen.check,
        chosen.calibration,
        float_session,
        multi_label=multi_label,
        say=options.say,
    )
    limits = Limits(options.max_drop, options.min_agreement)
    found = search.run(file, limits)
    if tried is not one:
        options.say(f"Compiling the {one.title} file in int8, which takes minutes")
        compiling: Quantizer = one.int8_module.compiling(quantizer)
        compiling.write(file, [layer for layer in quantizer.layers if layer not in found.floats])
        found = search.confirm(found, one.open_session(file), limits)
    _, example = next(iter(chosen.check.batches(1)))
    rates = speeds({"float": float_session, "int8": one.open_session(file)}, np.concatenate([example] * batch))
    return Int8Report(
        found,
        chosen,
        len(quantizer.layers),
        (_size(float_file), _size(file)),
        (rates["float"], rates["int8"]),
        batch,
        options,
    )


def _size(file: Path) -> int:
    """Return the size in bytes of all files of a folder of its own."""
    return sum(path.stat().st_size for path in file.parent.rglob("*") if path.is_file())
