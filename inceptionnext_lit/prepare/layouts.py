"""What each data set looks like on disk: its archives, and the files in them where torchvision's class expects them.

Checksums are torchvision's; where its class has them inside a method, and for the files that it does not download
(Stanford Cars, the annotations of iNaturalist), they are those of the data set's page.
"""

from functools import cache

from inceptionnext_lit.prepare.layout import Archive, Layout

_IDX = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_EMNIST = tuple(
    f"emnist-balanced-{split}-{kind}-ubyte" for split in ("train", "test") for kind in ("images-idx3", "labels-idx1")
)
_INAT_WEB = "https://github.com/visipedia/inat_comp"


@cache
def layout_of(name: str) -> Layout:
    """Return the layout of a data set of torchvision.

    Args:
        name: A name of ``inceptionnext_lit.data.public.DATASETS``.
    """
    return {**_layouts_of_arrays(), **_layouts_of_images(), **_layouts_of_large_sets()}[name]


def names() -> tuple[str, ...]:
    """Return the names of the data sets that have a layout."""
    return (*_layouts_of_arrays(), *_layouts_of_images(), *_layouts_of_large_sets())


def _layouts_of_arrays() -> dict[str, Layout]:
    from torchvision import datasets as tv

    def cifar(kind: type[tv.CIFAR10]) -> Layout:
        files = (*(name for name, _ in kind.train_list + kind.test_list), kind.meta["filename"])
        archive = Archive(kind.filename, kind.tgz_md5)
        return Layout(kind.base_folder, files, kind.url, ((archive,),), is_arrays=True)

    def idx(kind: type[tv.MNIST]) -> Layout:
        base = f"{kind.__name__}/raw"
        return Layout(base, _IDX, kind.mirrors[0], may_be_gzipped=True, is_arrays=True)

    stl_files = tuple(name for name, _ in (*tv.STL10.train_list, *tv.STL10.test_list))
    pcam_files = tuple(file for split in tv.PCAM._FILES.values() for file, _, _ in split.values())
    return {
        "cifar10": cifar(tv.CIFAR10),
        "cifar100": cifar(tv.CIFAR100),
        "mnist": idx(tv.MNIST),
        "fashion-mnist": idx(tv.FashionMNIST),
        "kmnist": idx(tv.KMNIST),
        "emnist": Layout(
            "EMNIST/raw",
            _EMNIST,
            tv.EMNIST.url,
            ((Archive("gzip.zip", tv.EMNIST.md5, "EMNIST/raw"),),),
            may_be_gzipped=True,
            is_arrays=True,
        ),
        "svhn": Layout(
            "",
            tuple(tv.SVHN.split_list[split][1] for split in ("train", "test")),
            "http://ufldl.stanford.edu/housenumbers/",
            is_arrays=True,
        ),
        "stl10": Layout(
            tv.STL10.base_folder,
            (*stl_files, tv.STL10.class_names_file),
            tv.STL10.url,
            ((Archive(tv.STL10.filename, tv.STL10.tgz_md5),),),
            is_arrays=True,
        ),
        "pcam": Layout(
            "pcam",
            pcam_files,
            "https://github.com/basveeling/pcam",
            may_be_gzipped=True,
            packages=("h5py",),
            download_packages=("gdown",),
            is_arrays=True,
        ),
    }


