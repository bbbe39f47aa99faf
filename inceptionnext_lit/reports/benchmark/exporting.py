"""Export the models of a benchmark to a temporary folder, as ``export --input tensor`` does."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from inceptionnext_lit.export.formats import FORMATS, Format
from inceptionnext_lit.export.graph import capture
from inceptionnext_lit.export.int8.images import FileImages
from inceptionnext_lit.export.metadata import as_text, describe, source_of
from inceptionnext_lit.export.wrapper import ExportedModel
from inceptionnext_lit.reports.benchmark.case import FORMS, Case
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.loading import load_random, load_task

_CALIBRATION = 16  # images
_BATCH = 4


@contextmanager
def exported(cases: Sequence[Case], tell: Callable[[str], None]) -> Iterator[list[Case]]:
    """Yield cases with their exported files, which are deleted at the end.

    Args:
        cases: What is measured; the variants of torch and cases with files stay as they are.
        tell: Called with a description of what happens next.

    Raises:
        UserError: If a library is missing, or a model cannot be exported.
    """
    with tempfile.TemporaryDirectory(prefix="inceptionnext-lit-") as folder:
        files: dict[tuple[str, int, Format, bool], Path] = {}
        ready = []
        for case in cases:
            if case.variant not in FORMS or case.file is not None:
                ready.append(case)
                continue
            form = FORMS[case.variant]
            one, is_int8 = FORMATS[form.format], form.precision == "int8"
            key = (case.model, case.image_size, one, is_int8)
            if key not in files:
                tell(f"exporting {case.model} {case.variant}")
                files[key] = Path(folder, f"{len(files)}{one.suffix}")
                _write(_task(case), one, files[key], is_int8=is_int8)
            ready.append(replace(case, file=str(files[key])))
        yield ready


def _task(case: Case) -> ClassificationTask:
    """Return a case's checkpoint, or its model with random weights."""
    if (checkpoint := Path(case.model).expanduser()).is_file():
        return load_task(checkpoint)[0].eval().requires_grad_(False)
    return load_random(case.model, image_size=case.image_size).eval().requires_grad_(False)


class _RandomImages:
    """Images to calibrate on, for the speed alone; see ``FileImages``.

    Args:
        images: A batch of them.
    """

    def __init__(self, images: np.ndarray) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, size: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield their positions, and the images."""
        for start in range(0, len(self), size):
            yield list(range(start, min(start + size, len(self)))), self._images[start : start + size]

    def first(self, number: int) -> "_RandomImages":
        """Return some of them."""
        return _RandomImages(self._images[:number])


def _write(task: ClassificationTask, one: Format, file: Path, *, is_int8: bool) -> None:
    model = ExportedModel(task, "tensor")
    dynamic = one.dynamic & {"batch"}
    graph = capture(model, dynamic)
    if is_int8:
        with tempfile.TemporaryDirectory() as folder:
            floats = Path(folder, f"floats{one.suffix}")
            one.module.write(graph, floats)
            images = cast(FileImages, _RandomImages(model.example(_CALIBRATION).numpy()))
            quantizer = one.int8_module.quantizer(graph, floats, images, _BATCH if "batch" in dynamic else 1)
            quantizer.write(file, quantizer.layers)
    else:
        one.module.write(graph, file)
    about = describe(
        task,
        source_of(None),
        takes="tensor",
        outputs=model.outputs,
        dynamic=dynamic,
        format_name=one.name,
        license_line=None,
    )
    one.module.stamp(file, as_text(about | ({"int8": {}} if is_int8 else {})))
