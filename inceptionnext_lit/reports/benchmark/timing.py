"""The time that a device takes."""

import time
from collections.abc import Callable
from typing import Any, cast

import torch


def seconds_of(device: torch.device, step: Callable[[], object], count: int) -> float:
    """Return the seconds that a number of steps take; a GPU's are read from its own clock.

    Args:
        device: Where the steps run.
        step: What to run.
        count: How often.
    """
    if device.type != "cuda":
        started = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - started
    begin, end = (cast(Any, torch.cuda.Event)(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        step()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000
