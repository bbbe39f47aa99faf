"""Run everything that waits for a GPU, in eight minutes: tests, kernels, the benchmark and fit.

    python scripts/gpu_check.py
    python scripts/gpu_check.py --parts environment kernel_times train_tiny
    python scripts/gpu_check.py --device cpu

Each part runs in a process of its own, so that one that fails, hangs or runs out of memory does not stop the others.
After each, gpu_check.json has all results so far, and gpu_check.md the tables for the documentation. Parts that no
longer fit into the time are left out, the least important first. --device cpu tries out the script on tiny models.
"""

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gpu_checks.documents import Run, write
from gpu_checks.parts import ROWS, stages
from gpu_checks.reporting import Work, work_on
from gpu_checks.running import Outcome, Part, Stopped, run
from gpu_checks.settings import SETTINGS

REPO = Path(__file__).parents[1]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        words: Its arguments; None takes those of the process.

    Returns:
        An exit code: 0 if everything that ran passed, 1 if something failed, 2 if there is no GPU, or that of a signal.
    """
    options = _parse(words)
    if options.part is not None:
        settings = replace(SETTINGS[options.device], batch_size=options.batch_size)
        row = ROWS[options.part]
        return work_on(f"gpu_checks.{row.function}", row.arguments, Work(settings, options.report, options.folder))
    if options.device == "cuda" and not has_gpu():
        print("There is no CUDA device here; run this where there is one, or try it out with --device cpu.")
        return 2
    with tempfile.TemporaryDirectory(prefix="gpu_check_", ignore_cleanup_errors=True) as folder:
        parts = stages(options.device, options.batch_size, Path(folder), options.parts)
        command = shlex.join(["python", "scripts/gpu_check.py", *(sys.argv[1:] if words is None else words)])
        about = Run(command, options.device, options.batch_size, commit(), f"{datetime.now(UTC):%Y-%m-%d}")
        return check(parts, options.seconds, options.output, about)


def check(parts: Sequence[Sequence[Part]], seconds: float, output: Path, about: Run) -> int:
    """Run parts, and write the documents after each.

    Args:
        parts: The parts by stage.
        seconds: Total time.
        output: Folder of the documents.
        about: What the documents say of the run.

    Returns:
        An exit code.
    """
    started = time.monotonic()
    asked: list[int] = []

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {text}", flush=True)

    def save(outcomes: Mapping[str, Outcome]) -> None:
        titles = {part.name: part.title for stage in parts for part in stage}
        write(output, about, titles, outcomes, seconds, time.monotonic() - started)

    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in _STOPPING}
    try:
        outcomes = run(parts, seconds, save, tell, lambda: asked[0] if asked else None)
    except Stopped as error:
        tell(f"{error}; what was measured is in {output}")
        return 128 + error.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    tell(f"written to {output}")
    return int(any(outcome.status == "failed" for outcome in outcomes.values()))


_STOPPING = (signal.SIGINT, signal.SIGTERM)


def has_gpu() -> bool:
    """Return whether torch finds a CUDA device."""
    import torch

    return torch.cuda.is_available()


def commit() -> str | None:
    """Return the commit of this repository; None outside of one."""
    try:
        command = ["git", "-C", str(REPO), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(SETTINGS), default="cuda", help="(default: cuda)")
    parser.add_argument("--output", type=Path, default=Path("gpu_check"), metavar="FOLDER", help="(default: gpu_check)")
    parser.add_argument("--seconds", type=float, default=480, help="total time (default: 480)")
    parser.add_argument("--parts", nargs="+", choices=tuple(ROWS), default=tuple(ROWS), metavar="PART", help=_NAMES)
    parser.add_argument("--batch_size", type=int, help="images per step (default: 128 on a GPU)")
    parser.add_argument("--part", choices=tuple(ROWS), help=argparse.SUPPRESS)  # in the process of a part
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.batch_size is None:
        options.batch_size = SETTINGS[options.device].batch_size
    return options


_NAMES = f"of {', '.join(ROWS)} (default: all)"

if __name__ == "__main__":
    sys.exit(main())
