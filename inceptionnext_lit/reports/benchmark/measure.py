"""Compare the speed of models: in alternation, round by round, each in its own process."""

import multiprocessing
import signal
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, cast

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.cost import count_model, image_macs
from inceptionnext_lit.reports.benchmark.case import PRODUCTS, Case, Precision, Product
from inceptionnext_lit.reports.benchmark.exporting import exported
from inceptionnext_lit.reports.benchmark.segmenters import segmenter_macs
from inceptionnext_lit.reports.benchmark.subjects import check_libraries
from inceptionnext_lit.reports.benchmark.worker import serve
from inceptionnext_lit.tasks.loading import load_task
from inceptionnext_lit.wording import first_line

_GRACE = 2  # seconds for a process to exit by itself
_BACKWARD = 3  # forward and backward need about three times the multiply-adds of the forward pass


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


def measure(
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    tick: Callable[[str], None] | None = None,
    products: Sequence[Product] = PRODUCTS,
) -> list[Measurement]:
    """Measure cases alternately, in several rounds.

    Args:
        cases: What to measure; the others are compared with the first. Models are exported as the variants need it.
        rounds: Number of rounds.
        seconds: Minimum duration of a case in a round.
        tick: Called with a description of what happens next.
        products: Sizes of the matrix products whose speed is the bound.

    Raises:
        UserError: If a model is unknown, or a case cannot be run.
    """
    tell = tick or (lambda _: None)
    check_libraries([case.variant for case in cases])
    for case in cases:
        if not Path(case.model).is_file():
            check_model_name(case.model)
    with exported(cases, tell) as ready:
        return _in_turn(ready, rounds, seconds, tell, products)


def _in_turn(
    cases: Sequence[Case], rounds: int, seconds: float, tell: Callable[[str], None], products: Sequence[Product]
) -> list[Measurement]:
    processes: list[_Worker] = []
    try:
        for case in cases:
            tell(f"preparing {case.title} {case.variant}")
            processes.append(_Worker(case))
        kinds = [
            _Kind(process.ready["device"], case.precision, case.runtime)
            for case, process in zip(cases, processes, strict=True)
        ]
        rates: list[list[float]] = [[] for _ in cases]
        matmul: dict[_Kind, list[float | None]] = {kind: [] for kind in kinds}
        peaks: list[float | None] = []
        for number in range(rounds):
            for index, (case, process) in enumerate(zip(cases, processes, strict=True)):
                tell(f"round {number + 1} of {rounds}: {case.title} {case.variant}")
                rates[index].append(cast(float, process.ask("images_per_s", seconds)))
                if number == 0:  # before the matrix products, whose memory does not belong to the model
                    peaks.append(cast(float | None, process.ask("peak_memory_mib")))
                if index == kinds.index(kinds[index]):  # the first of its kind
                    matmul[kinds[index]].append(cast(float | None, process.ask("matmul_gflop_per_s", products)))
        gflop = {(case.title, case.size): _gflop(case) for case in cases}
        bounds = _bounds(matmul)
        return [
            Measurement(
                case=case,
                layout=process.ready["layout"],
                device=process.ready["device"],
                rates=rates[index],
                ratios=[one / first for one, first in zip(rates[index], rates[0], strict=True)],
                matmul=bounds.get(kinds[index][:2]),
                warm_up_s=process.ready["warm_up_s"],
                peak_memory_mib=peaks[index],
                gflop_per_image=gflop[case.title, case.size],
            )
            for index, (case, process) in enumerate(zip(cases, processes, strict=True))
        ]
    finally:
        for process in processes:
            process.end()


class _Kind(NamedTuple):
    """What matrix products have in common."""

    device: str
    precision: Precision
    runtime: str


def _bounds(matmul: Mapping[_Kind, Sequence[float | None]]) -> dict[tuple[str, Precision], list[float]]:
    """Return the best speed of matrix products in each round, per device and precision."""
    measured: dict[tuple[str, Precision], list[Sequence[float]]] = defaultdict(list)
    for kind, rates in matmul.items():
        if known := [rate for rate in rates if rate is not None]:
            measured[kind[:2]].append(known)
    return {kind: [max(together) for together in zip(*rates, strict=True)] for kind, rates in measured.items()}


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Make processes started in this block ignore Ctrl-C, which this process handles by ending them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it later would unblock interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """A case's process, seen from the parent.

    Args:
        case: The case to run.

    Raises:
        UserError: If the case cannot be prepared.
    """

    def __init__(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self._case = case
        self._connection, other = context.Pipe()
        self._process: SpawnProcess = context.Process(target=serve, args=(other, case), daemon=True)
        with _without_interrupts():
            self._process.start()
        other.close()
        self.ready: dict[str, Any] = self._receive()

    def ask(self, name: str, *arguments: object) -> object:
        """Call a method of the case, and wait for what it returns."""
        self._connection.send((name, arguments))
        return self._receive()

    def end(self) -> None:
        """End the process, and kill it if it does not respond."""
        with suppress(OSError):
            self._connection.send(None)
        self._process.join(_GRACE)
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError as error:
            raise self._failure("its process has died, most often for lack of memory") from error
        if isinstance(answer, Exception):
            raise self._failure(first_line(answer))
        return answer

    def _failure(self, reason: str) -> UserError:
        case = self._case
        return UserError(
            f"{case.title} ({case.variant}, {case.mode}, {case.precision}) cannot be measured: {reason}. Leave it out, "
            "or try another variant, a smaller --batch_size or another --image_size."
        )


def _gflop(case: Case) -> float | None:
    """Return the operations per image; None for exported files, and if an operator cannot be counted."""
    path = Path(case.model).expanduser()
    if case.decoder is not None:
        macs = segmenter_macs(case)
    elif path.is_file():
        macs = None if case.file == case.model else _checkpoint_macs(path, case.image_size)
    else:
        count, _ = count_model(case.model, (case.image_size, case.image_size))
        macs = None if count.uncounted else count.total.macs
    return None if macs is None else 2e-9 * macs * (_BACKWARD if case.mode == "train" else 1)


def _checkpoint_macs(path: Path, image_size: int) -> int | None:
    task = load_task(path)[0]
    channels = 3 if task.preprocessing is None else len(task.preprocessing["mean"])
    return image_macs(task.inference_model, (channels, image_size, image_size))
