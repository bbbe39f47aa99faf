"""Models and their forms in turn, as ``benchmark`` measures them."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from gpu_checks.reporting import PartFailed, Work, describe
from gpu_checks.settings import Settings
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.reports.benchmark.case import TORCH_VARIANTS, Case, Mode
from inceptionnext_lit.reports.benchmark.measure import measure
from inceptionnext_lit.reports.benchmark.subjects import check_libraries
from inceptionnext_lit.reports.benchmark.worker import prepare

_OWN = ("eager", "compile", "kernels", "compile+kernels")
_OTHERS = ("eager", "compile")
_DEPLOYED = ("deploy+compile", "deploy+compile+kernels")
_COMPILERS = 6  # processes that compile at once


@dataclass(frozen=True)
class Group:
    """What is compared in one run of ``benchmark``.

    Attributes:
        mode: Inference or training.
        own: Fields of :class:`Settings` with models of this package.
        others: Those with models that they are compared with.
        deployed: Those that are also measured as ``predict`` runs them.
    """

    mode: Mode
    own: tuple[str, ...]
    others: tuple[str, ...] = ()
    deployed: tuple[str, ...] = ()


GROUPS = {
    "train_tiny": Group("train", ("tiny",), ("convnext", "timm")),
    "infer_tiny": Group("infer", ("tiny",), ("convnext", "timm"), ("tiny", "convnext")),
    "train_iso": Group("train", ("iso",), ("deit",)),
    "infer_iso": Group("infer", ("iso",), ("deit",), ("iso", "deit")),
    "train_small": Group("train", ("small",)),
    "infer_small": Group("infer", ("small",)),
}


def cases(settings: Settings, group: str) -> list[Case]:
    """Return the cases of a group.

    Args:
        settings: Models and sizes.
        group: A key of :data:`GROUPS`.
    """
    one = GROUPS[group]
    pairs = [(name, variant) for name in one.own for variant in _OWN]
    pairs += [(name, variant) for name in one.others for variant in _OTHERS]
    pairs += [(name, variant) for name in one.deployed for variant in _DEPLOYED[: 1 + (name in one.own)]]
    return [
        Case(
            model=getattr(settings, name),
            variant=variant,
            mode=one.mode,
            precision="bf16" if settings.device == "cuda" else "fp32",
            layout="channels_last",
            batch_size=settings.batch_size,
            image_size=settings.image_size,
            threads=usable_cores(),
            keeps_memory=True,
        )
        for name, variant in pairs
        if variant in settings.variants
    ]


def measure_group(work: Work, group: str) -> None:
    """Report the speed of a group's cases.

    Args:
        work: What the part is given.
        group: A key of :data:`GROUPS`.

    Raises:
        PartFailed: If some cannot be measured.
    """
    wanted = cases(work.settings, group)
    known, left_out = _possible(wanted)
    settings = work.settings
    work.report({"records": [], "left_out": left_out})
    measured = measure(
        known,
        settings.rounds,
        settings.seconds,
        lambda text: print(text, flush=True),
        at_once=settings.at_once,
        leave_out=lambda case, error: left_out.append(_left_out(case, str(error))),
    )
    work.report({"records": [{**one.record(), "rates": one.rates} for one in measured], "left_out": left_out})
    _check(left_out, len(wanted), "measured")


def compile_all(work: Work) -> None:
    """Compile what the groups need, several at a time, into the folders where torch and Triton keep compiled code.

    Raises:
        PartFailed: If some cannot be compiled.
    """
    wanted = [case for group in GROUPS for case in cases(work.settings, group) if "compile" in case.variant]
    known, left_out = _possible(wanted)
    seconds: dict[str, float] = {}
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(max(1, usable_cores() // _COMPILERS))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_COMPILERS, context, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(seconds_until_ready, case): case for case in known}
        for future in as_completed(waiting):
            case = waiting[future]
            if (error := future.exception()) is None:
                seconds[f"{case.model} {case.variant} {case.mode}"] = future.result()
            else:
                left_out.append(_left_out(case, describe(error)))
            work.report({"seconds": seconds, "left_out": left_out})
    _check(left_out, len(wanted), "compiled")


def seconds_until_ready(case: Case) -> float:
    """Build, compile and warm up a case, and return the seconds that this took."""
    return prepare(case).warm_up_s


def why_not(case: Case) -> str:
    """Return why a case cannot be measured here; empty if it can.

    ``benchmark`` would measure a variant that it does not know as another one, and refuses all if one is impossible.
    """
    if case.variant not in TORCH_VARIANTS:
        return "this version does not have it"
    try:
        check_libraries([case.variant])
    except UserError as error:
        return str(error)
    return ""


def _possible(wanted: Sequence[Case]) -> tuple[list[Case], list[dict[str, Any]]]:
    """Return the cases that can be measured here, and why the others are left out."""
    reasons = [(case, why_not(case)) for case in wanted]
    return [case for case, reason in reasons if not reason], [_left_out(*one) for one in reasons if one[1]]


def _left_out(case: Case, reason: str) -> dict[str, Any]:
    return {"model": case.model, "variant": case.variant, "reason": reason}


def _check(left_out: list[dict[str, Any]], count: int, verb: str) -> None:
    if left_out:
        names = ", ".join(f"{one['model']} {one['variant']}" for one in left_out)
        raise PartFailed(f"{len(left_out)} of {count} cannot be {verb}: {names}")
