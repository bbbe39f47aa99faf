"""The Semantic Boundaries Dataset: more masks for the images of Pascal VOC, in MATLAB files."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.decode.image import reading
from inceptionnext_lit.data.decode.opening import open_image
from inceptionnext_lit.data.sources.files import visible_entries, visible_folders
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count

TITLE = "the Semantic Boundaries Dataset (SBD)"
CITATION = "Hariharan et al., Semantic Contours from Inverse Detectors, ICCV 2011"
_DEPTH = 5  # of the folder of the masks below the source: SOURCE/VOCdevkit/VOCaug/dataset/cls
_LISTS = ("train.txt", "val.txt")


class SbdScene(NamedTuple):
    """An image of SBD with its mask.

    Attributes:
        image: The image.
        mask: The MATLAB file.
    """

    image: Path
    mask: Path


def find_sbd(source: Path) -> Path | None:
    """Return the folder of SBD below a folder, which contains ``cls`` with the masks; None if there is none.

    Args:
        source: The folder, such as one that contains ``VOCdevkit`` and ``benchmark_RELEASE``.
    """
    level = [source]
    for _ in range(_DEPTH):
        for folder in level:
            if folder.name == "cls" and any(entry.name.endswith(".mat") for entry in visible_entries(folder)):
                return folder.parent
        level = [Path(entry.path) for folder in level for entry in visible_folders(folder)]
    return None


def added_scenes(sbd: Path, images: Path, known: Collection[str]) -> list[SbdScene]:
    """Return the images that SBD adds to those of Pascal VOC, in the order of their names.

    Args:
        sbd: The folder of SBD.
        images: The folder of Pascal VOC's images, which has those of SBD too; otherwise SBD's own are used.
        known: Names of the images that Pascal VOC has masks for, without suffixes.

    Raises:
        UserError: If an image is missing.
    """
    scenes = []
    missing = []
    for name in sorted(_names(sbd) - set(known)):
        image = next((path for path in (images / f"{name}.jpg", sbd / "img" / f"{name}.jpg") if path.is_file()), None)
        if image is None:
            missing.append(name)
        else:
            scenes.append(SbdScene(image, sbd / "cls" / f"{name}.mat"))
    if missing:
        raise UserError(
            f"{count(len(missing), 'image')} of {sbd} {'is' if len(missing) == 1 else 'are'} neither in {images} nor "
            f"in {sbd / 'img'}, such as {missing[0]}.jpg; unpack both archives completely."
        )
    return scenes


def read_mask(scene: SbdScene, num_classes: int) -> NDArray[np.uint8]:
    """Read a mask as class indices, uint8 (H, W).

    Args:
        scene: The image with its mask.
        num_classes: Number of classes.

    Raises:
        UserError: If the file is not a mask of SBD, has other classes, or another size than its image.
    """
    from scipy.io import loadmat

    if not scene.mask.is_file():
        raise UserError(f"{scene.mask} is missing; unpack SBD's archive again.")
    try:
        content: Any = loadmat(scene.mask, variable_names=["GTcls"], squeeze_me=True, struct_as_record=False)
        mask = np.asarray(content["GTcls"].Segmentation)
    except Exception as error:  # SciPy raises almost any type on damaged files
        raise UserError(
            f"{scene.mask} cannot be read as a mask of SBD (GTcls.Segmentation); unpack its archive again."
        ) from error
    if mask.ndim != 2 or mask.dtype.kind not in "ui" or not mask.size:
        raise UserError(f"{scene.mask} does not contain a mask of integers (GTcls.Segmentation).")
    if not 0 <= mask.min() <= mask.max() < num_classes:
        raise UserError(
            f"{scene.mask} has the value {int(mask.max() if mask.min() >= 0 else mask.min())}, but the {num_classes} "
            f"classes are 0 to {num_classes - 1}."
        )
    with reading(str(scene.image)), open_image(str(scene.image)) as image:
        width, height = image.size
    if mask.shape != (height, width):
        raise UserError(
            f"{scene.mask} has {mask.shape[1]}×{mask.shape[0]} pixels, and {scene.image} has {width}×{height}."
        )
    return mask.astype(np.uint8)


def _names(sbd: Path) -> set[str]:
    """Return the names in SBD's lists, or those of all masks if there are no lists."""
    lists = [sbd / name for name in _LISTS if (sbd / name).is_file()]
    if not lists:
        return {path.stem for path in (sbd / "cls").glob("*.mat")}
    return set(_lines(path.read_text(encoding="utf-8") for path in lists))


def _lines(texts: Iterable[str]) -> list[str]:
    return [line.split()[0] for text in texts for line in text.splitlines() if line.strip()]
