"""Problems of images and masks, as sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inceptionnext_lit.data.masks.pairs import Pairs
from inceptionnext_lit.data.masks.scheme import UNKNOWN, Scheme
from inceptionnext_lit.data.masks.stored import StoredMask
from inceptionnext_lit.data.masks.surveying import SceneImage
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count, printable

_SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """A problem of one file.

    Attributes:
        kind: A key of the doctor's table of findings.
        path: The file.
        message: What is wrong, and what to do, in a sentence.
    """

    kind: str
    path: str
    message: str


def pair_problems(pairs: Pairs) -> list[Problem]:
    """Return the images without a mask, the masks without an image, and the names that several files share."""
    lacks = "has no mask; add one, or take the image out"
    extra = "is a mask without an image; add the image, or take the mask out"
    shares = "shares its name with another file, so it is unclear which mask belongs to which image; rename one of them"
    return [
        *(Problem("mask_missing", path, f"{printable(path)} {lacks}.") for path in pairs.unmasked),
        *(Problem("image_missing", path, f"{printable(path)} {extra}.") for path in pairs.unused),
        *(Problem("mask_clash", path, f"{printable(path)} {shares}.") for path in pairs.clashes),
    ]


def file_problems(images: Sequence[SceneImage], masks: Sequence[StoredMask], names: Sequence[str]) -> list[Problem]:
    """Return the masks that cannot be read as masks, and those whose size is not their image's.

    Args:
        images: The images; unreadable ones are reported elsewhere.
        masks: The mask of each image.
        names: What to call each mask.
    """
    found = []
    for image, mask, name in zip(images, masks, names, strict=True):
        if mask.error:
            found.append(Problem(mask.kind, name, f"The mask {printable(name)} {mask.error}."))
        elif not image.error and image.size != (0, 0) and image.size != mask.size:
            found.append(Problem("mask_size", name, _sizes(image, mask, name)))
    return found


def value_problems(masks: Sequence[StoredMask], scheme: Scheme, names: Sequence[str]) -> list[Problem]:
    """Return the masks with values or colors beyond the classes; arguments as in :func:`file_problems`."""
    found = []
    for mask, name in zip(masks, names, strict=True):
        if mask.error or UNKNOWN not in scheme.counts(mask):
            continue
        unknown = scheme.unknown(mask)
        shown = ", ".join(f"{value} ({count(pixels, 'pixel')})" for value, pixels in list(unknown.items())[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        what = "color" if scheme.of_color or not mask.is_gray else "value"
        classes = count(len(scheme.names), "class", "classes")
        message = f"The mask {printable(name)} has the {what} {shown}{more}, which is none of the {classes}"
        found.append(Problem("mask_values", name, f"{message}{_advice(scheme, unknown)}."))
    return found


def refuse(problems: Iterable[Problem]) -> None:
    """Stop at the first problem, with the number of others of its kind.

    Raises:
        UserError: If there is one.
    """
    problems = list(problems)
    if not problems:
        return
    first = problems[0]
    others = sum(problem.kind == first.kind for problem in problems) - 1
    more = f" So it is with {count(others, 'other file')}; the subcommand doctor lists all." if others else ""
    raise UserError(f"{first.message}{more}")


def _sizes(image: SceneImage, mask: StoredMask, name: str) -> str:
    (width, height), (mask_width, mask_height) = image.size, mask.size
    text = (
        f"The mask {printable(name)} has {mask_width}×{mask_height} pixels, but its image {printable(image.path)} has "
        f"{width}×{height}"
    )
    if image.is_turned and (height, width) == mask.size:
        return f"{text} after its EXIF rotation; --data.input.exif ignore reads images as they are stored."
    return f"{text}; give both the same size."


def _advice(scheme: Scheme, unknown: dict[str, int]) -> str:
    """Return what may be wrong, for the usual mistakes."""
    classes = len(scheme.names)
    if scheme.of_color:
        return "; add the color to the table of classes, or a row named ignore for pixels that do not count"
    if 0 in scheme.of_value and unknown.keys() == {str(classes)}:
        return "; if 0 means no label and 1 is the first class, set --data.masks.reduce_zero_label true"
    return f" (0 to {classes - 1})" if scheme.of_value.get(classes - 1) == classes - 1 else ""
