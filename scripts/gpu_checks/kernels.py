"""The kernels beside torch's convolutions: are they right, and how long do they take?"""

import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gpu_checks.environment import copy_rate
from gpu_checks.reporting import PartFailed, Work, describe
from gpu_checks.shapes import DTYPES, Shape, exact, find_shapes, parameters
from inceptionnext_lit.models.kernels.operators import depthwise
from inceptionnext_lit.reports.benchmark.timing import seconds_of

_TRITON = "inceptionnext_lit.models.kernels.depthwise"  # imported by the operator when it runs Triton
# largest errors of maps and of parameters' gradients, relative to the largest value: twice the rounding of a result in
# half precision, and that of long sums in single precision
_LIMITS = {"bf16": (4e-3, 1e-3), "fp16": (1e-3, 1e-3), "fp32": (1e-5, 1e-4)}
_WARM_UPS = 3
_AHEAD = 40_000_000  # cycles, about 20 ms: so long the GPU waits, while the work for it is queued
_FLUSHED = 256 * 2**20  # bytes, more than a GPU caches


@dataclass(frozen=True)
class Sides:
    """A mixer in both forms, with the same parameters and maps.

    Attributes:
        module: The mixer in torch's form.
        convs: Its convolutions.
        x: Its maps, which require a gradient.
        grad: The gradient of its result.
    """

    module: nn.Module
    convs: Sequence[nn.Conv2d]
    x: Tensor
    grad: Tensor

    @classmethod
    def of(cls, shape: Shape, batch_size: int, device: torch.device, dtype: torch.dtype) -> "Sides":
        """Build both forms of a shape."""
        torch.manual_seed(0)
        module = shape.on(device, dtype)
        x, grad = (shape.maps(batch_size, device, dtype) for _ in range(2))
        return cls(module, shape.convs(module), x.requires_grad_(), grad)

    def triton(self) -> Tensor:
        """Run the kernels."""
        return depthwise(self.x, [conv.weight for conv in self.convs], [_bias(conv) for conv in self.convs])

    def torch(self) -> Tensor:
        """Run torch's convolutions as they run under autocast."""
        with self._autocast():
            result: Tensor = self.module(self.x)
        return result

    def gradients(self, forward: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        """Run a form and its backward pass: gradients of the maps, and of each weight and bias."""
        return torch.autograd.grad(forward(), [self.x, *parameters(self.convs)], self.grad)

    def _autocast(self) -> AbstractContextManager[Any]:
        # entered anew in each step, as in training, so that weights are cast again
        return nullcontext() if self.x.dtype == torch.float32 else torch.autocast(self.x.device.type, self.x.dtype)


def check_kernels(work: Work, kind: str) -> None:
    """Report the errors of both forms against double precision, and whether gradients are the same in each run.

    Args:
        work: What the part is given.
        kind: A key of :data:`DTYPES`.

    Raises:
        PartFailed: If the kernels are wrong somewhere.
    """
    without_tf32()
    device = torch.device(work.settings.device)
    records: list[dict[str, Any]] = []
    for shape in find_shapes(work.settings):
        record: dict[str, Any] = {**shape.record(), "type": kind}
        try:
            record |= _errors(Sides.of(shape, work.settings.batch_size, device, DTYPES[kind]), kind)
        except Exception as error:  # the other shapes are checked all the same
            record |= {"right": False, "error": describe(error)}
        records.append(record)
        work.report({"records": records})
    if wrong := [record for record in records if not record["right"]]:
        names = ", ".join(f"{record['kernels']} on {record['map']}" for record in wrong)
        raise PartFailed(f"{len(wrong)} of {len(records)} shapes are wrong{_first_error(records)}: {names}")
    _check_that_triton_ran()


def time_kernels(work: Work) -> None:
    """Report the time of both forms in turn by type and shape, forward and forward with backward.

    Raises:
        PartFailed: If some cannot be measured.
    """
    without_tf32()
    settings = work.settings
    device = torch.device(settings.device)
    shapes = find_shapes(settings)
    clock = Clock(device, settings.runs)
    bandwidth = copy_rate(device, settings.copied_mib)
    records: list[dict[str, Any]] = []
    for kind, shape in ((kind, shape) for kind in settings.types for shape in shapes):
        sides = Sides.of(shape, settings.batch_size, device, DTYPES[kind])
        for mode in ("forward", "forward+backward"):
            record: dict[str, Any] = {**shape.record(), "type": kind, "mode": mode}
            try:
                record |= compare(clock, *steps(sides, mode), settings.rounds)
                record |= traffic(sides, mode, record["triton_us"], bandwidth)
            except Exception as error:  # the other shapes are timed all the same
                record["error"] = describe(error)
            records.append(record)
            work.report({"batch_size": settings.batch_size, "copy_gb_per_s": bandwidth, "records": records})
    if count := sum("error" in record for record in records):
        raise PartFailed(f"{count} of {len(records)} cannot be measured{_first_error(records)}")
    _check_that_triton_ran()


def without_tf32() -> None:
    """Use full precision for fp32, as ``benchmark`` does."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def steps(sides: Sides, mode: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a step of the kernels and one of torch's form."""

    def forward(form: Callable[[], Tensor]) -> object:
        with torch.no_grad():
            return form()

    run = forward if mode == "forward" else sides.gradients
    return lambda: run(sides.triton), lambda: run(sides.torch)


def compare(clock: "Clock", triton: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Time two steps in turn.

    Args:
        clock: The clock.
        triton: A step of the kernels.
        other: The same in torch's form.
        rounds: Number of rounds.

    Returns:
        Medians in microseconds, and the ratio of torch's time to that of the kernels in each round: median, quartiles.
    """
    for step in (triton, other):
        for _ in range(_WARM_UPS):
            step()
    times = [(clock.seconds_per_run(triton), clock.seconds_per_run(other)) for _ in range(rounds)]
    lower, middle, upper = statistics.quantiles([b / a for a, b in times], n=4, method="inclusive")
    return {
        "triton_us": 1e6 * statistics.median(a for a, _ in times),
        "torch_us": 1e6 * statistics.median(b for _, b in times),
        "ratio": middle,
        "ratio_lower_quartile": lower,
        "ratio_upper_quartile": upper,
    }


def traffic(sides: Sides, mode: str, microseconds: float, bandwidth: float) -> dict[str, float]:
    """Return the bandwidth that the kernels reach if each number is read and written once, and its share of a copy's.

    Forward reads and writes a map; backward reads the map and the gradient of the result, and writes that of the map.
    """
    maps = 2 if mode == "forward" else 5
    # weights and biases are read forward and backward, and their gradients are written
    weights = (1 if mode == "forward" else 3) * sum(one.numel() * one.element_size() for one in parameters(sides.convs))
    rate = 1e-3 * (maps * sides.x.numel() * sides.x.element_size() + weights) / microseconds
    return {"gb_per_s": rate, "share_of_copy": rate / bandwidth}


class Clock:
    """Time a step without what it costs to start it, and with its inputs in memory rather than in a cache.

    Args:
        device: Where steps run.
        runs: Number of runs, of which the median is taken.
    """

    def __init__(self, device: torch.device, runs: int) -> None:
        self._device = device
        self._runs = runs
        size = _FLUSHED if device.type == "cuda" else 1
        self._flushed = torch.empty(size, dtype=torch.uint8, device=device)

    def seconds_per_run(self, step: Callable[[], object]) -> float:
        """Return the median time of a run."""
        if self._device.type != "cuda":
            return statistics.median(seconds_of(self._device, step, 1) for _ in range(self._runs))
        marks = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(self._runs)]
        torch.cuda.synchronize()
        torch.cuda._sleep(_AHEAD)
        for begin, end in marks:
            self._flushed.zero_()
            begin.record()
            step()
            end.record()
        torch.cuda.synchronize()
        return statistics.median(begin.elapsed_time(end) for begin, end in marks) / 1000


def _first_error(records: Sequence[dict[str, Any]]) -> str:
    return next((f" ({record['error']})" for record in records if "error" in record), "")


def _check_that_triton_ran() -> None:
    """Make sure that torch was not compared with itself."""
    if _TRITON not in sys.modules:
        raise PartFailed("the operator did not run Triton")


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _errors(sides: Sides, kind: str) -> dict[str, Any]:
    """Return the largest errors of both forms, relative to the largest value of a tensor."""
    result, inputs = exact(sides.x, sides.convs)
    expected = [result.detach(), *torch.autograd.grad(result, inputs, sides.grad.double())]
    found: dict[str, Any] = {}
    for name, form in (("triton", sides.triton), ("torch", sides.torch)):
        computed = [form().detach(), *sides.gradients(form)]
        errors = [_error(a, b) for a, b in zip(computed, expected, strict=True)]
        found[name] = {"output": errors[0], "input_grad": errors[1], "parameter_grads": max(errors[2:])}
    first, second = sides.gradients(sides.triton), sides.gradients(sides.triton)
    found["repeats"] = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    limit, of_sums = _LIMITS[kind]
    errors = found["triton"]
    small = max(errors["output"], errors["input_grad"]) <= limit and errors["parameter_grads"] <= of_sums
    found["right"] = small and found["repeats"]
    return found


def _error(computed: Tensor, expected: Tensor) -> float:
    """Return the largest error, relative to the largest value; infinite if it is not a number."""
    error = ((computed.double() - expected).abs().max() / expected.abs().max()).item()
    return error if error == error else 1e30
