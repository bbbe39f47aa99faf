"""Export a classifier: write it in a format, check it against the checkpoint, and describe it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.checking import Check
from inceptionnext_lit.export.formats import Dimension, Format, Session
from inceptionnext_lit.export.graph import Graph, capture
from inceptionnext_lit.export.int8.quantizing import Int8Options, Int8Report, plan, quantize
from inceptionnext_lit.export.metadata import as_text, describe, source_of
from inceptionnext_lit.export.placing import check_output, floats, metadata_file, staging
from inceptionnext_lit.export.wrapper import ExportedModel, Input
from inceptionnext_lit.tasks import ClassificationTask, SegmentationTask

_NOT_RUN = (
    "{title} runs on a Mac only, so the file itself was not run; instead, torch computed its operations as read back "
    "from the file:"
)


class AnyChecked(Protocol):
    """How an exported file differs from the checkpoint."""

    def lines(self) -> list[str]:
        """Describe it."""
        ...

    def refuse(self, one: Format) -> None:
        """Refuse a file that differs too much; raises UserError."""
        ...


CheckedType = TypeVar("CheckedType", bound=AnyChecked)
CheckedResult = TypeVar("CheckedResult", covariant=True)


class AnyCheck(Protocol[CheckedResult]):
    """Images and what the checkpoint says about them, for comparison with files."""

    def compare(self, session: Session, dynamic: Collection[str]) -> CheckedResult:
        """Compare a file with the checkpoint."""
        ...


@dataclass(frozen=True)
class Options:
    """What is exported.

    Attributes:
        takes: ``pixels`` for bytes to probabilities, ``tensor`` for normalized images to logits; None for pixels if the
            model takes RGB images.
        dynamic: The dimensions of the input that may vary; None for all that the format can of pixels, and the batch of
            tensors.
        features: Whether the pooled embedding is a second output.
        check: The images of the check; None for the embedded ones.
        license_line: License of the weights.
        overwrite: Whether existing files are replaced.
        int8: How the file is quantized; None for floats.
    """

    takes: Input | None = None
    dynamic: frozenset[Dimension] | None = None
    features: bool = False
    check: str | None = None
    license_line: str | None = None
    overwrite: bool = False
    int8: Int8Options | None = None


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        output: The written file.
        name: The model.
        title: The format.
        takes: ``pixels`` or ``tensor``.
        outputs: Names of the outputs.
        dynamic: The dimensions of the input that may vary.
        num_classes: Number of classes.
        image_size: Height and width of the images in pixels, unless they may vary.
        size: Size of the files in bytes, without the JSON.
        checked: The comparison of the file in floats with the checkpoint.
        int8: What was quantized; None for a file in floats.
        notes: What else is to be known about the comparison, in sentences.
    """

    output: Path
    name: str
    title: str
    takes: Input
    outputs: list[str]
    dynamic: frozenset[Dimension]
    num_classes: int
    image_size: tuple[int, int]
    size: int
    checked: AnyChecked
    int8: Int8Report | None = None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Describe it."""
        varies = " and ".join(name for name in ("batch", "size") if name in self.dynamic) or "nothing"
        sides = "" if "size" in self.dynamic else f"; images of {self.image_size[0]} x {self.image_size[1]} pixels"
        first = (
            f"{self.output}: {self.title}, {self.name}, {self.num_classes} classes, {self.takes} to "
            f"{' and '.join(self.outputs)}; may vary: {varies}{sides}; {self.size / 1e6:.1f} MB"
        )
        quantized = [] if self.int8 is None else self.int8.lines()
        written = f"Written to {self.output} and {metadata_file(self.output)}"
        of_floats = [] if self.int8 is None else ["The file in floats, before int8 (below, the int8 file):"]
        return [first, *self.notes, *of_floats, *self.checked.lines(), *quantized, written]


def export_task(
    task: ClassificationTask, weights: Path | None, output: Path, one: Format, options: Options
) -> ExportReport:
    """Export a classifier to a file, with its metadata in the file and in ``FILE.json``.

    Args:
        task: The classifier, in eval mode.
        weights: The file that it was loaded from; None for published weights.
        output: The file to write.
        one: The format.
        options: What is exported.

    Returns:
        What was written, and how it differs from the checkpoint.

    Raises:
        UserError: If the format cannot do this, the model cannot be exported, the output cannot be written, the file
            differs from the checkpoint too much, or int8 loses too much; nothing is then written.
    """
    sources = [] if weights is None else [weights]
    check_output(output, one, sources, overwrite=options.overwrite)
    _ = one.module
    if options.int8 is not None:
        _ = one.int8_module
    takes, dynamic = resolve(task, one, options)
    arguments = {"resizes": "size" in dynamic, "with_features": options.features}
    model = ExportedModel(task, takes, **arguments)
    check = Check(task, ExportedModel(task, takes, **arguments, deployed=False), options.check, sizes="size" in dynamic)
    planned = None if options.int8 is None else plan(task, model, options.int8, sizes="size" in dynamic)
    with staging(output, overwrite=options.overwrite) as staged:
        graph = capture(model, dynamic)
        quantized: Int8Report | None = None
        if planned is None:
            checked = write_checked(graph, staged, one, check)
        else:
            with floats(staged) as file:
                checked = write_checked(graph, file, one, check)
                quantized = quantize(task, graph, file, staged, one, planned)
        content = describe(
            task,
            source_of(weights),
            takes=takes,
            outputs=model.outputs,
            dynamic=dynamic,
            format_name=one.name,
            license_line=options.license_line,
            libraries=one.libraries,
        )
        checked_file = {} if quantized is None else {"file": "in floats, before int8"}
        content |= {"check": checked.record() | {"file_was_run": one.runs_here} | checked_file}
        content |= {} if quantized is None else {"int8": quantized.record()}
        size = stamp_file(staged, output, content, one)
    return ExportReport(
        output=output,
        name=str(content["name"]),
        title=one.title,
        takes=takes,
        outputs=model.outputs,
        dynamic=dynamic,
        num_classes=task.num_classes,
        image_size=(model.size[0], model.size[1]),
        size=size,
        checked=checked,
        int8=quantized,
        notes=() if one.runs_here else (_NOT_RUN.format(title=one.title),),
    )


def write_checked(graph: Graph, file: Path, one: Format, check: AnyCheck[CheckedType]) -> CheckedType:
    """Write a file in floats, and refuse it if it differs from the checkpoint too much.

    Args:
        graph: What is written.
        file: The file.
        one: Its format.
        check: Compares it with the checkpoint.

    Raises:
        UserError: If it differs too much.
    """
    one.module.write(graph, file)
    checked = check.compare(one.open_session(file), graph.dynamic)
    checked.refuse(one)
    return checked


def stamp_file(staged: Path, output: Path, content: Mapping[str, Any], one: Format) -> int:
    """Store the metadata in a file and beside it.

    Args:
        staged: The file.
        output: Its name, for messages.
        content: The metadata.
        one: Its format.

    Returns:
        The size of all its files in bytes.

    Raises:
        UserError: If the format cannot store them.
    """
    text = as_text(content)
    one.module.stamp(staged, text)
    if one.open_session(staged).text != text:
        raise UserError(f"The metadata cannot be stored in {output}; nothing was written.")
    size = sum(path.stat().st_size for path in staged.parent.rglob("*") if path.is_file())
    metadata_file(staged).write_text(text, encoding="utf-8")
    return size


def resolve(
    task: ClassificationTask | SegmentationTask, one: Format, options: Options
) -> tuple[Input, frozenset[Dimension]]:
    """Return what a file takes, and which dimensions may vary, with the defaults.

    Args:
        task: The classifier, or the segmentation model.
        one: The format.
        options: What was asked.

    Raises:
        UserError: If the format cannot do it.
    """
    preprocessing = task.preprocessing
    if preprocessing is None:
        raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
    takes: Input = options.takes or ("pixels" if len(preprocessing["mean"]) == 3 else "tensor")
    if options.dynamic is None:
        usual: frozenset[Dimension] = frozenset({"batch", "size"} if takes == "pixels" else {"batch"})
        return takes, one.dynamic & usual
    if fixed := _sorted(options.dynamic - one.dynamic):
        others = ",".join(_sorted(options.dynamic & one.dynamic)) or "none"
        raise UserError(
            f"The {' and the '.join(fixed)} of {one.title} files cannot vary; give --dynamic {others} for this format."
        )
    return takes, options.dynamic


def _sorted(names: Collection[Dimension]) -> Sequence[str]:
    return sorted(names)
