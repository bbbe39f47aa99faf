"""Draw heat maps over images, as a grid of images and models."""

import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.reports.explain.overlay import Picture
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.wording import printable

_SIDE = 1.6  # inches of an image in the grid
_GAP = 0.1  # inches between them
_LINE = 0.12  # inches of a line of text
_CHARACTERS = 28  # of a line above an image
_DPI = 100
_OBLONG = 3  # largest ratio of the sides of the image in the first column
_THUMBNAIL = 320  # its longer side in pixels


@dataclass(frozen=True)
class Row:
    """An image with its heat maps.

    Attributes:
        name: The image's name.
        picture: The image.
        overlays: The image under the heat map of each model.
        captions: What stands above each of these; may have several lines.
    """

    name: str
    picture: Picture
    overlays: Sequence[Picture]
    captions: Sequence[str]


def as_picture(pixels: Tensor) -> Picture:
    """Return pixels as a color picture; of other channels than three, their mean in gray.

    Args:
        pixels: Shape (C, H, W), uint8 or float32 in [0, 1].
    """
    scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    if len(scaled) != 3:
        scaled = scaled.mean(dim=0, keepdim=True).expand(3, -1, -1)
    picture: Picture = scaled.clamp(0, 1).permute(1, 2, 0).numpy()  # (3, H, W) -> (H, W, 3)
    return picture


def as_thumbnail(image: Image.Image) -> tuple[Picture, bool]:
    """Return an image in the size of the first column, and whether it was cut.

    Of an image more than three times as wide as high, or as high as wide, it is the central part: the whole would be
    a thin line.

    Args:
        image: An RGB image.
    """
    width, height = min(image.width, _OBLONG * image.height), min(image.height, _OBLONG * image.width)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    part = image.crop((left, top, left + width, top + height))
    part.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return as_picture(torch.from_numpy(np.array(part)).permute(2, 0, 1)), (width, height) != image.size


def draw_grid(rows: Sequence[Row], columns: Sequence[str], path: Path, footer: str) -> None:
    """Draw images and models as a grid, with the image itself in the first column.

    Args:
        rows: The images.
        columns: What stands above each model's column; may have several lines.
        path: The file to write, .png or .svg.
        footer: A line below the grid.
    """
    titles, names = [["image"], *fitted(columns)], fitted([row.name for row in rows])
    texts = [[names[number], *fitted_each(row.captions)] for number, row in enumerate(rows)]
    texts[0] = [[*title, *lines] for title, lines in zip(titles, texts[0], strict=True)]
    below = _wrapped(footer, _CHARACTERS * len(titles))
    above = [_LINE * (max(map(len, row)) + 1) for row in texts]
    width, height = len(titles) * (_SIDE + _GAP), sum(above) + _SIDE * len(rows) + _LINE * (len(below) + 1)
    with saved_figure(path, (width, height), layout=None) as figure:
        top = height
        for row, lines_of_row, space in zip(rows, texts, above, strict=True):
            top -= space + _SIDE
            for column, picture in enumerate([row.picture, *row.overlays]):
                left = _GAP / 2 + column * (_SIDE + _GAP)
                axis = figure.add_axes((left / width, top / height, _SIDE / width, _SIDE / height))
                axis.imshow(picture, interpolation="antialiased")
                axis.set_title("\n".join(lines_of_row[column]), fontsize=7)
                axis.axis("off")
        figure.text(0.5, _GAP / 2 / height, "\n".join(below), fontsize=6, ha="center", va="bottom")


def fitted(texts: Sequence[str]) -> list[list[str]]:
    """Return the lines of texts above images, shortened unless that makes different texts equal.

    Args:
        texts: The texts, which may have several lines each.
    """
    short = fitted_each(texts)
    seen = Counter(map(tuple, short))
    same = Counter(texts)
    return [
        lines
        if seen[tuple(lines)] == same[text]
        else [part for line in text.split("\n") for part in _wrapped(line, _CHARACTERS)]
        for text, lines in zip(texts, short, strict=True)
    ]


def fitted_each(texts: Sequence[str]) -> list[list[str]]:
    """Return the lines of texts above images, each on two lines if it is long, or shortened if it is longer.

    Args:
        texts: The texts, which may have several lines each.
    """
    return [[part for line in text.split("\n") for part in _shortened(printable(line))] for text in texts]


def _wrapped(text: str, most: int) -> list[str]:
    return textwrap.wrap(printable(text), most) or [""]


@contextmanager
def saved_figure(
    path: Path, inches: tuple[float, float], layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Any]:
    """Yield a figure that is saved when the block ends; text stays text, also in .svg files.

    Args:
        path: The file, .png or .svg.
        inches: Width and height.
        layout: Matplotlib's engine that places the axes; None if the block places them.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "explain", "text.parse_math": False}  # $ in file names
    with mpl.rc_context(style), warnings.catch_warnings():
        # a box instead of a character, such as an emoji, says enough; .svg has the character itself
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        figure = Figure(figsize=inches, layout=layout)
        yield figure
        kind = path.suffix.lower().lstrip(".")
        with replacing(path) as partial:
            figure.savefig(partial, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)


def two_lines(title: str) -> str:
    """Return a model's title with its weights on a second line."""
    return title.replace(" (", "\n(", 1)


def _shortened(text: str) -> list[str]:
    wrapped, half = _wrapped(text, _CHARACTERS), _CHARACTERS // 2
    return wrapped if len(wrapped) <= 2 else [f"{text[: half - 1]}…{text[-half:]}"]
