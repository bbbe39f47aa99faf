"""Packages of AOTInductor: the classifier as machine code for this kind of machine, which torch loads."""

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.archive import check_archive, stamp
from inceptionnext_lit.export.pt2 import ModuleSession
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from inceptionnext_lit.export.graph import Graph

__all__ = ["compile_program", "open_session", "stamp", "write"]


def write(graph: "Graph", file: Path) -> None:
    """Compile a graph, which takes a minute and needs a C++ compiler.

    Args:
        graph: The classifier.
        file: The file.

    Raises:
        UserError: If it cannot be compiled.
    """
    compile_program(graph.program, file)


def compile_program(program: "ExportedProgram", file: Path) -> None:
    """Compile a graph of torch.

    Args:
        program: The graph.
        file: The file to write.

    Raises:
        UserError: If it cannot be compiled.
        OSError: If the file cannot be written.
    """
    import torch

    packed = io.BytesIO()  # torch's own writer ends the process if the disk is full
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "To copy construct from a tensor")  # Inductor, of its own tensors
            torch._inductor.aoti_compile_and_package(program, package_path=packed)
    except Exception as error:  # any type, from torch or the compiler
        raise UserError(
            f"The model cannot be compiled: {first_line(error)}. Check that a C++ compiler is installed, or choose "
            "another --format."
        ) from error
    file.write_bytes(packed.getbuffer())


def open_session(file: Path, threads: int | None = None) -> ModuleSession:
    """Load a file with torch, on the CPU.

    Args:
        file: The file.
        threads: Number of CPU threads of this process; None to leave it.

    Raises:
        UserError: If it is damaged, or was compiled for another kind of machine.
    """
    import torch

    check_archive(file)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return ModuleSession(torch._inductor.aoti_load_package(os.fspath(file)), file)
    except Exception as error:  # torch's loader has many types
        raise UserError(f"{file} cannot be loaded by AOTInductor: {first_line(error)}.") from error
