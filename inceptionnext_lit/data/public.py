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
_NOT_STATED = "not stated"
_INAT_TERMS = "non-commercial research and education only; images may not be redistributed"
_INAT = "Van Horn et al., The iNaturalist Species Classification and Detection Dataset, CVPR 2018"
_KRIZHEVSKY = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
_DRAWN = "There is no official split: this one is drawn by a fixed rule, and papers draw others."
_ROWS = (
    PublicDataset(
        "cifar10", "CIFAR-10", "CIFAR10", {"train": 50_000, "test": 10_000}, 10, "train and test",
        _NOT_STATED, "https://www.cs.toronto.edu/~kriz/cifar.html", _KRIZHEVSKY,
    ),
    PublicDataset(
        "cifar100", "CIFAR-100", "CIFAR100", {"train": 50_000, "test": 10_000}, 100,
        "train and test, with the 100 fine labels",
        _NOT_STATED, "https://www.cs.toronto.edu/~kriz/cifar.html", _KRIZHEVSKY,
    ),
    PublicDataset(
        "flowers102", "Oxford 102 Flowers", "Flowers102", {"train": 1_020, "val": 1_020, "test": 6_149}, 102,
        "train, val and test",
        _NOT_STATED, "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "Nilsback and Zisserman, Automated Flower Classification over a Large Number of Classes, ICVGIP 2008",
        "macro_acc",
    ),
    PublicDataset(
        "pets", "Oxford-IIIT Pets", "OxfordIIITPet", {"train": 3_680, "test": 3_669}, 37,
        "trainval as train, and test",
        "CC BY-SA 4.0", "https://www.robots.ox.ac.uk/~vgg/data/pets/",
        "Parkhi et al., Cats and Dogs, CVPR 2012", "macro_acc",
    ),
    PublicDataset(
        "dtd", "Describable Textures (DTD)", "DTD", {"train": 1_880, "val": 1_880, "test": 1_880}, 47,
        "train, val and test of split 1 of 10",
        "research only", "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        "Cimpoi et al., Describing Textures in the Wild, CVPR 2014",
    ),
    PublicDataset(
        "cars", "Stanford Cars", "StanfordCars", {"train": 8_144, "test": 8_041}, 196, "train and test",
        _NOT_STATED, "https://github.com/pytorch/vision/issues/7545",
        "Krause et al., 3D Object Representations for Fine-Grained Categorization, 3dRR 2013",
    ),
    PublicDataset(
        "aircraft", "FGVC-Aircraft", "FGVCAircraft", {"train": 6_667, "test": 3_333}, 100,
        "trainval as train, and test, with the 100 variants",
        "non-commercial research only", "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        "Maji et al., Fine-Grained Visual Classification of Aircraft, arXiv 1306.5151", "macro_acc",
    ),
    PublicDataset(
        "food101", "Food-101", "Food101", {"train": 75_750, "test": 25_250}, 101, "train and test",
        "the images are Foodspotting's; beyond scientific fair use ask their owners",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        "Bossard et al., Food-101: Mining Discriminative Components with Random Forests, ECCV 2014",
    ),
    PublicDataset(
        "caltech101", "Caltech-101", "Caltech101", {"train": 3_030, "test": 5_647}, 101,
        "30 images of each class as train, the others as test; without the class BACKGROUND_Google",
        "CC BY 4.0", "https://data.caltech.edu/records/mzrjq-6wc02",
        "Fei-Fei et al., Learning Generative Visual Models from Few Training Examples, CVPR Workshop 2004",
        "macro_acc", notes=(_DRAWN,),
    ),
    PublicDataset(
        "sun397", "SUN397", "SUN397", {"train": 19_850, "test": 19_850}, 397,
        "Training_01.txt as train and Testing_01.txt as test, the first of 10 partitions",
        "research only", "https://vision.princeton.edu/projects/2010/SUN/",
        "Xiao et al., SUN Database: Large-Scale Scene Recognition from Abbey to Zoo, CVPR 2010",
    ),
    PublicDataset(
        "voc2007", "PASCAL VOC 2007", "VOCDetection", {"train": 2_501, "val": 2_510, "test": 4_952}, 20,
        "train, val and test of the main task",
        "Flickr's terms of use", "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
        "Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010", "mAP", multi_label=True,
        notes=(
            "An object marked as difficult counts like any other, and average precision is the area under the curve; "
            "the official evaluation leaves difficult objects out and averages at 11 points.",
        ),
    ),
    PublicDataset(
        "stl10", "STL-10", "STL10", {"train": 5_000, "test": 8_000}, 10,
        "train and test; the 10 folds and the 100,000 unlabeled images are not used",
        _NOT_STATED, "https://cs.stanford.edu/~acoates/stl10/",
        "Coates et al., An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS 2011",
    ),
    PublicDataset(
        "svhn", "Street View House Numbers (SVHN)", "SVHN", {"train": 73_257, "test": 26_032}, 10,
        "train and test of the cropped digits; the 531,131 extra images are not used",
        "non-commercial use only", "http://ufldl.stanford.edu/housenumbers/",
        "Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, NIPS Workshop 2011",
    ),
    PublicDataset(
        "eurosat", "EuroSAT (RGB)", "EuroSAT", {"train": 21_600, "test": 5_400}, 10,
        "80% of each class as train, the others as test",
        "MIT", "https://github.com/phelber/EuroSAT",
        "Helber et al., EuroSAT, IEEE JSTARS 2019", notes=(_DRAWN,),
    ),
    PublicDataset(
        "gtsrb", "German Traffic Signs (GTSRB)", "GTSRB", {"train": 26_640, "test": 12_630}, 43,
        "train and test; the column group is the track of a sign, of which several pictures were taken",
        _NOT_STATED, "https://benchmark.ini.rub.de/",
        "Stallkamp et al., The German Traffic Sign Recognition Benchmark, IJCNN 2011",
    ),
    PublicDataset(
        "country211", "Country211", "Country211", {"train": 31_650, "val": 10_550, "test": 21_100}, 211,
        "train, valid and test, with ISO 3166 codes as classes",
        "Creative Commons, as each image's creator chose", "https://github.com/openai/CLIP/blob/main/data/country211.md",
        "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021",
    ),
    PublicDataset(
        "pcam", "PatchCamelyon (PCam)", "PCAM", {"train": 262_144, "val": 32_768, "test": 32_768}, 2,
        "train, valid and test",
        "CC0", "https://github.com/basveeling/pcam",
        "Veeling et al., Rotation Equivariant CNNs for Digital Pathology, MICCAI 2018",
    ),
    PublicDataset(
        "inat2018", "iNaturalist 2018", "INaturalist", {"train": 437_513, "val": 24_426}, 8_142,
        "train and val; the labels of the test images are not public",
        _INAT_TERMS, "https://github.com/visipedia/inat_comp/tree/master/2018", _INAT,
    ),
    PublicDataset(
        "inat2019", "iNaturalist 2019", "INaturalist", {"train": 265_213, "val": 3_030}, 1_010,
        "train and val; the labels of the test images are not public",
        _INAT_TERMS, "https://github.com/visipedia/inat_comp/tree/master/2019", _INAT,
    ),
    PublicDataset(
        "inat2021-mini", "iNaturalist 2021 mini", "INaturalist", {"train": 500_000, "val": 100_000}, 10_000,
        "train_mini as train, and val; the labels of the test images are not public",
        _INAT_TERMS, "https://github.com/visipedia/inat_comp/tree/master/2021",
        "Van Horn et al., Benchmarking Representation Learning for Natural World Image Collections, CVPR 2021",
    ),
    PublicDataset(
        "places365", "Places365-Standard (256×256)", "Places365", {"train": 1_803_460, "val": 36_500}, 365,
        "train-standard as train, and val; the labels of the test images are not public",
        "non-commercial research and education only", "http://places2.csail.mit.edu/",
        "Zhou et al., Places: A 10 Million Image Database for Scene Recognition, TPAMI 2017",
    ),
    PublicDataset(
        "mnist", "MNIST", "MNIST", {"train": 60_000, "test": 10_000}, 10, "train and test",
        "CC BY-SA 3.0", "http://yann.lecun.com/exdb/mnist/",
        "LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998",
    ),
    PublicDataset(
        "fashion-mnist", "Fashion-MNIST", "FashionMNIST", {"train": 60_000, "test": 10_000}, 10, "train and test",
        "MIT", "https://github.com/zalandoresearch/fashion-mnist",
        "Xiao et al., Fashion-MNIST: a Novel Image Dataset for Benchmarking, arXiv 1708.07747",
    ),
    PublicDataset(
        "kmnist", "Kuzushiji-MNIST", "KMNIST", {"train": 60_000, "test": 10_000}, 10, "train and test",
        "CC BY-SA 4.0", "https://github.com/rois-codh/kmnist",
        "Clanuwat et al., Deep Learning for Classical Japanese Literature, arXiv 1812.01718",
    ),
    PublicDataset(
        "emnist", "EMNIST Balanced", "EMNIST", {"train": 112_800, "test": 18_800}, 47,
        "train and test of the balanced set; the images, which are stored transposed, are turned upright",
        _NOT_STATED, "https://www.nist.gov/itl/products-and-services/emnist-dataset",
        "Cohen et al., EMNIST: Extending MNIST to Handwritten Letters, IJCNN 2017",
    ),
    PublicDataset(
        "digits", "scikit-learn's digits", "digits", {"train": 1_438, "test": 359}, 10,
        "80% of each class as train, the others as test",
        "CC BY 4.0", "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998", notes=(_DRAWN,),
    ),
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
