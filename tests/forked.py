"""Processes of their own that cost no imports: they are forked from a server that has torch and Lightning already."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from tests.recipes import REPO

# Importing these starts no thread and computes nothing.
PRELOADED = ["inceptionnext_lit.cli.commands.fit", "inceptionnext_lit.reports.budget.rendering"]
Done = subprocess.CompletedProcess[str]


@cache
def forking() -> ForkServerContext:
    """A context of ``multiprocessing`` whose processes begin with the libraries imported and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with chdir(REPO), patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):  # read when torch is imported
        forkserver.ensure_running()
    return context


def run_cli(words: Sequence[object], cwd: Path, **environment: str) -> Done:
    """Run ``python cli.py WORDS``."""
    return run_script(REPO / "cli.py", words, cwd, **environment)


def run_script(script: Path, words: Sequence[object], cwd: Path, **environment: str) -> Done:
    """Run ``python SCRIPT WORDS``.

    Args:
        script: The script.
        words: Its arguments.
        cwd: The folder in which it runs.
        environment: Variables beside this process's own.
    """
    return run_function(as_script, script, *words, cwd=cwd, **environment)


def run_code(code: str, words: Sequence[object], cwd: Path, **environment: str) -> Done:
    """Run ``python -c CODE WORDS``, where modules that the code does not import may be imported already.

    Args:
        code: The code.
        words: Its arguments.
        cwd: The folder in which it runs.
        environment: Variables beside this process's own.
    """
    return run_function(as_code, code, *words, cwd=cwd, **environment)


def run_function(function: Callable[..., object], *arguments: Any, cwd: Path, **environment: str) -> Done:
    """Call a function in a process of its own; what it returns is lost.

    Args:
        function: A function of a module.
        arguments: What it is called with.
        cwd: The folder in which it runs.
        environment: Variables beside this process's own.
    """
    with forked(function, *arguments, cwd=cwd, **environment) as process:
        return process.wait()


class Forked:
    """A process that was forked.

    Attributes:
        pid: Its number.
    """

    def __init__(self, process: BaseProcess, folder: Path) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process
        self._folder = folder

    def wait(self, seconds: float = 300) -> Done:
        """Wait until it ends; its exit code, and what it printed."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), seconds, *self._printed())
        return subprocess.CompletedProcess(str(self._process), self._process.exitcode, *self._printed())

    def _printed(self) -> tuple[str, str]:
        return (self._folder / "out").read_text(), (self._folder / "error").read_text()


@contextmanager
def forked(function: Callable[..., object], *arguments: Any, cwd: Path, **environment: str) -> Iterator[Forked]:
    """Call a function in a process of its own, which is killed if it still runs when the block ends.

    Args:
        function: A function of a module.
        arguments: What it is called with.
        cwd: The folder in which it runs.
        environment: Variables beside this process's own.
    """
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    method = multiprocessing.get_start_method()
    with TemporaryDirectory() as name:
        folder = Path(name)
        process = forking().Process(target=_begin, args=(folder, cwd, everything, method, function, arguments))
        process.start()
        try:
            yield Forked(process, folder)
        finally:
            if process.exitcode is None:
                process.kill()
                process.join()


def as_script(script: Path, *words: object) -> None:
    """Do in this process what ``python SCRIPT WORDS`` does."""
    sys.argv = [str(script), *map(str, words)]
    sys.path[:0] = [str(script.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(str(script), run_name="__main__")


def as_code(code: str, *words: object) -> None:
    """Do in this process what ``python -c CODE WORDS`` does."""
    sys.argv = ["-c", *map(str, words)]
    exec(code, {"__name__": "__main__"})


def _begin(
    folder: Path,
    cwd: Path,
    environment: Mapping[str, str],
    method: str,
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    for number, name in ((1, "out"), (2, "error")):
        target = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, number)
        os.close(target)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(method, force=True)  # of its own processes; this one's is not the system's
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
