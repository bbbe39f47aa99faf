"""The public data sets that ``prepare`` knows: one row per data set.

Numbers of images and classes, splits and terms are those of each data set's page or paper (``url``, ``citation``);
metrics follow Table 1 of Kornblith et al. (arXiv 1805.08974) for the data sets that it has.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import did_you_mean

Metric = Literal["acc1", "macro_acc", "mAP"]


@dataclass(frozen=True)
class PublicDataset:
    """A public data set.

    Attributes:
        name: Its name on the command line.
        title: Its name in text.
        loader: The class of torchvision that reads it, or ``digits`` or ``imagenet``.
        splits: Number of images of each of our splits: ``train``, ``val`` and ``test``, as far as they exist.
        num_classes: Number of classes.
        official: How the official splits become ours.
        license: The license, or the terms of use.
        url: Its page.
        citation: What to cite.
        metric: The metric that papers report.
        multi_label: Whether an image may have several labels.
        notes: Remarks, in sentences.
    """

    name: str
    title: str
    loader: str
    splits: dict[str, int]
    num_classes: int
    official: str
    license: str
    url: str
    citation: str
    metric: Metric = "acc1"
    multi_label: bool = False
    notes: tuple[str, ...] = ()


_ILSVRC = "Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015"
_IMAGENET_TERMS = "non-commercial research and education only (image-net.org's terms of access)"
_ROWS = (
    PublicDataset(
        "imagenet", "ImageNet-1k (ILSVRC 2012)", "imagenet", {"train": 1_281_167, "val": 50_000}, 1000,
        "train and val; the labels of the test images are not public",
        _IMAGENET_TERMS, "https://image-net.org/challenges/LSVRC/2012/", _ILSVRC,
    ),
    PublicDataset(
        "imagenet-100", "ImageNet-100", "imagenet", {"train": 126_689, "val": 5_000}, 100,
        "train and val of ImageNet-1k, 100 classes", _IMAGENET_TERMS,
        "https://github.com/HobbitLong/CMC", "Tian et al., Contrastive Multiview Coding, ECCV 2020",
    ),
    PublicDataset(
        "imagenette", "Imagenette", "imagenet", {"train": 9_469, "val": 3_925}, 10,
        "train and val",
        "Apache-2.0; the images have ImageNet's terms", "https://github.com/fastai/imagenette",
        "Howard, Imagenette, 2019",
    ),
    PublicDataset(
        "imagewoof", "Imagewoof", "imagenet", {"train": 9_025, "val": 3_929}, 10,
        "train and val",
        "Apache-2.0; the images have ImageNet's terms", "https://github.com/fastai/imagenette",
        "Howard, Imagewoof, 2019",
    ),
)  # fmt: skip

DATASETS: dict[str, PublicDataset] = {row.name: row for row in _ROWS}


def find_dataset(name: str) -> PublicDataset:
    """Return the row of a data set, in any spelling: ``CIFAR-10``, ``cifar10``, or torchvision's name of its class.

    Args:
        name: The name.

    Raises:
        UserError: If there is no such data set.
    """
    plain = _plain(name)
    for row in DATASETS.values():
        if plain == _plain(row.name):
            return row
    loaders = [row for row in DATASETS.values() if plain == _plain(row.loader)]
    if len(loaders) == 1:
        return loaders[0]
    hint = did_you_mean(name.casefold(), _spellings(DATASETS.values()), otherwise="prepare --list lists the names.")
    raise UserError(f"Unknown data set {name!r}; {hint} One of Hugging Face is hf:OWNER/NAME.")


def _spellings(rows: Iterable[PublicDataset]) -> list[str]:
    return [row.name for row in rows]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
