"""What the doctor may find: a table with a row per kind, and how a finding is worded."""

import os
from dataclasses import dataclass, field
from typing import Literal

from inceptionnext_lit.data.opening import HEIF_COMMAND

Severity = Literal["problem", "note"]


@dataclass(frozen=True)
class Kind:
    """What all findings of a kind share.

    Attributes:
        severity: A problem makes the exit code 1, a note does not.
        title: What it is, as a heading.
        remedy: The way out.
    """

    severity: Severity
    title: str
    remedy: str


_LAYOUT = "Lay the images out as FOLDER/train/CLASS/*.jpg and FOLDER/val/CLASS/*.jpg, or as FOLDER/CLASS/*.jpg."
KINDS = {  # in the order of the report
    "unreadable": Kind(
        "problem",
        "unreadable or truncated files",
        "Replace them with intact images or remove them; --data.bad_images.action skip trains without them, but in "
        "your own val/ or test/ they stay an error.",
    ),
    "too_large": Kind(
        "problem",
        "images of more pixels than are allowed, which were not decoded",
        "Shrink them, or raise the limit: --data.bad_images.max_pixels of fit, --max_pixels of doctor.",
    ),
    "unlisted_folder": Kind(
        "problem", "folders that cannot be listed", "Give yourself the permission to read them, or remove them."
    ),
    "layout": Kind("problem", "a layout that is not clear", _LAYOUT),
    "one_class": Kind("problem", "only one class", f"A classifier needs at least two class folders. {_LAYOUT}"),
    "empty_class": Kind("problem", "class folders without images", "Add images, or remove the folders."),
    "looping_class": Kind(
        "problem",
        "class folders that link to a folder above them",
        "Remove these links: training would take every image below as one more class.",
    ),
    "missing_class": Kind(
        "problem",
        "classes missing from a split",
        "Add images of the class to the split, or remove the class from the others.",
    ),
    "twin_classes": Kind(
        "problem",
        "class names that differ only in case, spaces or signs",
        "If they mean the same, move the images into one folder and remove the other.",
    ),
    "few_images": Kind(
        "problem",
        "classes of a single image, of which none can be held back for validation",
        "Add images to them, or make a val/ folder beside train/.",
    ),
    "loose_images": Kind(
        "problem",
        "images beside class folders, which training does not see",
        "Move them into the folder of their class, or out of here.",
    ),
    "leak": Kind(
        "problem",
        "the same picture in several splits (a leak: figures on it are too good)",
        "Keep each picture in one split only, with all of its copies.",
    ),
    "contradiction": Kind(
        "problem",
        "the same picture under several labels",
        "Look which label is right, and remove the picture from the other folders.",
    ),
    "duplicate": Kind(
        "problem", "the same file several times in one class", "Keep one of each, so that it does not count twice."
    ),
    "one_colour": Kind(
        "problem",
        "images that are almost all one colour",
        "Look at them; remove those that show nothing, such as failed exposures and placeholders.",
    ),
    "imbalance": Kind(
        "note",
        "classes of very different size",
        "Weigh rare classes more with --data.balance.class_weights auto, or draw them more often with "
        "--data.balance.sampler balanced.",
    ),
    "near_duplicate": Kind(
        "note",
        "pictures that look the same in one class (copies, series)",
        "Keep one of each, or at least never put them on two sides of a split.",
    ),
    "flat_folder": Kind(
        "note", "images without class folders", f"For predict that is fine; fit needs class folders. {_LAYOUT}"
    ),
    "no_train": Kind(
        "note", "no train/ folder", "validate and test can be run with a trained model; fit needs a train/ folder."
    ),
    "manifest": Kind("note", "how the manifest was read", "Nothing needs to be done if this is what was meant."),
    "unused_folder": Kind(
        "note",
        "folders beside the splits, which are not used and were not read",
        "Nothing needs to be done, unless a split's name is misspelt: they are train, val and test.",
    ),
    "ignored": Kind(
        "note",
        "images in thumbnail folders, recycle bins and the like, which are ignored",
        "Nothing needs to be done. Move images that are meant out of there.",
    ),
    "unread_format": Kind(
        "note",
        "pictures in a format that is not read",
        f"Convert them to JPEG or PNG if they are to be used; HEIC and HEIF can be read after: {HEIF_COMMAND}.",
    ),
    "symlink_loop": Kind(
        "note",
        "links to folders that are visited anyway, and links in a circle",
        "Nothing needs to be done: each folder is visited once. Remove the links if they are not meant.",
    ),
    "cmyk": Kind("note", "CMYK images", "Nothing needs to be done: they are converted to RGB as they are read."),
    "sixteen_bit": Kind(
        "note",
        "images of 16 bits per channel",
        "Nothing needs to be done: they are scaled to 8 bits. Look whether they come out too dark.",
    ),
    "rotated": Kind(
        "note",
        "images with an EXIF orientation",
        "Nothing needs to be done: they are turned upright as they are read; other programs may not do that.",
    ),
    "array": Kind(
        "note",
        "arrays and TIFFs of other channels than pictures have",
        "Train on them with --data.in_chans and their number of channels; at the default of 3, fit leaves .npy files "
        "out and cannot read such TIFFs.",
    ),
    "value_range": Kind(
        "note",
        "floats that are not in [0, 1]",
        "They are taken as they are: scale them, or give --data.input.mean and --data.input.std of the data, and "
        "--data.input.nodata if some stand for no data.",
    ),
    "nodata": Kind(
        "note",
        "pixels that a TIFF's own tag marks as without data",
        "Nothing needs to be done: they become 0 after normalising.",
    ),
    "transparent": Kind(
        "note",
        "images with transparent pixels",
        "Nothing needs to be done: transparency is laid over white. Lay them over another colour if that is wrong.",
    ),
    "animated": Kind(
        "note",
        "animations and files of several pages",
        "Nothing needs to be done if the first picture is meant; save the others as files of their own if they are.",
    ),
    "tiny": Kind(
        "note",
        "images much smaller than the others, or of less than 16 pixels",
        "Look at them: icons and thumbnails among photographs teach little.",
    ),
    "extreme_shape": Kind(
        "note",
        "images of an extreme shape",
        "Cut them into parts: the square that a model sees shows a fifth of such an image or less.",
    ),
    "huge": Kind("note", "images of very many pixels", "Shrink them: each epoch decodes them anew, which takes long."),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: A key of :data:`KINDS`.
        message: What and where, as one sentence that is fit to print.
        paths: The files or folders it is about, as they are, below the folder.
    """

    kind: str
    message: str
    paths: tuple[str, ...] = field(default=())

    @property
    def severity(self) -> Severity:
        """Whether it is a problem or a note."""
        return KINDS[self.kind].severity

    @property
    def remedy(self) -> str:
        """The way out."""
        return KINDS[self.kind].remedy


def below(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """A path as reports show it: relative to the folder where it lies below it."""
    shown = os.path.relpath(path, root)
    return os.fspath(path) if shown.startswith(os.pardir + os.sep) else shown
