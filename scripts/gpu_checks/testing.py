"""The tests that need a GPU."""

from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from gpu_checks.reporting import PartFailed, Work

REPO = Path(__file__).parents[2]


def run_tests(work: Work) -> None:
    """Run ``pytest -m gpu``, and report each test as soon as it has ended.

    Raises:
        PartFailed: If a test failed, or none ran.
    """
    recorder = Recorder(work)
    words = ["-m", "gpu", "-p", "no:cacheprovider", "--color=no", "--continue-on-collection-errors"]
    with chdir(REPO):
        pytest.main([*words, *marked_files(REPO / "tests")], plugins=[recorder])
    recorder.check()


def marked_files(folder: Path) -> list[str]:
    """Return the files of a folder with tests for GPUs; what the others import may not be installed there."""
    return [str(file) for file in sorted(folder.rglob("test_*.py")) if "mark.gpu" in file.read_text("utf-8")]


class Recorder:
    """A plugin of pytest that reports the outcome of each test.

    Args:
        work: Receives the outcomes.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins, in case that it never ends."""
        self._note(nodeid, "did not end")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the outcome of a test, or of its setup or teardown."""
        if report.when == "call" or report.outcome == "skipped":
            self._note(report.nodeid, report.outcome)
        elif report.outcome == "failed":
            self._note(report.nodeid, "failed")

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be read as a failed test."""
        if report.outcome == "failed":
            self._note(report.nodeid, "failed")

    def check(self) -> None:
        """Check the outcomes.

        Raises:
            PartFailed: If a test failed, or none ran.
        """
        failed = [name for name, outcome in self._outcomes.items() if outcome not in ("passed", "skipped")]
        if failed:
            names = ", ".join(name.rpartition("::")[2] or name for name in failed)
            raise PartFailed(f"{len(failed)} of {len(self._outcomes)} tests failed: {names}")
        if "passed" not in self._outcomes.values():
            raise PartFailed("no test ran")

    def _note(self, name: str, outcome: str) -> None:
        self._outcomes[name] = outcome
        self._work.report({"outcomes": self._outcomes})