def _layouts_of_images() -> dict[str, Layout]:
    from torchvision import datasets as tv
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    flowers = {key: Archive(name, md5, "flowers-102") for key, (name, md5) in tv.Flowers102._file_dict.items()}
    pets = tuple(Archive(url.rpartition("/")[2], md5, "oxford-iiit-pet") for url, md5 in tv.OxfordIIITPet._RESOURCES)
    voc = tuple(
        Archive(str(DATASET_YEAR_DICT[key]["filename"]), str(DATASET_YEAR_DICT[key]["md5"]))
        for key in ("2007", "2007-test")
    )
    cars = (
        Archive("cars_train.tgz", "065e5b463ae28d29e77c1b4b166cfe61", "stanford_cars", ("cars_ims_train.tgz",)),
        Archive("cars_test.tgz", "4ce7ebf6a94d07f1952d94dd34c4d501", "stanford_cars", ("cars_ims_test.tgz",)),
        Archive("car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376", "stanford_cars", ("cars_devkit.tgz",)),
        Archive("cars_test_annos_withlabels.mat", "b0a2b23655a3edd16d84508592a98d10", "stanford_cars"),
    )
    return {
        "flowers102": Layout(
            "flowers-102",
            ("jpg", "imagelabels.mat", "setid.mat"),
            tv.Flowers102._download_url_prefix,
            ((flowers["image"], flowers["label"], flowers["setid"]),),
        ),
        "pets": Layout(
            "oxford-iiit-pet",
            ("images", "annotations/trainval.txt", "annotations/test.txt"),
            "https://www.robots.ox.ac.uk/~vgg/data/pets/",
            (pets,),
        ),
        "dtd": Layout(
            "dtd/dtd",
            ("images", *(f"labels/{split}1.txt" for split in ("train", "val", "test"))),
            tv.DTD._URL,
            ((Archive("dtd-r1.0.1.tar.gz", tv.DTD._MD5, "dtd"),),),
        ),
        "cars": Layout(
            "stanford_cars",
            (
                "cars_train", "cars_test", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat",
                "cars_test_annos_withlabels.mat",
            ),
            "https://github.com/pytorch/vision/issues/7545",
            (cars,),
            {
                "cars_train": ("cars_train/cars_train",),
                "cars_test": ("cars_test/cars_test",),
                "devkit/cars_meta.mat": ("car_devkit/devkit/cars_meta.mat",),
                "devkit/cars_train_annos.mat": ("car_devkit/devkit/cars_train_annos.mat",),
                "cars_test_annos_withlabels.mat": (
                    "devkit/cars_test_annos_withlabels.mat", "cars_test_annos_withlabels (1).mat",
                ),
            },
            can_download=False,
        ),
        "aircraft": Layout(
            "fgvc-aircraft-2013b",
            (
                "data/images", "data/variants.txt",
                *(f"data/images_variant_{split}.txt" for split in ("trainval", "test")),
            ),
            tv.FGVCAircraft._URL,
            ((Archive("fgvc-aircraft-2013b.tar.gz"),),),
        ),
        "food101": Layout(
            "food-101",
            ("images", "meta/train.json", "meta/test.json"),
            tv.Food101._URL,
            ((Archive("food-101.tar.gz", tv.Food101._MD5),),),
        ),
        "caltech101": Layout(
            "caltech101",
            ("101_ObjectCategories",),
            "https://data.caltech.edu/records/mzrjq-6wc02",
            (
                (Archive("caltech-101.zip", "3138e1922a9193bfa496528edbbc45d0", "caltech101"),),
                (Archive("101_ObjectCategories.tar.gz", into="caltech101"),),
            ),
        ),
        "eurosat": Layout(
            "eurosat",
            ("2750",),
            "https://huggingface.co/datasets/torchgeo/eurosat",
            ((Archive("EuroSAT.zip", "c8fa014336c82ac7804f0398fcb19387", "eurosat"),),),
            {"2750": ("EuroSAT_RGB",)},
        ),
        "gtsrb": Layout(
            "gtsrb",
            ("GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv"),
            "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/published-archive.html",
            (
                (
                    Archive("GTSRB-Training_fixed.zip", "513f3c79a4c5141765e10e952eaa2478", "gtsrb"),
                    Archive("GTSRB_Final_Test_Images.zip", "c7e4e6327067d32654124b0fe9e82185", "gtsrb"),
                    Archive("GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5", "gtsrb"),
                ),
            ),
        ),
        "country211": Layout(
            "country211",
            ("train", "valid", "test"),
            tv.Country211._URL,
            ((Archive("country211.tgz", tv.Country211._MD5),),),
        ),
        "voc2007": Layout(
            "VOCdevkit/VOC2007",
            ("JPEGImages", "Annotations", *(f"ImageSets/Main/{split}.txt" for split in ("train", "val", "test"))),
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
            (voc,),
        ),
    }  # fmt: skip


SUN397_PARTITIONS = "https://vision.cs.princeton.edu/projects/2010/SUN/download/Partitions.zip"
INAT_VAL = {  # page of the competition: address and checksum of the validation annotations
    "2018": (
        "https://ml-inat-competition-datasets.s3.amazonaws.com/2018/val2018.json.tar.gz",
        "f2ed8bfe3e9901cdefceb4e53cd3775d",
    ),
    "2019": (
        "https://ml-inat-competition-datasets.s3.amazonaws.com/2019/val2019.json.tar.gz",
        "5cc5509b0fe495f1c8c1362612448497",
    ),
}


def _layouts_of_large_sets() -> dict[str, Layout]:
    from torchvision import datasets as tv
    from torchvision.datasets.inaturalist import DATASET_MD5

    def inat(year: str) -> Layout:
        images = Archive(f"train_val{year}.tar.gz", DATASET_MD5[year], other_names=(f"{year}.tgz",))
        annotations = Archive(f"val{year}.json.tar.gz", INAT_VAL[year][1])
        tree, other_names = (year, f"val{year}.json"), {year: (f"train_val{year}",)}
        return Layout("", tree, f"{_INAT_WEB}/tree/master/{year}", ((images, annotations),), other_names)

    places = tv.Places365
    file_list = Archive(*places._DEVKIT_META["standard"])
    parts = (Archive(*places._IMAGES_META[split, True]) for split in ("train-standard", "val"))
    return {
        "sun397": Layout(
            "SUN397",
            ("ClassName.txt", "a", "Partitions/Training_01.txt", "Partitions/Testing_01.txt"),
            "https://vision.princeton.edu/projects/2010/SUN/",
            ((Archive("SUN397.tar.gz", tv.SUN397._DATASET_MD5), Archive("Partitions.zip", into="SUN397/Partitions")),),
            {f"Partitions/{name}_01.txt": (f"{name}_01.txt",) for name in ("Training", "Testing")},
        ),
        "inat2018": inat("2018"),
        "inat2019": inat("2019"),
        "inat2021-mini": Layout(
            "",
            ("2021_train_mini", "2021_valid"),
            f"{_INAT_WEB}/tree/master/2021",
            (
                (
                    Archive("train_mini.tar.gz", DATASET_MD5["2021_train_mini"], other_names=("2021_train_mini.tgz",)),
                    Archive("val.tar.gz", DATASET_MD5["2021_valid"], other_names=("2021_valid.tgz",)),
                ),
            ),
            {"2021_train_mini": ("train_mini",), "2021_valid": ("val",)},
        ),
        "places365": Layout(
            "",
            (
                "categories_places365.txt", "places365_train_standard.txt", "places365_val.txt", "data_256_standard",
                "val_256",
            ),
            "http://places2.csail.mit.edu/download.html",
            ((file_list, *parts),),
            {"data_256_standard": ("data_256",)},
        ),
    }  # fmt: skip
