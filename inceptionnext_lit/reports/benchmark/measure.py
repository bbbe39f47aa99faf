"""Compare the speed of models: in alternation, round by round, each in its own process."""

import multiprocessing
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, cast

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.reports.benchmark.case import PRODUCTS, Case, Precision, Product
from inceptionnext_lit.reports.benchmark.exporting import exported
from inceptionnext_lit.reports.benchmark.measurement import Measurement, MeasurementInterrupt
from inceptionnext_lit.reports.benchmark.operations import gflop_per_image
from inceptionnext_lit.reports.benchmark.subjects import check_libraries
from inceptionnext_lit.reports.benchmark.worker import serve
from inceptionnext_lit.wording import first_line

_GRACE = 2  # seconds for a process to exit by itself
_DEAD = "its process has died, most often for lack of memory"


def measure(
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    tick: Callable[[str], None] | None = None,
    products: Sequence[Product] = PRODUCTS,
    *,
    at_once: int = 1,
    leave_out: Callable[[Case, UserError], None] | None = None,
) -> list[Measurement]:
    """Measure cases alternately, in several rounds.

    Args:
        cases: What to measure; the others are compared with the first. Models are exported as the variants need it.
        rounds: Number of rounds.
        seconds: Minimum duration of a case in a round.
        tick: Called with a description of what happens next.
        products: Sizes of the matrix products whose speed is the bound.
        at_once: Number of cases that get ready at the same time. With more than one, they slow each other's warm-up,
            and a layout of ``best`` is chosen less surely.
        leave_out: Called with a case that cannot be run, and why; the others are measured all the same.

    Raises:
        UserError: If a model is unknown, or a case cannot be run and there is no ``leave_out``.
        MeasurementInterrupt: After Ctrl-C, if a round is complete.
    """
    tell = tick or (lambda _: None)
    check_libraries([case.variant for case in cases])
    for case in cases:
        if not Path(case.model).is_file():
            check_model_name(case.model)
    with exported(cases, tell) as ready:
        return _in_turn(ready, rounds, seconds, tell, products, at_once, leave_out)


def _in_turn(
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
    products: Sequence[Product],
    at_once: int,
    leave_out: Callable[[Case, UserError], None] | None,
) -> list[Measurement]:
    workers: list[_Worker] = []
    matmul: dict[_Kind, list[float | None]] = defaultdict(list)
    try:
        for start in range(0, len(cases), at_once):
            together = cases[start : start + at_once]
            tell(f"preparing {', '.join(f'{case.title} {case.variant}' for case in together)}")
            for case in together:
                workers.append(_Worker(case))
            for worker in workers[-len(together) :]:
                with _leaving_out(worker, workers, leave_out):
                    worker.get_ready()
        complete = 0
        try:
            for complete in _rounds(workers, matmul, rounds, seconds, tell, products, leave_out):  # noqa: B007
                pass
        except KeyboardInterrupt as stopped:
            if not complete:
                raise
            raise MeasurementInterrupt(_measurements(workers, matmul, complete)) from stopped
        return _measurements(workers, matmul, complete)
    finally:
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.end()


def _rounds(
    workers: "list[_Worker]",
    matmul: "dict[_Kind, list[float | None]]",
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
    products: Sequence[Product],
    leave_out: Callable[[Case, UserError], None] | None,
) -> Iterator[int]:
    """Measure in rounds, and yield how many are complete after each of them."""
    for number in range(rounds):
        for worker in tuple(workers):
            tell(f"round {number + 1} of {rounds}: {worker.case.title} {worker.case.variant}")
            with _leaving_out(worker, workers, leave_out):
                worker.measure(seconds)
                if len(matmul[worker.kind]) == number:  # the first of its kind
                    matmul[worker.kind].append(worker.matmul(products))
        yield number + 1


def _measurements(
    workers: "Sequence[_Worker]", matmul: "Mapping[_Kind, list[float | None]]", rounds: int
) -> list[Measurement]:
    """Return what a number of complete rounds have shown."""
    bounds = _bounds({kind: rates[:rounds] for kind, rates in matmul.items() if len(rates) >= rounds})
    first = workers[0].rates[:rounds]
    return [
        Measurement(
            case=worker.case,
            layout=worker.ready["layout"],
            device=worker.ready["device"],
            rates=worker.rates[:rounds],
            ratios=[one / reference for one, reference in zip(worker.rates[:rounds], first, strict=True)],
            matmul=bounds.get(worker.kind[:2]),
            warm_up_s=worker.ready["warm_up_s"],
            peak_memory_mib=worker.peak,
            gflop_per_image=gflop_per_image(worker.case),
        )
        for worker in workers
    ]


@contextmanager
def _leaving_out(
    worker: "_Worker", workers: "list[_Worker]", leave_out: Callable[[Case, UserError], None] | None
) -> Iterator[None]:
    """Remove a worker that fails in this block, or raise its error if nothing is to be left out."""
    try:
        yield
    except UserError as error:
        if leave_out is None:
            raise
        workers.remove(worker)
        worker.end()
        leave_out(worker.case, error)


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
    """

    def __init__(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self.case = case
        self.rates: list[float] = []
        self.peak: float | None = None
        self.ready: dict[str, Any] = {}
        self._connection, other = context.Pipe()
        self._process: SpawnProcess = context.Process(target=serve, args=(other, case), daemon=True)
        with _without_interrupts():
            self._process.start()
        other.close()

    def get_ready(self) -> None:
        """Wait until the case can run.

        Raises:
            UserError: If it cannot be prepared.
        """
        self.ready = self._receive()

    @property
    def kind(self) -> _Kind:
        """What its matrix products share with those of other cases."""
        return _Kind(self.ready["device"], self.case.precision, self.case.runtime)

    def measure(self, seconds: float) -> None:
        """Run a round, and after the first one note the peak memory."""
        self.rates.append(cast(float, self.ask("images_per_s", seconds)))
        if len(self.rates) == 1:  # before the matrix products, whose memory does not belong to the model
            self.peak = cast(float | None, self.ask("peak_memory_mib"))

    def matmul(self, products: Sequence[Product]) -> float | None:
        """Return the speed of matrix products in GFLOP/s; None if it cannot be measured."""
        return cast(float | None, self.ask("matmul_gflop_per_s", products))

    def ask(self, name: str, *arguments: object) -> object:
        """Call a method of the case, and wait for what it returns."""
        try:
            self._connection.send((name, arguments))
        except OSError as error:
            raise self._failure(_DEAD) from error
        return self._receive()

    def dismiss(self) -> None:
        """Tell the process to exit."""
        with suppress(OSError):
            self._connection.send(None)

    def end(self) -> None:
        """Wait until the process has exited, and kill it if it does not respond."""
        self.dismiss()
        self._process.join(_GRACE)
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._failure(_DEAD) from error
        if isinstance(answer, Exception):
            raise self._failure(first_line(answer))
        return answer

    def _failure(self, reason: str) -> UserError:
        case = self.case
        return UserError(
            f"{case.title} ({case.variant}, {case.mode}, {case.precision}) cannot be measured: {reason}. Leave it out, "
            "or try another variant, a smaller --batch_size or another --image_size."
        )
