"""Run a function in several processes that form one gloo group, like a trainer's ranks on one machine."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import start_processes

from tests.forked import forking
from tests.processes import wait_until


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_ranks(count: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Call ``function(*arguments)`` in ``count`` processes, and return the results in the order of the ranks."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    ranks = start_processes(
        _call,
        (count, port, function, folder, arguments),
        nprocs=count,
        join=False,
        start_method=forking().get_start_method(),
    )
    try:
        wait_until(partial(ranks.join, timeout=1), seconds=300)
    finally:
        for process in ranks.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _call(
    rank: int, count: int, port: int, function: Callable[..., Any], folder: Path, arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "NODE_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.save(function(*arguments), folder / f"{rank}.pt")
