"""Export the models of a benchmark to a temporary folder, as ``export --input tensor`` does."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from inceptionnext_lit.export.formats import FORMATS, Format
from inceptionnext_lit.export.graph import capture
from inceptionnext_lit.export.metadata import as_text, describe, source_of
from inceptionnext_lit.export.wrapper import ExportedModel
from inceptionnext_lit.reports.benchmark.case import FORMS, Case
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.loading import load_random, load_task


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
                _write(_task(case), one, files[key])
            ready.append(replace(case, file=str(files[key])))
        yield ready


def _task(case: Case) -> ClassificationTask:
    """Return a case's checkpoint, or its model with random weights."""
    if (checkpoint := Path(case.model).expanduser()).is_file():
        return load_task(checkpoint)[0].eval().requires_grad_(False)
    return load_random(case.model, image_size=case.image_size).eval().requires_grad_(False)


def _write(task: ClassificationTask, one: Format, file: Path) -> None:
    model = ExportedModel(task, "tensor")
    dynamic = one.dynamic & {"batch"}
    one.module.write(capture(model, dynamic), file)
    about = describe(
        task,
        source_of(None),
        takes="tensor",
        outputs=model.outputs,
        dynamic=dynamic,
        format_name=one.name,
        license_line=None,
    )
    one.module.stamp(file, as_text(about))
