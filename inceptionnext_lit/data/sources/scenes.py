"""The embedded scenes for segmentation: clothes of the embedded images, pasted on photographs.

The clothes are cut out of Fashion-MNIST (MIT license, LICENSE-fashion-mnist), whose background is black. The
photographs are the two that scikit-learn ships: ``china.jpg`` by danielbuechele and ``flower.jpg`` by vultilion, both
CC BY 2.0. Training and validation scenes share neither a piece of clothing nor a part of a photograph.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes, label

from inceptionnext_lit.data.sources.embedded import publish, unpack_sample
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import cache_folder
from inceptionnext_lit.preprocessing import IGNORED

SCENES = "scenes"
CLASSES = ("background", "ankle-boot", "bag", "dress", "sneaker", "trouser")
PALETTE = ((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0), (204, 121, 167))
COUNTS = {"train": 400, "val": 100}
SIDE = 96  # pixels
_VERSION = 1  # changes with the scenes
_PIECES = (2, 5)  # fewest and most pieces of clothing in a scene
_SCALES = (1.0, 2.0)
_LEFT = 0.6  # share of the photographs' width for training scenes
_BLACK = 12  # brightest pixel of Fashion-MNIST's background
_SPECKLE = 12  # pixels
_SURE = (0.25, 0.75)  # pixels of a cut-out between these shares are ignored

Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def unpack_scenes(cache_dir: str | Path | None = None) -> Path:
    """Compose the scenes unless that was done before; see :func:`unpack_sample` for several processes.

    Args:
        cache_dir: Where to write them, as for :func:`unpack_sample`.

    Returns:
        A folder with ``images/{train,val}``, ``masks/{train,val}`` (palette PNGs) and ``classes.csv``.

    Raises:
        UserError: If the cache folder cannot be written.
    """
    clothes = unpack_sample(cache_dir)
    cache = cache_folder(cache_dir)
    target = cache / f"scenes-{_VERSION}-{clothes.name.rpartition('-')[2]}"
    if target.is_dir():
        return target
    try:
        with tempfile.TemporaryDirectory(prefix=".scenes-", dir=cache, ignore_cleanup_errors=True) as work:
            content = Path(work) / "content"
            for split in COUNTS:
                _write(content, split, compose(clothes, split))
            rows = [f"{name},{r},{g},{b}" for name, (r, g, b) in zip(CLASSES, PALETTE, strict=True)]
            (content / "classes.csv").write_text("\n".join(["name,r,g,b", *rows, ""]), encoding="utf-8")
            publish(content, target)
    except OSError as error:
        raise UserError(
            f"Cannot write the embedded scenes into {cache}: {error.strerror or error}. Name a writable folder with "
            "the environment variable INCEPTIONNEXT_LIT_CACHE."
        ) from error
    return target


def compose(clothes: Path, split: str) -> Iterator[Scene]:
    """Compose the scenes of a split, the same in each call.

    Args:
        clothes: The folder of the embedded images.
        split: ``train`` or ``val``.

    Yields:
        A picture, uint8 (H, W, 3), and its classes, uint8 (H, W), 255 where a pixel is partly covered.
    """
    rng = np.random.default_rng([_VERSION, sorted(COUNTS).index(split)])
    photos = _photographs(split)
    pieces = {name: sorted((clothes / split / name).iterdir()) for name in CLASSES[1:]}
    for _ in range(COUNTS[split]):
        picture = _background(photos[rng.integers(len(photos))], rng)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(rng.integers(_PIECES[0], _PIECES[1] + 1)):
            number = int(rng.integers(1, len(CLASSES)))
            files = pieces[CLASSES[number]]
            _paste(picture, mask, number, files[rng.integers(len(files))], rng)
        yield np.rint(picture).astype(np.uint8), mask


def _photographs(split: str) -> list[Image.Image]:
    from sklearn.datasets import load_sample_image

    cut = []
    for name in ("china.jpg", "flower.jpg"):
        photo = Image.fromarray(load_sample_image(name))
        border = round(_LEFT * photo.width)
        cut.append(photo.crop((0, 0, border, photo.height) if split == "train" else (border, 0, *photo.size)))
    return cut


def _background(photo: Image.Image, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random part of a photograph, mirrored half the time."""
    side = int(rng.integers(SIDE, min(photo.size) + 1))
    left, top = (int(rng.integers(length - side + 1)) for length in photo.size)
    part = photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(part, np.float64)
    return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels.copy()


def _paste(
    picture: NDArray[np.float64], mask: NDArray[np.uint8], number: int, file: Path, rng: np.random.Generator
) -> None:
    """Paste a piece of clothing with a random size, tint and place; parts may be outside the picture."""
    with Image.open(file) as image:
        gray = np.asarray(image.convert("L"))
    inside = Image.fromarray(_cut_out(gray).astype(np.uint8) * 255)
    side = round(gray.shape[0] * rng.uniform(*_SCALES))
    size, filter_ = (side, side), Image.Resampling.BILINEAR
    values = np.asarray(Image.fromarray(gray).resize(size, filter_), np.float64)
    cover = np.asarray(inside.resize(size, filter_), np.float64) / 255
    tint = rng.uniform(0.5, 1.0, 3)
    top, left = (int(rng.integers(-side // 4, SIDE - side * 3 // 4)) for _ in range(2))
    rows = slice(max(top, 0), min(top + side, SIDE))
    columns = slice(max(left, 0), min(left + side, SIDE))
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    alpha = cover[part]
    here = picture[rows, columns]
    picture[rows, columns] = here + alpha[..., None] * (values[part][..., None] * tint - here)
    found = mask[rows, columns]
    low, high = _SURE
    mask[rows, columns] = np.where(alpha > high, number, np.where(alpha > low, IGNORED, found))


def _cut_out(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a piece of clothing is, without the speckles of the compression around it."""
    parts, _ = label(gray > _BLACK)
    large = np.flatnonzero(np.bincount(parts.ravel()) >= _SPECKLE)
    inside: NDArray[np.bool_] = binary_fill_holes(np.isin(parts, large[large > 0]))
    return inside


def _write(content: Path, split: str, scenes: Iterator[Scene]) -> None:
    images, masks = (content / kind / split for kind in ("images", "masks"))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    colors = bytearray(3 * 256)
    colors[: 3 * len(PALETTE)] = bytes(value for color in PALETTE for value in color)
    colors[3 * IGNORED :] = bytes((255, 255, 255))
    for number, (picture, mask) in enumerate(scenes):
        Image.fromarray(picture).save(images / f"{number:03}.png")
        indexed = Image.frombytes("P", (SIDE, SIDE), mask.tobytes())
        indexed.putpalette(colors)
        indexed.save(masks / f"{number:03}.png")
