"""What the process of a part tells the process that runs it."""

import importlib
import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_checks.settings import Settings
from inceptionnext_lit.safe_save import replacing


class PartFailed(Exception):
    """A part has run to its end, but not everything in it passed."""


@dataclass(frozen=True)
class Work:
    """What a part's process is given.

    Attributes:
        settings: Models and sizes.
        file: The file that receives the result.
        folder: A folder that all parts share until the end.
    """

    settings: Settings
    file: Path
    folder: Path

    def report(self, result: Any, failure: str = "") -> None:
        """Write what is known so far, so that it is kept if the process is killed.

        Args:
            result: Plain values.
            failure: Why the part failed.
        """
        text = json.dumps({"result": result, "failure": failure}, indent=1, allow_nan=False)
        with replacing(self.file) as partial:
            partial.write_text(text, encoding="utf-8")

    def fail(self, failure: str) -> None:
        """Add why the part failed to what was reported."""
        known = json.loads(self.file.read_text("utf-8"))["result"] if self.file.exists() else None
        self.report(known, failure)


def work_on(function: str, arguments: tuple[str, ...], work: Work) -> int:
    """Run a part in this process.

    Args:
        function: The function to call with the work and the arguments, as ``module:name``.
        arguments: Further arguments.
        work: What it is given.

    Returns:
        An exit code: 0 if it passed.
    """
    module, _, name = function.partition(":")
    try:
        getattr(importlib.import_module(module), name)(work, *arguments)
    except PartFailed as error:
        work.fail(str(error))
        return 1
    except Exception as error:  # parts may raise anything
        traceback.print_exc()
        work.fail(describe(error))
        return 1
    return 0


def describe(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    first = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
