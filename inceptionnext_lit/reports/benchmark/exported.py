"""A benchmark case that the runtime of an exported file runs, on the CPU. It imports torch only if the format does."""

import time
from functools import partial
from pathlib import Path

import numpy as np

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import Session, format_of
from inceptionnext_lit.export.metadata import Metadata, read
from inceptionnext_lit.reports.benchmark.case import PRODUCTS, WARM_UPS, Case, Product, best_rate, steps_in
from inceptionnext_lit.reports.benchmark.memory import forget_peak, grown_mib, resident_mib
from inceptionnext_lit.reports.benchmark.products import LIBRARIES

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # OpenVINO's names; of an int8 file, what is left in floats


class ExportedBench:
    """An exported file that is ready to run.

    Attributes:
        case: What is measured.
        layout: None; the runtime chooses it.
        warm_up_s: Seconds until it was ready.

    Args:
        case: What is measured.

    Raises:
        UserError: If the file cannot be run, or does not take such batches.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.layout: str | None = None
        self._file = Path(str(case.file))
        self._before = resident_mib()
        started = time.perf_counter()
        session = open_session(self._file, case)
        self._step = partial(session.run, _images(case, read(session.text, self._file)))
        for _ in range(WARM_UPS):
            self._step()
        self.warm_up_s = time.perf_counter() - started
        forget_peak()

    @property
    def device_name(self) -> str:
        """The device in use."""
        return "cpu"

    def images_per_s(self, seconds: float) -> float:
        """Run for at least this many seconds and three steps, and return the images per second."""
        steps = steps_in(seconds, self._time(1))
        return steps * self.case.batch_size / self._time(steps)

    def matmul_gflop_per_s(self, products: tuple[Product, ...] = PRODUCTS) -> float | None:
        """Return the best speed of the runtime's matrix products in this precision; None if it cannot be measured.

        Args:
            products: Sizes; by default those of the models at 224 pixels and a large square one.
        """
        one = format_of(self._file)
        timer = None if one is None else LIBRARIES.get((one.name, self.case.precision))
        if timer is None:
            return None
        try:
            return best_rate(products, partial(timer, precision=self.case.precision, threads=self.case.threads))
        except ImportError:  # ONNX Runtime runs files without the package onnx
            return None

    def peak_memory_mib(self) -> float | None:
        """Return the peak memory since the warm-up that this process has used beyond its start."""
        return grown_mib(self._before)

    def _time(self, count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            self._step()
        return time.perf_counter() - started


def open_session(file: Path, case: Case) -> Session:
    """Load a file with the threads and the precision of a case.

    Args:
        file: The file.
        case: What is measured.

    Raises:
        UserError: If it cannot be loaded.
    """
    one = format_of(file)
    if one is None:
        raise UserError(f"{file} is not a file of export.")
    if one.name == "openvino":
        return one.open_session(file, threads=case.threads, precision=_HINTS[case.precision])
    return one.open_session(file, threads=case.threads)


def _images(case: Case, metadata: Metadata) -> np.ndarray:
    """Return a batch of random images as the file takes it."""
    side, channels = case.image_size, len(metadata.preprocessing["mean"])
    random = np.random.default_rng(0)
    if metadata.takes == "pixels":
        return random.integers(0, 256, (case.batch_size, side, side, 3), np.uint8)
    return random.standard_normal((case.batch_size, channels, side, side), np.float32)
