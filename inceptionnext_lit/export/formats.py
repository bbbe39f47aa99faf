"""The table of export formats. A format is a row here and a module of this package with the format's name."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.archive import has_machine_code
from inceptionnext_lit.export.metadata import KEY

if TYPE_CHECKING:
    import numpy as np

Dimension = Literal["batch", "size"]
BOTH: frozenset[Dimension] = frozenset({"batch", "size"})


class Session(Protocol):
    """An exported file, ready to run.

    Attributes:
        text: Its metadata as JSON; None if it has none of this package.
    """

    text: str | None

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs, in their order.

        Args:
            images: Pixels, uint8 ``(N, H, W, 3)``, or normalized images, float32 ``(N, C, H, W)``.
        """
        ...


@dataclass(frozen=True)
class Format:
    """A format of exported files.

    Its module has three functions. ``write(graph, file)`` writes a :class:`Graph`; what else belongs to the file has
    the same stem. ``stamp(file, text)`` stores the metadata in it. ``open_session(file, threads)`` returns a
    :class:`Session`; it must not import torch unless the format needs it. The module imports its libraries in
    functions.

    Attributes:
        name: Its name on the command line, and of its module.
        suffix: What its files end in.
        title: What it is called in messages.
        libraries: The modules that writing it needs.
        extra: The extra of this package that installs them; None if it needs nothing more.
        runtime: Those of the modules that running a file needs, and the extra that installs them, if fewer.
        dynamic: The dimensions of the input that may vary.
        tolerance: Largest difference of probabilities from the checkpoint's.
        holds: How to recognize a file whose suffix several formats have.
        runs_here: Whether files can be run by ``predict``.
        int8: The further modules that its int8 files need; None if it has no int8 files.
        trials: The format in which int8 files are tried, if those of this one take minutes to write.
        is_own_folder: How to recognize a folder that export has written, in a format whose files are folders.
    """

    name: str
    suffix: str
    title: str
    libraries: tuple[str, ...] = ()
    extra: str | None = None
    runtime: tuple[tuple[str, ...], str] | None = None
    dynamic: frozenset[Dimension] = BOTH
    tolerance: float = 1e-4
    holds: Callable[[Path], bool] = lambda file: True
    runs_here: bool = True
    int8: tuple[str, ...] | None = None
    trials: str | None = None
    is_own_folder: Callable[[Path], bool] = lambda folder: False

    @property
    def module(self) -> ModuleType:
        """The module that writes and runs files of the format.

        Raises:
            UserError: If a library is missing.
        """
        return self._import(self.libraries, self.extra)

    def _import(self, libraries: tuple[str, ...], extra: str | None) -> ModuleType:
        _require(self.title, libraries, extra)
        return import_module(f"{__package__}.{self.name}")

    @property
    def int8_module(self) -> ModuleType:
        """The module that quantizes files of the format, with a function ``quantizer(graph, file, images, batch)``.

        Raises:
            UserError: If the format has no int8 files, or a library is missing.
        """
        if self.int8 is None:
            names = [one.name for one in FORMATS.values() if one.int8 is not None]
            raise UserError(f"--int8 does not apply to --format {self.name}; give one of {', '.join(names)}.")
        _require(f"{self.title} in int8", self.int8, "int8")
        return import_module(f"{__package__}.int8.{self.name}")

    def open_session(self, file: Path, **settings: Any) -> Session:
        """Load a file of the format.

        Args:
            file: The file.
            **settings: ``threads``, the number of CPU threads, and what else the format's module takes.

        Raises:
            UserError: If a library is missing, or the file cannot be loaded.
        """
        module = self._import(*(self.runtime or (self.libraries, self.extra)))
        return cast(Session, module.open_session(file, **settings))


def _require(title: str, libraries: tuple[str, ...], extra: str | None) -> None:
    if missing := [library for library in libraries if find_spec(library) is None]:
        install = f"pip install 'inceptionnext-lit[{extra}]'"
        raise UserError(f"{title} needs {' and '.join(missing)}; install it with {install}.")


def is_own_package(folder: Path) -> bool:
    """Return whether a folder is a Core ML package that export has written.

    Args:
        folder: The folder.
    """
    model = folder / "Data/com.apple.CoreML/model.mlmodel"
    return (folder / "Manifest.json").is_file() and model.is_file() and KEY.encode() in model.read_bytes()


_ROWS = (
    Format("onnx", ".onnx", "ONNX", ("onnx", "onnxscript", "onnxruntime"), "onnx", (("onnxruntime",), "onnx"), int8=()),
    Format("openvino", ".xml", "OpenVINO", ("openvino",), "openvino", int8=("nncf",)),
    Format("pt2", ".pt2", "torch.export", holds=lambda file: not has_machine_code(file), int8=("torchao",)),
    Format("aoti", ".pt2", "AOTInductor", holds=has_machine_code, int8=("torchao",), trials="pt2"),
    Format("executorch", ".pte", "ExecuTorch", ("executorch",), "executorch", dynamic=frozenset()),
    Format(
        "coreml",
        ".mlpackage",
        "Core ML",
        ("coremltools",),
        "coreml",
        dynamic=frozenset(),
        runs_here=sys.platform == "darwin",
        is_own_folder=is_own_package,
    ),
    Format(
        "litert",
        ".tflite",
        "LiteRT",
        ("litert_torch", "ai_edge_litert"),
        "litert",
        (("ai_edge_litert",), "litert-runtime"),
        dynamic=frozenset(),
    ),
)
FORMATS: dict[str, Format] = {one.name: one for one in _ROWS}


def format_of(path: Path) -> Format | None:
    """Return the format of an exported file by its suffix; None if it does not have one of them.

    Args:
        path: The file.
    """
    suffix = path.suffix.lower()
    for one in FORMATS.values():
        if one.suffix == suffix and one.holds(path):
            return one
    return None
