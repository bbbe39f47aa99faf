"""A model's process with a model that tells colors, and misbehaves for images of certain widths."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.data.decode.image import upright
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.serve.rows import Labeled
from inceptionnext_lit.serve.worker import main

FAILS, DIES, HANGS, IS_NAN, ENDS = 13, 14, 15, 16, 17  # widths of images
COMMAND = [sys.executable, "-P", "-m", "tests.serve.fake_model"]
NAMES = ["red", "green", "blue"]


class Color:
    """The share of each color."""

    def __init__(self, shares: dict[str, float]) -> None:
        self.top5 = dict(sorted(shares.items(), key=lambda item: -item[1]))
        self.label = next(iter(self.top5))
        self.probability = self.top5[self.label]


class Colors:
    """A classifier whose class is the strongest color of an image.

    Args:
        seconds: How long a batch takes.
    """

    multi_label = False

    def __init__(self, seconds: float = 0.0) -> None:
        self.class_names = list(NAMES)
        self.preprocessing: Any = {"mean": [0.5] * 3}
        self.seconds = seconds
        self.sizes: list[int] = []

    def predict(self, images: Any, batch_size: int = 32) -> list[Labeled]:
        self.sizes.append(len(images))
        time.sleep(self.seconds)
        return [self._color(image) for image in images]

    def pixels_at_scale(self, picture: Image.Image) -> NDArray[np.uint8]:
        """As an exported file's classifier, for heat maps."""
        return np.asarray(picture)

    def from_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels

    def probabilities(self, inputs: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        sums = np.stack([pixels.sum(axis=(0, 1)) for pixels in inputs]).astype(np.float32)
        return sums / sums.sum(axis=1, keepdims=True)

    def _color(self, image: Any) -> Labeled:
        if not hasattr(image, "width"):  # the gray image at the start
            return Color(dict.fromkeys(NAMES, 1 / 3))
        if image.width == FAILS:
            raise RuntimeError("the secret of the image")
        if image.width == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        if image.width == HANGS:
            time.sleep(1000)
        if image.width == IS_NAN:
            raise UserError("The model's outputs are NaN or infinite for image 1.")
        if image.width == ENDS:
            os._exit(3)
        red, green, blue = upright(image).resize((1, 1)).getpixel((0, 0))
        total = red + green + blue or 1
        return Color({name: value / total for name, value in zip(NAMES, (red, green, blue), strict=True)})


def make(options: dict[str, Any]) -> Colors:
    """Make the model that the options name: ``colors``, or ``colors:0.2`` for batches of 0.2 seconds.

    ``once:FILE`` cannot be loaded if the file is missing, and ``masks`` has the palette of a segmentation model.
    """
    name, _, value = options["model"].partition(":")
    if name == "once" and not Path(value).exists():
        raise UserError(f"{value} does not exist; give a checkpoint.")
    if name == "broken":
        raise ValueError("something is wrong\nwith the model")
    if name == "crash":
        os._exit(7)
    sys.addaudithook(_refuse_to_write)
    model = Colors(float(value) if name == "colors" and value else 0.0)
    if name == "masks":
        model.palette = [[0, 0, 0]] * len(NAMES)  # type: ignore[attr-defined]
    return model


def _refuse_to_write(event: str, arguments: tuple[Any, ...]) -> None:
    """End the process when a file, and not an open descriptor, is opened for writing."""
    if event == "open" and not isinstance(arguments[0], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        print(f"opened for writing: {arguments[0]!r}", file=sys.stderr)
        os._exit(77)


if __name__ == "__main__":
    main(make)
