"""Write predicted masks and overlays as pictures."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.data.masks.overlay import overlaid
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.safe_save import replacing

if TYPE_CHECKING:
    from torch import Tensor

MASKS, OVERLAYS = "masks", "overlays"
_WRITTEN = {MASKS: ".png", OVERLAYS: ".jpg"}
_QUALITY = 90
_MOST_THREADS = 4
Load = Callable[[str], "Image.Image | Tensor"]


class Pictures:
    """Write the mask of each image, and the image with its classes in color.

    Masks are PNG files with a palette whose values are class indices. Files appear whole or not at all.

    Args:
        folder: Folder of ``masks`` and ``overlays``.
        has_overlays: Whether to write overlays.
    """

    def __init__(self, folder: Path, *, has_overlays: bool) -> None:
        self.folder = folder
        self._has_overlays = has_overlays
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, usable_cores()))
        self._pending: list[Future[None]] = []

    def check(self) -> None:
        """Refuse a folder with files that were not written here, before they would be mixed or deleted.

        Raises:
            UserError: If there are any.
        """
        for name, suffix in _WRITTEN.items():
            for path in (self.folder / name).rglob("*"):
                if path.is_file() and path.suffix != suffix and not path.name.startswith("."):
                    raise UserError(
                        f"{path} is not a file of predict; move it elsewhere, or give another --output, whose masks "
                        "are in another folder."
                    )

    @property
    def exist(self) -> bool:
        """Whether any are there."""
        return any((self.folder / name).exists() for name in _WRITTEN)

    def clear(self) -> None:
        """Delete those of an earlier run."""
        for name in _WRITTEN:
            rmtree(self.folder / name, ignore_errors=True)

    def write(
        self,
        name: str,
        image: str,
        indices: NDArray[np.uint8],
        load: Load,
        palette: Sequence[Sequence[int]],
        classes: Sequence[str],
    ) -> None:
        """Write the mask of an image, and its overlay; :meth:`wait` raises what went wrong.

        Args:
            name: Name of the mask, below the folder of masks.
            image: The image.
            indices: Class indices, (H, W).
            load: Reads the image, for the overlay.
            palette: Color of each class.
            classes: Name of each class.
        """
        mask = self.folder / MASKS / name
        self._pending.append(self._threads.submit(write_mask, mask, indices, palette))
        if self._has_overlays:
            target = self.folder / OVERLAYS / Path(name).with_suffix(_WRITTEN[OVERLAYS])
            self._pending.append(self._threads.submit(_write_overlay, target, image, indices, load, palette, classes))

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            UserError: If a file cannot be written.
        """
        pending, self._pending = self._pending, []
        for one in pending:
            one.result()


def write_mask(path: Path, indices: NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> None:
    """Write class indices as a PNG with a palette.

    Args:
        path: The file.
        indices: Class indices, (H, W).
        palette: Color of each class.

    Raises:
        UserError: If it cannot be written.
    """
    _write(path, mask_picture(indices, palette), "PNG")


def mask_picture(indices: NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> Image.Image:
    """Return class indices as a picture with a palette.

    Args:
        indices: Class indices, (H, W).
        palette: Color of each class.
    """
    picture = Image.fromarray(indices)
    picture.putpalette([*(level for color in palette for level in color), *[0] * (3 * (256 - len(palette)))])
    return picture


def _write_overlay(
    path: Path,
    image: str,
    indices: NDArray[np.uint8],
    load: Load,
    palette: Sequence[Sequence[int]],
    classes: Sequence[str],
) -> None:
    pixels = visible(load(image))
    picture = Image.fromarray(overlaid(pixels, indices, palette, classes))
    _write(path, picture, "JPEG", quality=_QUALITY, subsampling=0)


def visible(picture: "Image.Image | Tensor") -> NDArray[np.uint8]:
    """Return an image as the loader returns it in colors that can be seen, (H, W, 3).

    Of images with other channels, the first three are shown, or the first alone, each from its minimum to its maximum.

    Args:
        picture: A picture, or channels (C, H, W).
    """
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    shown: NDArray[Any] = picture[:3].float().numpy() if len(picture) >= 3 else picture[:1].float().numpy().repeat(3, 0)
    low, high = shown.min(axis=(1, 2), keepdims=True), shown.max(axis=(1, 2), keepdims=True)
    scaled = (shown - low) / np.maximum(high - low, 1e-12)
    return np.ascontiguousarray((scaled * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _write(path: Path, picture: Image.Image, kind: str, **options: Any) -> None:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as target:
            target.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror}. What was written is kept.") from error
