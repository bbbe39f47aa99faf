"""The classes of the validation images, whose file names do not tell them."""

import csv
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count, first_line, listed, printable

CSV = "LOC_val_solution.csv"
DEVKIT = "ILSVRC2012_devkit_t12"
_ARCHIVES = (f"{DEVKIT}.tar.gz", f"{DEVKIT}.gz", f"{DEVKIT}.tar", f"{DEVKIT}.tgz")
_META, _TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
_VAL = re.compile(r"ILSVRC2012_val_\d{8}")
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ValLabels:
    """The classes of the validation images.

    Attributes:
        file: Where they were read.
        classes: The class of each image, by the stem of its name.
        train_counts: Training images of each class, which the devkit tells too.
    """

    file: Path
    classes: dict[str, str]
    train_counts: dict[str, int] | None = None


def find_labels(places: list[Path]) -> ValLabels | None:
    """Read the files of labels in some folders: the devkit, packed or unpacked, and Kaggle's CSV.

    Args:
        places: Where to look.

    Returns:
        The labels of the first file, or None if there is none.

    Raises:
        UserError: If a file cannot be read or is of another data set, or two of them disagree.
    """
    first: ValLabels | None = None
    seen = set()
    for path, read in _candidates(places):
        if (real := path.resolve()) not in seen:
            seen.add(real)
            found = read(path)
            if first is not None:
                _check_agreement(first, found)
            first = first or found
    return first


def _candidates(places: list[Path]) -> Iterator[tuple[Path, Callable[[Path], ValLabels]]]:
    """Yield the files of labels, or folders of them, with the function that reads each."""
    for place in places:
        for name in _ARCHIVES:
            if (place / name).is_file():
                yield place / name, _of_archive
        for folder in (place / DEVKIT / "data", place / "data", place):
            if (folder / _TRUTH).is_file():
                yield folder, _of_folder
        if (place / CSV).is_file():
            yield place / CSV, _of_csv


def _check_agreement(first: ValLabels, second: ValLabels) -> None:
    both = first.classes.keys() & second.classes.keys()
    if differing := sorted(stem for stem in both if first.classes[stem] != second.classes[stem]):
        raise UserError(
            f"{first.file} and {second.file} give different classes to {count(len(differing), 'validation image')}, "
            f"such as {differing[0]}; remove the wrong one."
        )


def _of_csv(path: Path) -> ValLabels:
    """Read rows such as ``ILSVRC2012_val_00048981,n03995372 85 1 499 272``: the class, then boxes of objects."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"ImageId", "PredictionString"} <= set(rows.fieldnames or ()):
                raise _other(path, f"its columns are {listed(rows.fieldnames or ['none'])}")
            classes = {(row["ImageId"] or ""): (row["PredictionString"] or "").partition(" ")[0] for row in rows}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}. Download it again.") from error
    for stem, wnid in classes.items():
        if not _VAL.fullmatch(stem) or not _WNID.fullmatch(wnid):
            raise _other(path, f"it has the image {printable(stem)!r} of class {printable(wnid)!r}")
    if not classes:
        raise _other(path, "it has no rows")
    return ValLabels(path, classes)


def _of_archive(path: Path) -> ValLabels:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in (_META, _TRUTH) and (file := archive.extractfile(member)) is not None:
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} is broken ({first_line(error)}); download it again.") from error
    if missing := [name for name in (_META, _TRUTH) if name not in found]:
        raise _other(path, f"it has no {missing[0]}")
    return _of_devkit(path, found[_META], found[_TRUTH])


def _of_folder(folder: Path) -> ValLabels:
    if not (folder / _META).is_file():
        raise UserError(
            f"{folder} has {_TRUTH}, but not {_META}, which tells the classes of its numbers; unpack {_ARCHIVES[0]} "
            "there again."
        )
    return _of_devkit(folder, (folder / _META).read_bytes(), (folder / _TRUTH).read_bytes())


def _of_devkit(place: Path, meta: bytes, truth: bytes) -> ValLabels:
    """Combine the devkit's table of classes with its list of class numbers, one line for each image."""
    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        low_level = [row for row in synsets if int(row["num_children"]) == 0]  # the others are their ancestors
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in low_level}
        counts = {str(row["WNID"]): int(row["num_train_images"]) for row in low_level}
    except Exception as error:  # scipy raises many types for damaged files
        raise UserError(f"{_META} in {place} cannot be read ({first_line(error)}); download it again.") from error
    lines = truth.split()
    classes = {}
    for number, line in enumerate(lines, start=1):
        if not line.isdigit() or int(line) not in wnids:
            raise _other(place, f"line {number} of {_TRUTH} is not a number of a class")
        classes[f"ILSVRC2012_val_{number:08}"] = wnids[int(line)]
    return ValLabels(place, classes, counts)


def _other(place: Path, reason: str) -> UserError:
    return UserError(
        f"{place} does not have the labels of ILSVRC 2012's validation images: {reason}. Use {_ARCHIVES[0]} of "
        f"image-net.org, or Kaggle's {CSV}."
    )
