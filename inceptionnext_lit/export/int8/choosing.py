"""Which images int8 files are calibrated on, and which ones their accuracy is checked on."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.evaluation_set import EvaluationSet, Run, evaluation_set
from inceptionnext_lit.data.sources.embedded import data_folder
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.int8.accuracy import Truth
from inceptionnext_lit.export.int8.images import FileImages, Reader, draw, readable, training_images
from inceptionnext_lit.export.wrapper import ExportedModel
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.wording import count

MOST = 2000  # images of the accuracy check
_FEW = 50  # images of the calibration, or of the check
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
_ENOUGH = 200  # images of a check that is apart from the calibration


@dataclass(frozen=True)
class Chosen:
    """The images of calibration and of the accuracy check.

    Attributes:
        calibration: Images to calibrate on.
        check: Images of the accuracy check.
        truth: Their labels.
        notes: What is remarkable about them, in sentences.
    """

    calibration: FileImages
    check: FileImages
    truth: Truth
    notes: tuple[str, ...]


def choose(
    task: ClassificationTask, model: ExportedModel, folder: str, number: int, check: str | None, *, sizes: bool
) -> Chosen:
    """Choose the images.

    Args:
        task: The classifier.
        model: The exported module.
        folder: Images to calibrate on.
        number: How many of them, at most.
        check: Images of the accuracy check; None for others of the calibration folder.
        sizes: Whether the file takes images of any size.

    Raises:
        UserError: If there are none, none can be read, or they are in an archive.
    """
    for given in (folder, check):
        if given is not None and given.lower().endswith(_ARCHIVES) and Path(given).is_file():
            raise UserError(f"{given} is an archive, not a folder of images; unpack it, and give the folder.")
    reader = Reader(model, sizes=sizes)
    calibration, notes = readable(
        draw(training_images(folder, model.channels), number), reader, f"the calibration folder {folder}"
    )
    notes += _doubts(calibration)
    paths, truth = _labeled(task, model.channels, folder if check is None else check)
    if truth.present is None:
        notes.append(f"The accuracy is not measured, since the labels of the check are not known: {truth.reason}.")
    paths, truth, more = _apart(paths, truth, calibration.paths)
    drawn = draw(paths, MOST)
    images, lost = readable(drawn, reader, f"the check folder {check or folder}")
    if len(images) < _FEW:
        checked = count(len(images), "image")
        lost.append(
            f"Checked on {checked} only; with fewer than {_FEW}, what int8 loses is uncertain. Give a folder with a "
            "few hundred, with --check."
        )
    if truth.present is not None:
        row = {path: place for place, path in enumerate(paths)}
        truth = replace(truth, present=truth.present[[row[path] for path in images.paths]])
    return Chosen(calibration, images, truth, (*notes, *more, *lost))


def _doubts(calibration: FileImages) -> list[str]:
    """Return what makes the calibration images doubtful."""
    notes = []
    different = len({hashlib.sha256(batch.tobytes()).digest() for _, batch in calibration.batches(1)})
    if different < _FEW:
        copies = "copies of " if different < len(calibration) else ""
        notes.append(
            f"Calibrated on {copies}{count(different, 'image')} only; with fewer than {_FEW}, the ranges of "
            "activations are uncertain. Give a folder with a few hundred."
        )
    folders = {Path(path).parent for path in calibration.paths}
    if len(folders) == 1 and len(calibration) > 1:
        notes.append(
            f"All calibration images are from {folders.pop()}; if they are of one class, give images of all classes."
        )
    return notes


def _labeled(task: ClassificationTask, channels: int, folder: str) -> tuple[list[str], Truth]:
    """Return the images of a folder, and their labels if these are classes of the model."""
    root = ImageRoot(folder, channels, multi_label=task.data_spec.multi_label)
    try:
        found = _evaluated(root, task.class_names)
    except UserError as error:
        reason = str(error).partition(". ")[0].rstrip(".")
        return resolve_inputs([str(data_folder(folder))], image_suffixes(channels)), Truth(reason=reason)
    present = np.zeros((len(found.samples), len(found.class_names)), bool)
    present[found.samples.owners(), found.samples.labels] = True
    return list(found.samples.paths), Truth(present, found.outputs)


def _evaluated(root: ImageRoot, classes: Sequence[str]) -> EvaluationSet:
    """Return the labeled images: the validation split, or else the test split, or else all."""
    splits: tuple[Literal["val", "test"], ...] = ("val", "test")
    there = [split for split in splits if root.source.has_splits and root.source.labels(split) is not None]
    return evaluation_set(root, classes, there[0] if there else "all", Run())


def _apart(paths: list[str], truth: Truth, calibration: Sequence[str]) -> tuple[list[str], Truth, list[str]]:
    """Leave the calibration images out of the check, unless too few would remain."""
    calibrated = {os.path.realpath(path) for path in calibration}
    kept = [place for place, path in enumerate(paths) if os.path.realpath(path) not in calibrated]
    shared = len(paths) - len(kept)
    if not shared:
        return paths, truth, []
    if len(kept) < _ENOUGH:
        note = (
            f"The check shares {count(shared, 'image')} with the calibration, which makes it too favorable; give other "
            "images with --check."
        )
        return paths, truth, [note]
    note = f"{count(shared, 'calibration image')} of the same folder are left out of the check."
    present = None if truth.present is None else truth.present[kept]
    return [paths[place] for place in kept], replace(truth, present=present), [note]
