"""A folder of images as a LightningDataModule."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader, Dataset, Sampler

from inceptionnext_lit.data.augmentation import LEVELS, Augmentation, Level
from inceptionnext_lit.data.checks import check
from inceptionnext_lit.data.datasets import (
    LabelledImages,
    UnlabelledImages,
    collate_labelled,
    collate_unlabelled,
)
from inceptionnext_lit.data.folder import (
    Layout,
    Sample,
    find_layout,
    hold_back,
    scan_split,
    training_classes,
)
from inceptionnext_lit.data.global_batch import plan_accumulation
from inceptionnext_lit.data.inputs import resolve_inputs
from inceptionnext_lit.data.sample import unpack_sample
from inceptionnext_lit.data.samplers import EvaluationSampler, TrainingSampler
from inceptionnext_lit.data.transforms import eval_transform, train_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.seeding import run_seed

SAMPLE = "sample"
_MAX_WORKERS = 8


class ImageFolderDataModule(LightningDataModule):
    """Images in class folders, for training, evaluation and prediction.

    The folder holds ``train/CLASS/*.jpg``, and beside ``train`` a ``val`` and a ``test`` folder of the same
    kind if there are any; or class folders alone. Without ``val``, a part of each class is held back.

    Batches are ``(images, labels)``: float32 (N, 3, S, S) and int64 (N,); in prediction
    :class:`UnlabelledBatch`, in natural order. On several processes each gets its share: of training images in an order
    that depends on the run's seed and the epoch alone, of evaluation images every one once; an image that only fills
    up a share has the label ``NOT_COUNTED``.

    Args:
        root: The data folder; for prediction, folders of images, image files, patterns or manifests, one or several.
            ``sample`` stands for the embedded images (a folder of that name is written ``./sample``).
        image_size: Side S of the images that the model gets, in pixels.
        batch_size: Images per batch and device.
        global_batch_size: Images per optimiser step over all devices and nodes, for which the recipe's learning rate is
            meant; the trainer accumulates as many batches as that takes. ``None``: one batch per device, or as many as
            ``trainer.accumulate_grad_batches`` says.
        num_workers: Processes that load images; ``None``: the cores that this process may use, at most 8.
        val_fraction: Share of each class that is held back for validation if there is no ``val`` folder.
        split_seed: Another seed holds back other images.
        augmentation: What is drawn at random in training: ``none``, ``light``, ``medium``, ``strong``, or keys of
            :class:`Augmentation` one by one.
        mean: Mean per channel for pixels in [0, 1]; ``None``: ImageNet's.
        std: Standard deviation per channel for pixels in [0, 1]; ``None``: ImageNet's.
        crop_pct: Share of the resized image's shorter side that the evaluation's centre crop keeps.
        class_names: The class names in index order, such as those of a checkpoint; ``None``: the sorted
            names of the training split's class folders.
        cache_dir: Where the embedded images are unpacked; see :func:`unpack_sample`.

    Raises:
        UserError: If a value is out of its range.
    """

    train_set: LabelledImages
    val_set: LabelledImages
    test_set: LabelledImages
    predict_set: UnlabelledImages

    def __init__(
        self,
        root: str | list[str] | None = None,
        image_size: int = 224,
        batch_size: int = 64,
        global_batch_size: int | None = None,
        num_workers: int | None = None,
        val_fraction: float = 0.2,
        split_seed: int = 0,
        augmentation: Level | Augmentation = "light",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        crop_pct: float = 0.875,
        class_names: list[str] | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        mean = list(IMAGENET_DEFAULT_MEAN) if mean is None else mean
        std = list(IMAGENET_DEFAULT_STD) if std is None else std
        check("image_size", image_size, image_size >= 1, "1 pixel or more")
        check("batch_size", batch_size, batch_size >= 1, "1 image or more")
        is_step = global_batch_size is None or global_batch_size >= 1
        check("global_batch_size", global_batch_size, is_step, "1 image or more, or null")
        check("num_workers", num_workers, num_workers is None or num_workers >= 0, "0 or more, or null")
        check("val_fraction", val_fraction, 0 < val_fraction < 1, "between 0 and 1, both excluded")
        check("mean", mean, len(mean) == 3, "3 numbers, one per channel")
        check("std", std, len(std) == 3 and min(std) > 0, "3 numbers above 0, one per channel")
        check("crop_pct", crop_pct, 0 < crop_pct <= 1, "above 0 and at most 1")
        known_level = isinstance(augmentation, Augmentation) or augmentation in LEVELS
        check("augmentation", augmentation, known_level, f"one of {', '.join(LEVELS)}, or an Augmentation")
        is_mapping = class_names is None or 0 < len(class_names) == len(set(class_names))
        check("class_names", class_names, is_mapping, "one name per class, each once")

        self.root = root
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.num_workers = _default_workers() if num_workers is None else num_workers
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.augmentation = augmentation if isinstance(augmentation, Augmentation) else LEVELS[augmentation]
        self.cache_dir = cache_dir
        self._class_names = class_names
        self._scanned: set[str] = set()
        self._preprocessing = Preprocessing(
            image_size=image_size, crop_pct=crop_pct, interpolation="bicubic", mean=mean, std=std
        )

    @property
    def classes(self) -> list[str]:
        """The class names in index order; lists folders unless they were given.

        Raises:
            UserError: If the folder does not tell them.
        """
        if self._class_names is not None:
            return list(self._class_names)
        return training_classes(find_layout(self._folder()))

    @property
    def num_classes(self) -> int:
        """The number of classes; raises like :attr:`classes`."""
        return len(self.classes)

    @property
    def preprocessing(self) -> Preprocessing:
        """The evaluation transform as plain data."""
        return self._preprocessing

    @property
    def settings(self) -> dict[str, Any]:
        """What training depends on, as plain data under the names of the arguments."""
        names = ("root", "batch_size", "global_batch_size", "val_fraction", "split_seed")
        own = {name: getattr(self, name) for name in names}
        return own | {"augmentation": asdict(self.augmentation)} | dict(self.preprocessing)

    def prepare_data(self) -> None:
        """Unpacks the embedded images if they are asked for."""
        if self.root == SAMPLE:
            unpack_sample(self.cache_dir)

    def setup(self, stage: str) -> None:
        """Scans the folder for a stage, once: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            UserError: If the folder does not hold what the stage needs.
        """
        if stage in self._scanned:
            return
        evaluation = eval_transform(self.preprocessing)
        if stage == "predict":
            self.predict_set = UnlabelledImages(self._unlabelled(), evaluation)
            self._scanned.add(stage)
            return
        layout = find_layout(self._folder())
        if stage == "fit":
            train, val = self._training_samples(layout)
            transform = train_transform(self.augmentation, self.preprocessing)
            self.train_set = LabelledImages(train, transform)
            self.val_set = LabelledImages(val, evaluation)
            self._set_accumulation()
        elif stage == "validate":
            val = self._scan(layout, layout.val) if layout.val else self._training_samples(layout)[1]
            self.val_set = LabelledImages(val, evaluation)
        elif stage == "test":
            if layout.test is None:
                raise UserError(
                    f"There is no test split: {layout.root / 'test'} was looked for. "
                    "Add that folder, or evaluate the validation split with the subcommand validate."
                )
            self.test_set = LabelledImages(self._scan(layout, layout.test), evaluation)
        self._scanned.add(stage)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of the training split; images that make no full step any more are left out."""
        self.train_set.seed = run_seed()  # not before now, when all processes have agreed on it
        sampler = TrainingSampler(
            len(self.train_set),
            self.step_size,
            seed=self.train_set.seed,
            repeats=self.augmentation.repeats,
            shuffle=not getattr(self.trainer, "overfit_batches", 0),  # which means: the same images again and again
            **self._share,
        )
        return self._loader(self.train_set, collate_labelled, sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation split, in the order of the scan."""
        return self._loader(self.val_set, collate_labelled, self._evaluation(self.val_set))

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test split, in the order of the scan."""
        return self._loader(self.test_set, collate_labelled, self._evaluation(self.test_set))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of unlabelled images, in natural order."""
        return self._loader(self.predict_set, collate_unlabelled)

    @property
    def step_size(self) -> int:
        """Images per optimiser step over all devices."""
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        return self.global_batch_size or self.batch_size * self._share["replicas"] * accumulated

    @property
    def _share(self) -> dict[str, int]:
        """How many processes share the data, and which of them this one is."""
        if self.trainer is None:
            return {"replicas": 1, "rank": 0}
        return {"replicas": self.trainer.world_size, "rank": self.trainer.global_rank}

    def _evaluation(self, dataset: LabelledImages) -> EvaluationSampler:
        return EvaluationSampler(len(dataset), self.batch_size, **self._share)

    def _loader(
        self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], sampler: Sampler[Any] | None = None
    ) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
        )

    def _set_accumulation(self) -> None:
        """Let the trainer accumulate what the global batch takes; refuse a step of more images than there are."""
        accumulated = plan_accumulation(
            images=len(self.train_set),
            batch_size=self.batch_size,
            devices=self._share["replicas"],
            global_batch=self.global_batch_size,
            asked=self.trainer.accumulate_grad_batches if self.trainer else 1,
        )
        if self.trainer:
            self.trainer.accumulate_grad_batches = accumulated

    def _folder(self) -> Path:
        if self.root is None:
            raise UserError("No images were named. Give a folder with --data.root, or --data.root sample.")
        if isinstance(self.root, list):
            raise UserError(f"data.root names {', '.join(self.root)}; name one data folder.")
        return unpack_sample(self.cache_dir) if self.root == SAMPLE else Path(self.root).expanduser()

    def _scan(self, layout: Layout, split: Path) -> list[Sample]:
        if self._class_names is None:
            return scan_split(split, training_classes(layout), f"the training split {layout.train}")
        return scan_split(split, self._class_names, "the checkpoint (or the given list of class names)")

    def _training_samples(self, layout: Layout) -> tuple[list[Sample], list[Sample]]:
        """The training and the validation samples."""
        if layout.train is None:
            raise UserError(
                f"{layout.root} has neither a train/ folder nor class folders"
                + ("." if layout.val else ", and no val/ folder.")
                + " Training needs train/; validation needs val/, or train/ to hold a part of it back."
            )
        train = self._scan(layout, layout.train)
        if layout.val is not None:
            return train, self._scan(layout, layout.val)
        return hold_back(train, layout.train, self.val_fraction, self.split_seed)

    def _unlabelled(self) -> list[str]:
        inputs = self.root if isinstance(self.root, list) else [str(self._folder())]
        return resolve_inputs([str(unpack_sample(self.cache_dir)) if name == SAMPLE else name for name in inputs])


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_WORKERS)
