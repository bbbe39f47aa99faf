"""A run of ``prepare imagenet`` that is killed at a certain point."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from inceptionnext_lit.prepare.imagenet import Mode, prepare_imagenet
from inceptionnext_lit.prepare.imagenet.variants import Variant


def prepare_until(call: str, number: int, row: Variant, source: Path, output: Path, mode: Mode) -> None:
    """Prepare, and get SIGKILL at a call.

    Args:
        call: A function of :mod:`os` or :mod:`shutil`, such as ``os.replace``, whose file is cut in half.
        number: Which call of it, from 1.
        row: What the data set must contain.
        source: The source.
        output: The output folder.
        mode: How files get there.
    """
    module = {"os": os, "shutil": shutil}[call.partition(".")[0]]
    name = call.partition(".")[2]
    function, calls = getattr(module, name), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            if name == "replace":
                os.truncate(arguments[0], os.path.getsize(arguments[0]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(module, name, counted)
    prepare_imagenet("imagenet", source, output, mode, num_workers=2, row=row)
