"""What is known of a split's images and masks after looking at each once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from inceptionnext_lit.data.masks.layouts import Part
from inceptionnext_lit.data.masks.outlines import Outlines, draw_masks
from inceptionnext_lit.data.masks.pairs import RASTERS, pair_up
from inceptionnext_lit.data.masks.problems import Problem, file_problems, pair_problems
from inceptionnext_lit.data.masks.stored import StoredMask
from inceptionnext_lit.data.masks.surveying import SceneImage, Tick, look_at_images, look_at_masks
from inceptionnext_lit.wording import count, listed


@dataclass(frozen=True)
class Reading:
    """How images and masks are read.

    Attributes:
        suffixes: Suffixes of image files.
        max_pixels: Maximum number of pixels of an image or a mask.
        apply_exif: Whether the EXIF orientation of images is applied.
        tick: Called with the number of files read since the last call.
    """

    suffixes: Collection[str]
    max_pixels: int
    apply_exif: bool
    tick: Tick

    def look_at_images(self, paths: Sequence[str]) -> list[SceneImage]:
        """Read the headers of images."""
        return look_at_images(paths, self.max_pixels, apply_exif=self.apply_exif, tick=self.tick)


@dataclass
class Survey:
    """What is known of a split's images and masks.

    Attributes:
        images: The images.
        masks: Their masks, as drawn if they are polygons.
        names: What to call each mask in messages: its file, or the file with its polygons.
        problems: What must be corrected before training, except values beyond the classes.
        notes: Remarks, in sentences.
    """

    images: list[SceneImage] = field(default_factory=list)
    masks: list[StoredMask] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def survey_pictures(part: Part, reading: Reading) -> Survey:
    """Look at a split whose masks are pictures.

    Args:
        part: The split's folders.
        reading: How files are read.
    """
    pairs = pair_up(part.images, part.masks, reading.suffixes, RASTERS, part.only)
    images = reading.look_at_images(pairs.images)
    masks = look_at_masks(pairs.masks, reading.max_pixels, tick=reading.tick)
    problems = [*pair_problems(pairs), *file_problems(images, masks, pairs.masks)]
    unclear = _unclear_rotations(images) if reading.apply_exif else []
    return Survey(images, masks, pairs.masks, problems, [*pairs.notes, *unclear])


def _unclear_rotations(images: Sequence[SceneImage]) -> list[str]:
    """Say that masks are taken to be upright if their size does not show it."""
    paths = [image.path for image in images if image.keeps_size]
    if not paths:
        return []
    what = count(len(paths), "image has an EXIF rotation", "images have EXIF rotations")
    return [
        f"{what} without another size: {listed(paths)}. The masks are taken to be upright; --data.input.exif ignore is "
        "for masks of the images as they are stored."
    ]


def survey_outlines(kind: str, outlines: Outlines, names: Sequence[str], reading: Reading) -> Survey:
    """Draw the masks of a split with polygons, and look at them.

    Args:
        kind: The kind of the polygons.
        outlines: The polygons.
        names: The class names in index order.
        reading: How files are read.
    """
    pairs = outlines.pairs
    images = reading.look_at_images(pairs.images)
    drawn = draw_masks(kind, outlines, [image.size for image in images], names, reading.tick)
    good = [place for place, path in enumerate(drawn) if not path.startswith("\0")]
    problems = [
        Problem("mask_outline", name, path[1:])
        for path, name in zip(drawn, pairs.masks, strict=True)
        if path.startswith("\0")
    ]
    images, called = [images[place] for place in good], [pairs.masks[place] for place in good]
    masks = look_at_masks([drawn[place] for place in good], reading.max_pixels)
    problems = [*pair_problems(pairs), *problems, *file_problems(images, masks, called)]
    return Survey(images, masks, called, problems, [*pairs.notes, *([outlines.note] if outlines.note else [])])
