"""Graphs of ``torch.export``, which torch runs without this package and the model's code."""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.archive import check_archive, has_int8, is_old, stamp, stored_text
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    import numpy as np
    from torch.export import ExportedProgram

    from inceptionnext_lit.export.graph import Graph

__all__ = ["open_session", "save_program", "stamp", "write"]


def write(graph: "Graph", file: Path) -> None:
    """Write a graph.

    Args:
        graph: The classifier.
        file: The file.
    """
    save_program(graph.program, file)


def save_program(program: "ExportedProgram", file: Path) -> None:
    """Write a graph of torch.

    Args:
        program: The graph.
        file: The file.

    Raises:
        OSError: If it cannot be written.
    """
    import torch

    packed = io.BytesIO()  # torch's own writer ends the process if the disk is full
    torch.export.save(program, packed)
    file.write_bytes(packed.getbuffer())


class ModuleSession:
    """A file that torch runs.

    Attributes:
        text: Its metadata as JSON.

    Args:
        module: Called with a tensor.
        file: The file.
    """

    def __init__(self, module: Any, file: Path) -> None:
        self._module = module
        self.text = stored_text(file)

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs for a batch."""
        import torch

        with torch.inference_mode():
            found = self._module(torch.from_numpy(images))
        return [output.numpy() for output in (found if isinstance(found, list | tuple) else [found])]


def open_session(file: Path, threads: int | None = None) -> ModuleSession:
    """Load a file with torch, on the CPU.

    Args:
        file: The file.
        threads: Number of CPU threads of this process; None to leave it.

    Raises:
        UserError: If it is damaged, or not such a graph.
    """
    import torch

    check_archive(file)
    if threads is not None:
        torch.set_num_threads(threads)
    if has_int8(file):
        import torch.ao.quantization.fx  # defines the operators
    try:
        with _quiet(is_old(file)), file.open("rb") as source:  # torch warns of a path that ends in .PT2
            return ModuleSession(torch.export.load(source).module(), file)
    except Exception as error:  # torch's reader has many types
        raise UserError(f"{file} cannot be loaded by torch.export: {first_line(error)}.") from error


@contextlib.contextmanager
def _quiet(is_quiet: bool) -> Iterator[None]:
    """Keep torch from printing a traceback about an archive of torch 2.7, which it reads nevertheless."""
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, is_quiet or log.disabled
    try:
        yield
    finally:
        log.disabled = before
