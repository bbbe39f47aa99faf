"""Run both forms of a part of a model on random numbers: whether they agree, and which is faster."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from inceptionnext_lit.models.kernels.choice import Form, use
from inceptionnext_lit.models.kernels.recording import Case
from inceptionnext_lit.wording import first_line

Call = Callable[[Tensor], Tensor]
Step = Callable[[], list[Tensor]]
Timer = Callable[[Mapping[Form, Step], torch.device], Mapping[Form, float]]
"""Returns the milliseconds of each form's step."""

WORTHWHILE = 1.03  # a kernel that is less than 3% faster is not used
_TOLERANCES = {"float64": 1e-9, "float32": 5e-3, "float16": 1e-2, "bfloat16": 5e-2}  # float32 may be TF32 in cuDNN
_WARM_UPS = 3
_ROUNDS = 7
_ROUND_MS = 5.0
_MOST_STEPS = 50  # in a round


@dataclass(frozen=True)
class Verdict:
    """The form that a part uses.

    Attributes:
        form: The form.
        reason: Why: ``faster``, ``not faster``, ``not timed``, or what is wrong with the kernel.
        torch_ms: Milliseconds of torch's form; None if it was not timed.
        triton_ms: Milliseconds of the kernel.
        failed: Whether the kernel raised an error or gave other results.
    """

    form: Form
    reason: str
    torch_ms: float | None = None
    triton_ms: float | None = None
    failed: bool = False


def judge(case: Case, unit: nn.Module, timer: Timer | None) -> Verdict:
    """Run both forms of a part of a model, and choose one of them.

    It runs in the autocast of its caller. Neither the part nor the global random state changes.

    Args:
        case: What it computes.
        unit: The part, on its device.
        timer: Times both forms; None takes the kernel without timing it, if it works.

    Returns:
        The faster form; torch's if the kernel is hardly faster, fails, or gives other results.
    """
    device = next(unit.parameters()).device
    try:
        twins = _twins(unit, device)
        weights = list(twins["torch"].parameters())
        calls: dict[Form, Call] = dict(twins)
        if case.compiled and timer is not None:
            calls = {form: _compiled(call) for form, call in calls.items()}
        steps = {form: _step(case, call, weights, device) for form, call in calls.items()}
        if (difference := _difference(case, steps["torch"](), steps["triton"]())) is not None:
            return Verdict("torch", difference, failed=True)
        return Verdict("triton", "not timed") if timer is None else choose(timer(steps, device))
    except Exception as error:  # of Triton, its compilers or the driver: any type
        return Verdict("torch", first_line(error), failed=True)


def choose(times: Mapping[Form, float]) -> Verdict:
    """Return the form to use.

    Args:
        times: Milliseconds of each form.
    """
    torch_ms, triton_ms = times["torch"], times["triton"]
    is_faster = torch_ms >= WORTHWHILE * triton_ms
    return Verdict("triton" if is_faster else "torch", "faster" if is_faster else "not faster", torch_ms, triton_ms)


def time_alternately(steps: Mapping[Form, Step], device: torch.device) -> Mapping[Form, float]:
    """Time steps in turn, for several rounds, and return the median milliseconds of each.

    Args:
        steps: What to time.
        device: Where they run; a GPU is timed with its events.
    """
    for step in steps.values():
        for _ in range(_WARM_UPS):
            step()
    counts = {
        form: max(1, min(_MOST_STEPS, round(_ROUND_MS / max(_milliseconds(step, 1, device), 1e-3))))
        for form, step in steps.items()
    }
    rounds: dict[Form, list[float]] = {form: [] for form in steps}
    for _ in range(_ROUNDS):
        for form, step in steps.items():
            rounds[form].append(_milliseconds(step, counts[form], device) / counts[form])
    return {form: statistics.median(found) for form, found in rounds.items()}


def _milliseconds(step: Step, count: int, device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        for _ in range(count):
            step()
        return 1e3 * (time.perf_counter() - started)
    with torch.cuda.device(device):
        begin, end = (cast(Any, torch.cuda.Event)(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
    return float(begin.elapsed_time(end))


def _twins(unit: nn.Module, device: torch.device) -> dict[Form, nn.Module]:
    """Return a copy of a part in each form; both share random weights, also if its own are sharded.

    Only their BatchNorms are in training mode, if they were: drop path is random, and synchronized norms would wait for
    other ranks.
    """
    draw = torch.Generator(device).manual_seed(0)
    weights = {id(own): _weights(own, device, draw) for own in unit.parameters()}
    twins: dict[Form, nn.Module] = {form: deepcopy(unit, dict(weights)) for form in get_args(Form)}
    for form, twin in twins.items():
        for module in twin.modules():
            module.training = module.training and type(module) is nn.BatchNorm2d
        use(twin, form)
    return twins


def _weights(own: nn.Parameter, device: torch.device, draw: torch.Generator) -> nn.Parameter:
    """Return random weights of the scale that keeps that of a map."""
    values = torch.empty(own.shape, dtype=own.dtype, device=device).normal_(generator=draw)
    return nn.Parameter(values / math.sqrt(math.prod(own.shape[1:])))


def _compiled(call: Call) -> Call:
    def compute(x: Tensor) -> Tensor:
        return call(x)

    compute.__code__ = compute.__code__.replace()  # Dynamo compiles the same code object only a few times
    return cast(Call, torch.compile(compute, dynamic=False))


def _step(case: Case, call: Call, weights: Sequence[Tensor], device: torch.device) -> Step:
    """Return a function that computes the output of a part, and the gradients that the case needs."""
    draw = torch.Generator(device).manual_seed(1)
    x = torch.empty_strided(case.shape, case.strides, dtype=getattr(torch, case.dtype), device=device)
    x = x.normal_(generator=draw).requires_grad_(case.needs_input)
    wanted = [x] * case.needs_input + list(weights) * case.needs_weights
    with torch.set_grad_enabled(bool(wanted)):
        out = call(x)
    # the same numbers at the same places whatever the strides are; gradients of weights, which are sums over positions,
    # stay in the range of float16
    values = torch.empty(out.shape, dtype=out.dtype, device=device).normal_(generator=draw)
    cotangent = torch.empty_like(out).copy_(values * (x.numel() / x.shape[1]) ** -0.25)

    def step() -> list[Tensor]:
        with torch.set_grad_enabled(bool(wanted)):
            out = call(x)
            return [out.detach(), *(torch.autograd.grad(out, wanted, cotangent) if wanted else ())]

    return step


def _difference(case: Case, expected: Sequence[Tensor], found: Sequence[Tensor]) -> str | None:
    """Return how the kernel's results differ from torch's; None if they agree."""
    names = ["output", "input gradient"][: 1 + case.needs_input]
    names += ["weight gradient"] * (len(expected) - len(names))
    largest: dict[str, float] = {}
    for name, one in zip(names, expected, strict=True):
        # some weights have a gradient of 0 plus rounding errors, such as a bias before a norm
        largest[name] = max(largest.get(name, torch.finfo(torch.float32).tiny), float(one.abs().max()))
    for name, one, other in zip(names, expected, found, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"its {name} is {other.dtype} {tuple(other.shape)} instead of {one.dtype} {tuple(one.shape)}"
        precise = torch.promote_types(one.dtype, torch.float32)
        share = float((one.to(precise) - other.to(precise)).abs().max()) / largest[name]
        if not share <= _TOLERANCES[case.computed_in]:  # also if it is NaN
            return f"its {name} differs from torch's by up to {share:.1%} of the largest value"
    return None
