"""What a benchmark has measured."""

import statistics
from dataclasses import dataclass
from typing import Any

from inceptionnext_lit.reports.benchmark.case import Case


@dataclass(frozen=True)
class Measurement:
    """The measurements of a case.

    Attributes:
        case: What was measured.
        layout: The memory layout used; None if the runtime chooses it.
        device: The device used.
        rates: Images per second in each round.
        ratios: The same relative to the first case, in each round.
        matmul: Speed of matrix products in this precision in GFLOP/s, in each round: the best of all cases on this
            device. None if no case can measure it.
        warm_up_s: Seconds until it was ready, including compilation.
        peak_memory_mib: Peak memory while it ran; None if the system does not provide it.
        gflop_per_image: Operations per image, two per multiply-add; None if they cannot be counted.
    """

    case: Case
    layout: str | None
    device: str
    rates: list[float]
    ratios: list[float]
    matmul: list[float] | None
    warm_up_s: float
    peak_memory_mib: float | None
    gflop_per_image: float | None

    def record(self) -> dict[str, Any]:
        """Return the measurements as plain values under stable names, as medians over the rounds."""
        rate = statistics.median(self.rates)
        matmul = None if self.matmul is None else statistics.median(self.matmul)
        per_image = self.gflop_per_image
        gflop = None if per_image is None else rate * per_image
        return {
            "model": self.case.title,
            "variant": self.case.variant,
            "mode": self.case.mode,
            "precision": self.case.precision,
            "layout": self.layout,
            "batch_size": self.case.batch_size,
            "image_size": self.case.image_size if self.case.width is None else list(self.case.size),
            "threads": self.case.threads,
            "keeps_memory": self.case.keeps_memory,
            "device": self.device,
            "rounds": len(self.rates),
            "images_per_s": rate,
            "images_per_s_min": min(self.rates),
            "images_per_s_max": max(self.rates),
            "ratio": statistics.median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "peak_memory_mib": self.peak_memory_mib,
            "gflop_per_s": gflop,
            "matmul_gflop_per_s": matmul,
            "share_of_matmul": None if gflop is None or matmul is None else gflop / matmul,
            "images_per_s_bound": None if per_image is None or matmul is None else matmul / per_image,
            "warm_up_s": self.warm_up_s,
        }


class MeasurementInterrupt(KeyboardInterrupt):
    """Ctrl-C during the measurement.

    Attributes:
        measured: What the complete rounds before it have shown.
    """

    def __init__(self, measured: list[Measurement]) -> None:
        super().__init__()
        self.measured = measured
