"""Draw heat maps over images, as a grid of images and models."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_save import replacing

ENDINGS = (".png", ".svg")
_SIDE = 1.6  # inches of an image in the grid
_DPI = 100
_COLORS = "inferno"  # its brightness rises steadily, so that it is legible in gray and to color-blind people

Picture = NDArray[np.float32]  # (H, W, 3), in [0, 1]


@dataclass(frozen=True)
class Row:
    """An image with its heat maps.

    Attributes:
        name: The image's name.
        picture: The image.
        overlays: The image under the heat map of each model.
        captions: What stands above each of these.
    """

    name: str
    picture: Picture
    overlays: Sequence[Picture]
    captions: Sequence[str]


def check_matplotlib() -> None:
    """Raise a UserError if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("Figures need matplotlib; install it with pip install 'inceptionnext-lit[explain]'.")


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


def overlay(picture: Picture, heat: NDArray[np.float32], alpha: float) -> Picture:
    """Draw a heat map over a picture in gray; where the map is 0, the picture stays as it is.

    Args:
        picture: Shape (H, W, 3), in [0, 1].
        heat: Shape (H, W), in [0, 1].
        alpha: Opacity of the map where it is 1.
    """
    from matplotlib import colormaps  # an optional dependency

    gray = picture.mean(axis=2, keepdims=True)
    opacity = alpha * heat[:, :, None]
    blended: Picture = ((1 - opacity) * gray + opacity * colormaps[_COLORS](heat)[:, :, :3]).astype(np.float32)
    return blended


def draw_grid(rows: Sequence[Row], columns: Sequence[str], path: Path) -> None:
    """Draw images and models as a grid, with the image itself in the first column.

    Args:
        rows: The images.
        columns: The models' titles.
        path: The file to write, .png or .svg.
    """
    across, down = len(columns) + 1, len(rows)
    with saved_figure(path, (across * (_SIDE + 0.1), down * (_SIDE + 0.35) + 0.35)) as figure:
        axes = figure.subplots(down, across, squeeze=False)
        for number, row in enumerate(rows):
            for column, picture in enumerate([row.picture, *row.overlays]):
                axis = axes[number, column]
                axis.imshow(picture, interpolation="antialiased")
                lines = (row.captions[column - 1] if column else row.name).split("\n")
                if number == 0:
                    lines = [*two_lines(columns[column - 1] if column else "image").split("\n"), *lines]
                axis.set_title("\n".join(map(_shortened, lines)), fontsize=7)
                axis.axis("off")


@contextmanager
def saved_figure(path: Path, inches: tuple[float, float]) -> Iterator[Any]:
    """Yield a figure that is saved when the block ends; text stays text, also in .svg files.

    Args:
        path: The file, .png or .svg.
        inches: Width and height.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "explain", "text.parse_math": False}  # $ in file names
    with mpl.rc_context(style):
        figure = Figure(figsize=inches, layout="constrained")
        yield figure
        kind = path.suffix.lower().lstrip(".")
        with replacing(path) as partial:
            figure.savefig(partial, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)


def two_lines(title: str) -> str:
    """Return a model's title with its weights on a second line."""
    return title.replace(" (", "\n(", 1)


def _shortened(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"
