"""What a benchmark is asked to measure: models by name, checkpoints and exported files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS, Format, format_of
from inceptionnext_lit.export.metadata import read
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.kernels.choice import why_not
from inceptionnext_lit.preprocessing import height_and_width, size_text
from inceptionnext_lit.reports.benchmark.case import FORMS, Case, Precision
from inceptionnext_lit.tasks.loading import is_checkpoint, is_segmentation, load_task

IMAGE_SIZE = 224  # of models by name
CHECKPOINTS = (".ckpt", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Subject:
    """A model, a checkpoint or an exported file.

    Attributes:
        model: What was given.
        image_size: Side of its images in pixels.
        form: The variant that an exported file is; None for what has several.
        is_int8: Whether an exported file computes in integers.
    """

    model: str
    image_size: int
    form: str | None = None
    is_int8: bool = False

    def cases(self, variants: Sequence[str], template: Case) -> list[Case]:
        """Return a case per variant, or one for an exported file.

        Args:
            variants: The variants.
            template: The rest of what is measured.
        """
        own = replace(template, model=self.model, image_size=self.image_size)
        if self.form is not None:
            precision: Precision = "int8" if self.is_int8 else "fp32"
            return [replace(own, variant=self.form, precision=precision, file=self.model)]
        return [
            replace(own, variant=variant, precision=FORMS[variant].precision if variant in FORMS else own.precision)
            for variant in variants
        ]


def find_subject(model: str, image_size: int | None, batch_size: int) -> Subject:
    """Find out what a model of the command line is.

    Args:
        model: A timm model name, a checkpoint of ``fit``, or an exported file.
        image_size: Side of its images in pixels, if it is given.
        batch_size: Images per step.

    Raises:
        UserError: If there is no such model or file, or it does not take such images.
    """
    path = Path(model).expanduser()
    one = format_of(path)
    if one is None and path.suffix not in CHECKPOINTS and not path.is_file():
        check_model_name(model)
        return Subject(model, image_size or IMAGE_SIZE)
    if not path.exists():
        raise UserError(f"There is no file {model!r}; give a checkpoint, a file of export, or the name of a model.")
    if one is not None:
        return _exported(path, one, image_size, batch_size)
    check_checkpoint(path)
    if is_segmentation(path):
        raise UserError(f"{path} is a checkpoint of a segmentation model; add --task segment.")
    preprocessing = load_task(path)[0].preprocessing
    height, width = (IMAGE_SIZE, IMAGE_SIZE) if preprocessing is None else height_and_width(preprocessing)
    return Subject(str(path), image_size or _side(path, height, width))


def check_checkpoint(path: Path) -> None:
    """Refuse a file of weights, which does not name its model.

    Args:
        path: The file.

    Raises:
        UserError: If it is not a checkpoint of ``fit``, or cannot be read.
    """
    if not is_checkpoint(path):
        raise UserError(
            f"{path} is a file of weights, not a checkpoint of fit; the speed does not depend on weights, so give the "
            "name of its model instead."
        )


def _exported(path: Path, one: Format, image_size: int | None, batch_size: int) -> Subject:
    if not one.runs_here:
        raise UserError(f"{one.title} files such as {path} cannot be run here; leave it out.")
    text = one.open_session(path).text
    metadata = read(text, path)
    if batch_size > 1 and "batch" not in metadata.dynamic:
        raise UserError(f"{path} takes one image at a time; give --batch_size 1.")
    height, width = height_and_width(metadata.preprocessing)
    if image_size is not None and "size" not in metadata.dynamic and (image_size, image_size) != (height, width):
        raise UserError(f"{path} takes images of {size_text(metadata.preprocessing)} pixels; leave out --image_size.")
    is_int8 = "int8" in json.loads(str(text))
    form = f"{one.name}-int8" if is_int8 else one.name
    return Subject(str(path), image_size or _side(path, height, width), form, is_int8)


def _side(path: Path, height: int, width: int) -> int:
    if height != width:
        raise UserError(f"{path} takes images of {height}×{width} pixels; only square ones are measured.")
    return height


def check_libraries(variants: Sequence[str]) -> None:
    """Refuse variants whose libraries or devices are missing, before anything is measured.

    Args:
        variants: The variants.

    Raises:
        UserError: If one is missing.
    """
    for form in dict.fromkeys(FORMS[variant] for variant in variants if variant in FORMS):
        one = FORMATS[form.format]
        _ = (one.module, one.int8_module if form.precision == "int8" else None)
    if (kernels := next((variant for variant in variants if "kernels" in variant), None)) is not None:
        reason = why_not("cuda" if torch.cuda.is_available() else "cpu")
        if reason:
            raise UserError(
                f"The variant {kernels} cannot be measured here: {reason}. Leave it out, or measure it on a machine "
                "with a GPU and Triton."
            )
