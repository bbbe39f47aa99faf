"""The kinds of findings of the doctor command, one row per kind."""

import os
from dataclasses import dataclass, field
from typing import Literal

from inceptionnext_lit.data.decode.opening import HEIF_COMMAND

Severity = Literal["problem", "note"]


@dataclass(frozen=True)
class Kind:
    """What all findings of a kind have in common.

    Attributes:
        severity: A problem makes the exit code 1, a note does not.
        title: Description of the kind, as a heading.
        remedy: What to do about it.
    """

    severity: Severity
    title: str
    remedy: str


_LAYOUT = "Arrange the images as FOLDER/train/CLASS/*.jpg and FOLDER/val/CLASS/*.jpg, or as FOLDER/CLASS/*.jpg."
KINDS = {  # in the order of the report
    "unreadable": Kind(
        "problem",
        "unreadable or truncated files",
        "Replace them with intact images or remove them; --data.bad_images.action skip trains without them, but in "
        "your own val/ or test/ they are still errors.",
    ),
    "too_large": Kind(
        "problem",
        "images with more pixels than allowed, which were not decoded",
        "Shrink them, or raise the limit: --data.bad_images.max_pixels of fit, --max_pixels of doctor.",
    ),
    "unlisted_folder": Kind("problem", "folders that cannot be listed", "Get permission to read them, or remove them."),
    "layout": Kind("problem", "an ambiguous layout", _LAYOUT),
    "one_class": Kind("problem", "only one class", f"A classifier needs at least two class folders. {_LAYOUT}"),
    "empty_class": Kind("problem", "class folders without images", "Add images, or remove the folders."),
    "looping_class": Kind(
        "problem",
        "class folders that link to a folder above them",
        "Remove these links: training would use all images below as one more class.",
    ),
    "missing_class": Kind(
        "problem",
        "classes missing from a split",
        "Add images of the class to the split, or remove the class from the others.",
    ),
    "twin_classes": Kind(
        "problem",
        "class names that differ only in case, spaces or punctuation",
        "If they mean the same, move the images into one folder and remove the other.",
    ),
    "few_images": Kind(
        "problem",
        "classes with a single image, none of which can be held back for validation",
        "Add images to them, or make a val/ folder next to train/.",
    ),
    "loose_images": Kind(
        "problem",
        "images next to class folders, which training does not use",
        "Move them into the folder of their class, or out of here.",
    ),
    "leak": Kind(
        "problem",
        "the same picture in several splits (a leak: metrics on it are too high)",
        "Keep each picture in one split only, with all of its copies.",
    ),
    "contradiction": Kind(
        "problem",
        "the same picture under several labels",
        "Check which label is right, and remove the picture from the other folders.",
    ),
    "duplicate": Kind(
        "problem", "the same file several times in one class", "Keep one of each, so that it does not count twice."
    ),
    "one_colour": Kind(
        "problem",
        "images that are almost entirely one color",
        "Look at them, and remove those that show nothing, such as failed exposures and placeholders.",
    ),
    "dark": Kind(
        "problem",
        "16-bit images that are read almost black",
        "If their values have 12 bits or fewer, scale them to 16 bits, or save them with 8 bits.",
    ),
    "mask_kind": Kind(
        "problem",
        "masks whose meaning is unclear",
        "Do what the message says; until then, classes and values were not checked.",
    ),
    "mask_missing": Kind("problem", "images without a mask", "Add the masks, or take the images out."),
    "image_missing": Kind("problem", "masks without an image", "Add the images, or take the masks out."),
    "mask_clash": Kind(
        "problem",
        "files that share a name, so that it is unclear which mask belongs to which image",
        "Rename or remove one of each.",
    ),
    "mask_size": Kind(
        "problem",
        "masks of another size than their image",
        "Give both the same size. If images have an EXIF rotation, --data.input.exif ignore reads them as stored.",
    ),
    "mask_values": Kind(
        "problem",
        "masks with values or colors beyond the classes",
        "Correct the masks, or add the classes to classes.csv; a row named ignore is for pixels that do not count.",
    ),
    "mask_jpeg": Kind("problem", "masks as JPEG, whose compression changes values", "Save masks as PNG."),
    "mask_depth": Kind("problem", "masks of more than 8 bits per channel", "Save the classes as 0 to 254 with 8 bits."),
    "mask_transparent": Kind("problem", "masks with transparent pixels", "Save them without an alpha channel."),
    "mask_colors": Kind(
        "problem",
        "masks with hundreds of colors, as photos and smoothed masks have them",
        "Save them without smoothing or lossy compression, as PNG.",
    ),
    "mask_outline": Kind("problem", "polygons that cannot be drawn", "Correct the annotations."),
    "absent_class": Kind(
        "problem",
        "classes that no training image has",
        "Add images with them, or leave them out of the classes.",
    ),
    "unlabeled": Kind(
        "note",
        "images with nothing labeled: all pixels are ignored",
        "Label them, or take them out: they take time and teach nothing.",
    ),
    "background_only": Kind(
        "note",
        "images that only have the first class, such as the background",
        "Nothing to do if they show nothing else. If objects were forgotten, label them.",
    ),
    "masks": Kind("note", "how the masks were read", "Nothing to do if this is what you meant."),
    "imbalance": Kind(
        "note",
        "classes of very different size",
        "Weigh rare classes more with --data.balance.class_weights auto, or draw them more often with "
        "--data.balance.sampler balanced.",
    ),
    "near_duplicate": Kind(
        "note",
        "pictures that look the same in one class (copies, series)",
        "Keep one of each, or at least keep them all in the same split.",
    ),
    "flat_folder": Kind(
        "note", "images without class folders", f"predict can use them; fit needs class folders. {_LAYOUT}"
    ),
    "no_train": Kind(
        "note", "no train/ folder", "validate and test can run with a trained model; fit needs a train/ folder."
    ),
    "manifest": Kind("note", "how the manifest was read", "Nothing to do if this is what you meant."),
    "unused_folder": Kind(
        "note",
        "folders next to the splits, which are not used and were not read",
        "Nothing to do, unless the name of a split is misspelled: they are train, val and test.",
    ),
    "ignored": Kind(
        "note",
        "images in thumbnail folders, recycle bins and the like, which are ignored",
        "Nothing to do. Move images that you need out of there.",
    ),
    "unread_format": Kind(
        "note",
        "pictures in an unsupported format",
        f"Convert them to JPEG or PNG to use them; HEIC and HEIF can be read after: {HEIF_COMMAND}.",
    ),
    "symlink_loop": Kind(
        "note",
        "links to folders that are already visited, and circular links",
        "Nothing to do: each folder is visited once. Remove the links if they are not intended.",
    ),
    "cmyk": Kind("note", "CMYK images", "Nothing to do: they are converted to RGB when read."),
    "sixteen_bit": Kind(
        "note",
        "images with 16 bits per channel",
        "Nothing to do: they are scaled to 8 bits. Check that they do not become too dark.",
    ),
    "rotated": Kind(
        "note",
        "images with an EXIF orientation",
        "Nothing to do: they are turned upright when read; other programs may not do that.",
    ),
    "array": Kind(
        "note",
        "arrays and TIFFs with other channels than pictures",
        "Train on them with --data.in_chans and their number of channels; at the default of 3, fit ignores .npy files "
        "and cannot read such TIFFs.",
    ),
    "value_range": Kind(
        "note",
        "floats outside [0, 1]",
        "They are used unchanged: scale them, or give the --data.input.mean and --data.input.std of the data, and "
        "--data.input.nodata if some values stand for no data.",
    ),
    "nodata": Kind(
        "note",
        "pixels marked as without data by a TIFF tag",
        "Nothing to do: they become 0 after normalization.",
    ),
    "transparent": Kind(
        "note",
        "images with transparent pixels",
        "Nothing to do: they are blended with white. Blend them with another color yourself if that is wrong.",
    ),
    "animated": Kind(
        "note",
        "animations and files with several pages",
        "Nothing to do if only the first picture matters; save the others as separate files if they do.",
    ),
    "tiny": Kind(
        "note",
        "images much smaller than the others, or with a side under 16 pixels",
        "Look at them: icons and thumbnails among photographs teach little.",
    ),
    "extreme_shape": Kind(
        "note",
        "images with an extreme aspect ratio",
        "Cut them into parts: the square crop that a model sees shows a fifth of such an image or less.",
    ),
    "huge": Kind("note", "images with very many pixels", "Shrink them: they are decoded in each epoch, which is slow."),
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        kind: A key of ``KINDS``.
        message: What and where, as one printable sentence.
        paths: The files or folders concerned, unescaped, relative to the folder.
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
        """What to do about it."""
        return KINDS[self.kind].remedy


def below(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """Return a path as shown in reports, relative to the folder if it is inside it."""
    shown = os.path.relpath(path, root)
    return os.fspath(path) if shown.startswith(os.pardir + os.sep) else shown
