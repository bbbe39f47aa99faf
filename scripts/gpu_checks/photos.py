"""JPEGs of a photograph's size for the loader. This module does not import torch, since many processes import it."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from gpu_checks.reporting import Work
from inceptionnext_lit.data.sources.embedded import unpack_sample
from inceptionnext_lit.data.sources.files import list_images
from inceptionnext_lit.machine import usable_cores

CLASSES = 10
_SOURCES = 60  # images that are overlaid


def make_photos(work: Work) -> None:
    """Write JPEGs into class folders, each under several names so that an epoch is long enough."""
    folder = photos_folder(work)
    settings = work.settings
    count = settings.photos
    copies = -(-(settings.warm_up + settings.steps) * settings.batch_size // count)
    write = partial(_write, folder=folder / "train", size=settings.photo_size, copies=copies)
    processes = min(usable_cores(), count)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        sizes = list(pool.map(write, range(count), chunksize=-(-count // processes)))
    for one in (folder / "train").iterdir():  # fit wants a split to validate on
        (folder / "val" / one.name).mkdir(parents=True)
        first = min(one.iterdir())
        os.link(first, folder / "val" / one.name / first.name)
    work.report({"files": count * copies, "distinct": count, "size": settings.photo_size, "bytes": sum(sizes) / count})


def photos_folder(work: Work) -> Path:
    """Return the folder of the photos."""
    return work.folder / "photos"


def _write(index: int, folder: Path, size: tuple[int, int], copies: int) -> int:
    """Write an image, and return its size in bytes."""
    from make_jpegs import QUALITY, make_image  # beside gpu_check.py

    file = folder / f"class{index % CLASSES}" / f"{index:06}_0.jpg"
    file.parent.mkdir(parents=True, exist_ok=True)
    make_image(_sources(), size, index).save(file, quality=QUALITY)
    for copy in range(1, copies):
        os.link(file, file.with_name(f"{index:06}_{copy}.jpg"))
    return file.stat().st_size


_known: list[Any] = []


def _sources() -> list[Any]:
    """Return the images that are overlaid."""
    if not _known:
        for path in list_images(unpack_sample() / "train")[:_SOURCES]:
            with Image.open(path) as image:
                _known.append(image.convert("L"))
    return _known
