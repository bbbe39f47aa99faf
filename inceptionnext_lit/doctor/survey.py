"""Examine many files in parallel processes."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.doctor.examine import Examination, examine
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import printable

_CHUNK = 16  # files per task: enough for little overhead, few enough for a smooth progress bar
_AHEAD = 4  # tasks per process that are queued or running


def survey(
    paths: Sequence[str],
    workers: int,
    tick: Callable[[int], object] = lambda read: None,
    max_pixels: int = MAX_PIXELS,
) -> list[Examination]:
    """Examine files in parallel.

    Args:
        paths: The files.
        workers: Number of processes.
        tick: Called repeatedly with the number of files read since the last call.
        max_pixels: Maximum number of pixels of an image.

    Returns:
        What is known of each file, in the order of ``paths``.

    Raises:
        UserError: If a process was killed.
    """
    size = max(1, min(_CHUNK, len(paths) // workers))
    chunks = iter([(start, paths[start : start + size]) for start in range(0, len(paths), size)])
    found: dict[int, list[Examination]] = {}
    # spawned instead of forked: smaller, and without locks held by this process's threads
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(paths)) or 1, context, _prepare)
    running: dict[Future[list[Examination]], tuple[int, Sequence[str]]] = {}
    try:
        for chunk in itertools.islice(chunks, workers * _AHEAD):
            running[pool.submit(_examine_all, chunk[1], max_pixels)] = chunk
        while running:
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                found[running[done][0]] = done.result()
                tick(len(running.pop(done)[1]))
                for chunk in itertools.islice(chunks, 1):
                    running[pool.submit(_examine_all, chunk[1], max_pixels)] = chunk
    except BrokenProcessPool as error:
        first = min(running.values())[1][0]
        raise UserError(
            f"A process that reads images was killed, most likely for lack of memory, near {printable(first)}. "
            "Try again with --workers 1."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    return [examination for start in sorted(found) for examination in found[start]]


def _examine_all(paths: Sequence[str], max_pixels: int) -> list[Examination]:
    return [examine(path, max_pixels) for path in paths]


def _prepare() -> None:
    """Ignore Ctrl-C, which the parent handles, exit with the parent, and silence warnings of C libraries."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
