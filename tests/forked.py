"""Processes of their own that cost no imports: they are forked from a server that has torch and Lightning already."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from tests.recipes import REPO

# Importing these starts no thread and computes nothing.
PRELOADED = ["inceptionnext_lit.cli.commands.fit", "inceptionnext_lit.reports.budget"]


@cache
def forking() -> ForkServerContext:
    """A context of ``multiprocessing`` whose processes begin with the libraries imported and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with chdir(REPO), patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):  # read when torch is imported
        forkserver.ensure_running()
    return context


def run_cli(words: Sequence[object], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python cli.py WORDS``."""
    return run_script(REPO / "cli.py", words, cwd, **environment)


def run_script(
    script: Path, words: Sequence[object], cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python SCRIPT WORDS``.

    Args:
        script: The script.
        words: Its arguments.
        cwd: The folder in which it runs.
        environment: Variables beside this process's own.
    """
    return run_function(_run_script, str(script), [str(word) for word in words], cwd=cwd, **environment)


def run_function(
    function: Callable[..., object], *arguments: Any, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call a function in a process of its own; what it returns is lost.

    Args:
        function: A function of a module.
        arguments: What it is called with.
        cwd: The folder in which it runs.
        environment: Variables beside this process's own.
    """
    with TemporaryDirectory() as folder:
        out, error = Path(folder, "out"), Path(folder, "error")
        everything = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        method = multiprocessing.get_start_method()
        process = forking().Process(target=_begin, args=(out, error, cwd, everything, method, function, arguments))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(str(arguments), 300, out.read_text(), error.read_text())
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), error.read_text())


def _begin(
    out: Path,
    error: Path,
    cwd: Path,
    environment: Mapping[str, str],
    method: str,
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    for number, path in ((1, out), (2, error)):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
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


def _run_script(script: str, words: list[str]) -> None:
    sys.argv = [script, *words]
    sys.path[:0] = [str(Path(script).parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(script, run_name="__main__")
