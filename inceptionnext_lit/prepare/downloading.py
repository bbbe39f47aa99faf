"""Download a data set with torchvision's classes."""

import errno
from collections.abc import Callable
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inceptionnext_lit.data.public import PublicDataset
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.layout import Layout
from inceptionnext_lit.prepare.layouts import INAT_VAL, SUN397_PARTITIONS, layout_of
from inceptionnext_lit.prepare.unpacking import BROKEN, clear_unfinished
from inceptionnext_lit.wording import first_line

COMPLETE = ".complete"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)


def download(row: PublicDataset, root: Path, tell: Callable[[str], object]) -> None:
    """Download a data set, unless that is done already; complete archives of an earlier attempt are used.

    Args:
        row: The data set.
        root: The root for torchvision's class.
        tell: Called with a line before the download.

    Raises:
        UserError: If it cannot be downloaded.
    """
    layout = layout_of(row.name)
    if not layout.can_download:
        raise UserError(
            f"{row.title} cannot be downloaded any more: its address is gone. Fetch {layout.downloads} as "
            f"{layout.web} describes, and name their folder with --source."
        )
    if missing := [name for name in layout.download_packages if find_spec(name) is None]:
        raise UserError(
            f"Downloading {row.title} needs {missing[0]}; install it with pip install 'inceptionnext-lit[prepare]', or "
            f"fetch {layout.downloads} from {layout.web} and name their folder with --source."
        )
    if (root / COMPLETE).exists():
        return
    tell(f"Downloading {row.title} from {layout.web}")
    root.mkdir(parents=True, exist_ok=True)
    clear_unfinished(root, layout)
    try:
        _DOWNLOADS[row.name](str(root))
    except (RuntimeError, HTTPException, OSError, *BROKEN) as error:
        if getattr(error, "errno", None) in _OF_THE_DISK:
            raise
        if isinstance(error, BROKEN):
            _remove_unchecked(root, layout)
        raise UserError(
            f"{row.title} could not be downloaded ({first_line(error)}): {layout.downloads}, from {layout.web}. What "
            "is complete is kept: give the same command again, or fetch the files in another way and name their folder "
            "with --source."
        ) from error
    (root / COMPLETE).touch()


def _remove_unchecked(root: Path, layout: Layout) -> None:
    """Remove broken archives without a checksum, which torchvision would use again."""
    for archive in (archive for archives in layout.archives for archive in archives if archive.md5 is None):
        for path in root.rglob(archive.name):
            path.unlink()


def _all(kind: str, *options: dict[str, Any]) -> Callable[[str], None]:
    """Return a function that creates one of torchvision's classes with each of some options."""

    def run(root: str) -> None:
        from torchvision import datasets as tv

        for one in options:
            getattr(tv, kind)(root, download=True, **one)

    return run


def _splits(kind: str, *names: str) -> Callable[[str], None]:
    return _all(kind, *({"split": name} for name in names))


def _inat(year: str) -> Callable[[str], None]:
    def run(root: str) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        _all("INaturalist", {"version": year})(root)
        address, md5 = INAT_VAL[year]
        download_and_extract_archive(address, root, md5=md5)

    return run


def _sun397(root: str) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    _all("SUN397", {})(root)
    download_and_extract_archive(SUN397_PARTITIONS, root, f"{root}/SUN397/Partitions")


def _pcam(root: str) -> None:
    """Download without decompressing, which torchvision would do in memory."""
    from torchvision import datasets as tv
    from torchvision.datasets.utils import download_file_from_google_drive

    for files in tv.PCAM._FILES.values():
        for name, identifier, md5 in files.values():
            download_file_from_google_drive(identifier, f"{root}/pcam", f"{name}.gz", md5)


_DOWNLOADS: dict[str, Callable[[str], None]] = {
    "cifar10": _all("CIFAR10", {}),
    "cifar100": _all("CIFAR100", {}),
    "mnist": _all("MNIST", {}),
    "fashion-mnist": _all("FashionMNIST", {}),
    "kmnist": _all("KMNIST", {}),
    "emnist": _splits("EMNIST", "balanced"),
    "svhn": _splits("SVHN", "train", "test"),
    "stl10": _splits("STL10", "train"),
    "pcam": _pcam,
    "flowers102": _splits("Flowers102", "train"),
    "pets": _splits("OxfordIIITPet", "trainval"),
    "dtd": _splits("DTD", "train"),
    "aircraft": _splits("FGVCAircraft", "trainval"),
    "food101": _splits("Food101", "train"),
    "caltech101": _all("Caltech101", {}),
    "eurosat": _all("EuroSAT", {}),
    "gtsrb": _splits("GTSRB", "train", "test"),
    "country211": _splits("Country211", "train"),
    "sun397": _sun397,
    "voc2007": _all("VOCDetection", *({"year": "2007", "image_set": part} for part in ("trainval", "test"))),
    "inat2018": _inat("2018"),
    "inat2019": _inat("2019"),
    "inat2021-mini": _all("INaturalist", {"version": "2021_train_mini"}, {"version": "2021_valid"}),
    "places365": _all("Places365", *({"split": part, "small": True} for part in ("train-standard", "val"))),
}
