"""A folder of images as a LightningDataModule."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from inceptionnext_lit.data.array_checks import check_arrays
from inceptionnext_lit.data.augmentation import LEVELS, Augmentation, Level
from inceptionnext_lit.data.bad_images import BadImages, check_headers, hold_back_readable
from inceptionnext_lit.data.balance import ClassWeights, image_weights, images_by_class
from inceptionnext_lit.data.base import BaseDataModule
from inceptionnext_lit.data.checks import check, warn_of_twins
from inceptionnext_lit.data.columns import ColumnNames
from inceptionnext_lit.data.datasets import (
    LabelledImages,
    UnlabelledImages,
    collate_labelled,
    collate_unlabelled,
    finish_batch,
)
from inceptionnext_lit.data.defaults import default_batch_size
from inceptionnext_lit.data.describing import describe_evaluation, describe_junk, describe_rest, describe_training
from inceptionnext_lit.data.device_batch import RawImages, ToInput
from inceptionnext_lit.data.erasing import Erasure, erase
from inceptionnext_lit.data.fingerprint import Fingerprint, fingerprint, together
from inceptionnext_lit.data.input_format import input_format
from inceptionnext_lit.data.inputs import resolve_inputs
from inceptionnext_lit.data.loading import image_suffixes
from inceptionnext_lit.data.opening import MAX_PIXELS
from inceptionnext_lit.data.rules import SplitRules, rules_of_own_run, stored_rules
from inceptionnext_lit.data.sample import SAMPLE, data_folder, unpack_sample
from inceptionnext_lit.data.samples import Samples
from inceptionnext_lit.data.seen_pixels import SeenPixels
from inceptionnext_lit.data.selection import Split
from inceptionnext_lit.data.splits import Source, open_source
from inceptionnext_lit.data.texts import Texts
from inceptionnext_lit.data.transforms import Transform, eval_transform, reader, train_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import CropMode, Exif, Interpolation, Preprocessing
from inceptionnext_lit.seeding import run_seed
from inceptionnext_lit.wording import listed

_BATCH_SIZE = 64  # where it is to be derived and nothing is trained


class ImageFolderDataModule(BaseDataModule):
    """Images in class folders or in a manifest, for training, evaluation and prediction.

    The folder holds ``train/CLASS/*.jpg``, and beside ``train`` a ``val`` and a ``test`` folder of the same kind if
    there are any, also under their other usual names (:func:`split_named`); or class folders alone. A manifest is a
    table with the columns ``path`` and ``label``, and perhaps ``split``, ``weight`` and ``group``; see
    :func:`read_manifest`. Without a validation split, a part of each class is held back, groups and copies in one
    piece.

    The loaders themselves give pixels, :class:`RawImages` in the place of images, which
    :meth:`on_after_batch_transfer` makes a model's input of on the device.
    Batches are ``(images, labels)``: float32 (N, C, S, S) and int64 (N,), or float32 (N, K) if multi-label; where
    images or classes are weighted, training has ``(images, labels, weights)`` with float32 (N,). In prediction they are
    :class:`UnlabelledBatch`, in natural order. On several processes each gets its share: of training
    images in an order that depends on the run's seed and the epoch alone, of evaluation images every one once; an image
    that only fills up a share has the label ``NOT_COUNTED``.

    Args:
        root: The data folder or a manifest (.csv, .tsv, .txt, .jsonl, .parquet, .xlsx); for prediction, folders of
            images, image files, patterns or manifests, one or several.
            ``sample`` stands for the embedded images (a folder of that name is written ``./sample``).
        image_size: Side S of the images that the model gets, in pixels.
        in_chans: Channels C of the images: 3 for RGB, 1 for grey, 4 for RGBA, or any number that TIFF files or NumPy
            arrays of shape (H, W, C) have.
        batch_size: Images per batch and device; ``auto`` derives it from the number of training images.
        global_batch_size: Images per optimiser step over all devices and nodes, for which the recipe's learning rate is
            meant; the trainer accumulates as many batches as that takes. ``None``: one batch per device, or as many as
            ``trainer.accumulate_grad_batches`` says.
        path_column: A manifest's column of images, if its name is none of the usual ones, such as ``path``,
            ``filename`` and ``image_id``.
        label_column: Its column of labels, likewise: ``label``, ``class``, ``category``, ``target`` and the like.
        num_workers: Processes that load images; ``None``: the cores that this process may use, at most 8.
        val_fraction: Share of each class that is held back for validation if there is no ``val`` folder.
        split_seed: Another seed holds back other images, and gives other folds and few-shot subsets.
        num_folds: Rounds of a k-fold cross-validation, in place of ``val_fraction``.
        fold: Which of these rounds this run is, from 0.
        per_class: Train on so many images of each class only; validation stays whole.
        multi_label: Whether an image may have several labels, which takes a manifest.
        class_weights: ``auto`` for classes that count the same in the loss, however many images they have; or weights
            by class name. ``None``: every image counts the same.
        sampler: ``shuffled`` uses each training image once an epoch; ``balanced`` draws the classes equally often.
        on_bad_image: What a training image that cannot be read does: an ``error``, or a warning and an entry in the run
            folder's ``bad_images.csv``, with the next image in its place (``skip``). In evaluation it is an error.
        max_bad_images: How many may be skipped.
        max_pixels: The most pixels that an image may have; one with more is refused from its header, since a file of a
            megabyte can hold more pixels than a machine has memory for. Reading takes about 14 bytes a pixel.
        augmentation: What is drawn at random in training: ``none``, ``light``, ``medium``, ``strong``, or keys of
            :class:`Augmentation` one by one.
        nodata: The value of pixels without data, as it is stored in the files, which become 0 after normalising; NaN is
            written ``.nan``. ``None``: what the tag of a TIFF file (GDAL's) says, if it has one.
        mean: Mean per channel for pixels in [0, 1]; ``None``: that of the pretrained weights if there are any,
            otherwise ImageNet's, averaged if not RGB.
        std: Standard deviation per channel, likewise.
        crop_pct: Share of the resized image's side that the evaluation's centre crop keeps; ``None``: that of the
            pretrained weights, otherwise 0.875.
        interpolation: Filter with which the evaluation resizes; ``None``: that of the pretrained weights, otherwise
            bicubic.
        crop_mode: What the evaluation does with images that are no squares: resize the shorter side and cut the rest
            (``center``), resize both sides (``squash``), or fill up with the mean (``border``); ``None``: as with the
            pretrained weights, otherwise ``center``.
        exif: Whether EXIF's orientation is applied, so that pictures are upright. The authors' loaders ignore it on
            ImageNet. A prediction applies it unless it is told not to, whatever the model was trained with.
        class_names: The class names in index order, such as a checkpoint's; ``None``: the training split's, sorted.
        cache_dir: Where the embedded images are unpacked; see :func:`unpack_sample`.

    Raises:
        UserError: If a value is out of its range.
    """

    preprocessing: Preprocessing
    train_set: LabelledImages
    val_set: LabelledImages
    test_set: LabelledImages
    predict_set: UnlabelledImages

    def __init__(
        self,
        root: str | list[str] | None = None,
        image_size: int = 224,
        in_chans: int = 3,
        batch_size: int | Literal["auto"] = 64,
        global_batch_size: int | None = None,
        path_column: str | None = None,
        label_column: str | None = None,
        num_workers: int | None = None,
        val_fraction: float = 0.2,
        split_seed: int = 0,
        num_folds: int | None = None,
        fold: int = 0,
        per_class: int | None = None,
        multi_label: bool = False,
        class_weights: ClassWeights | None = None,
        sampler: Literal["shuffled", "balanced"] = "shuffled",
        on_bad_image: Literal["error", "skip"] = "error",
        max_bad_images: int = 100,
        max_pixels: int = MAX_PIXELS,
        augmentation: Level | Augmentation = "light",
        nodata: float | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        crop_pct: float | None = None,
        interpolation: Interpolation | None = None,
        crop_mode: CropMode | None = None,
        exif: Exif = "apply",
        class_names: list[str] | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(_BATCH_SIZE if batch_size == "auto" else batch_size, global_batch_size, num_workers)
        check("max_pixels", max_pixels, max_pixels >= 1, "1 pixel or more")
        known_level = isinstance(augmentation, Augmentation) or augmentation in LEVELS
        check("augmentation", augmentation, known_level, f"one of {', '.join(LEVELS)}, or an Augmentation")
        is_mapping = class_names is None or 0 < len(class_names) == len(set(class_names))
        check("class_names", class_names, is_mapping, "one name per class, each once")

        self.root = root
        self.in_chans = in_chans
        self._derive_batch_size = batch_size == "auto"
        if class_weights == "auto" and sampler == "balanced":
            rank_zero_warn(
                "data.sampler balanced and data.class_weights auto both make up for rare classes; used together, they "
                "overcompensate. Choose one of them."
            )
        self.columns = ColumnNames(path_column, label_column)
        self.rules = SplitRules(val_fraction, split_seed, num_folds, fold, per_class)
        self.multi_label = multi_label
        self.class_weights = class_weights
        self.sampler = sampler
        self.skips = on_bad_image == "skip"
        self.bad_images = BadImages(max_bad_images)
        self.max_pixels = max_pixels
        self.augmentation = augmentation if isinstance(augmentation, Augmentation) else LEVELS[augmentation]
        self.cache_dir = cache_dir
        self._class_names = class_names
        self._scanned: set[str] = set()
        self._own = True  # what is evaluated is what this data module would train on
        self._trained_on: str | None = None
        self._held_back: Fingerprint | None = None
        self._ignored: Counter[str] = Counter()
        self.preprocessing = input_format(
            image_size,
            in_chans,
            crop_pct=crop_pct,
            mean=mean,
            std=std,
            interpolation=interpolation,
            crop_mode=crop_mode,
        )
        if nodata is not None:
            self.preprocessing["nodata"] = nodata
        if exif == "ignore":
            self.preprocessing["exif"] = exif
        self._has_statistics = mean is not None or std is not None
        self._to_input = ToInput(self.preprocessing)
        self.erases_mixed = False
        self._left_to_erase: list[Erasure | None] = []
        self._seen = SeenPixels(self.preprocessing)

    @property
    def classes(self) -> list[str]:
        """The class names in index order; lists folders unless they were given.

        Raises:
            UserError: If the folder does not tell them.
        """
        if self._class_names is not None:
            return list(self._class_names)
        return self._source.classes()

    @property
    def num_classes(self) -> int:
        """The number of classes; raises like :attr:`classes`."""
        return len(self.classes)

    @property
    def settings(self) -> dict[str, Any]:
        """What training depends on, as plain data under the names of the arguments."""
        names = ("root", "batch_size", "global_batch_size", "multi_label", "class_weights", "sampler")
        own = {name: getattr(self, name) for name in names}
        if isinstance(self.root, str) and self.root != SAMPLE:
            own["root"] = os.path.abspath(os.path.expanduser(self.root))
        own |= {"path_column": self.columns.path, "label_column": self.columns.label}
        return own | asdict(self.rules) | {"augmentation": asdict(self.augmentation)} | dict(self.preprocessing)

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
        evaluation = eval_transform(self.preprocessing, self.max_pixels)
        if stage == "predict":
            self.predict_set = UnlabelledImages(self._unlabelled(), evaluation)
            self._check_arrays(self.predict_set.paths)
        elif stage == "fit":
            train, val = self._training_samples()
            transform = train_transform(self.augmentation, self.preprocessing, self.max_pixels)
            self.train_set = self._labelled(train, transform)
            self.train_set.erasing = self.augmentation.erasing
            self.train_set.weights = image_weights(train, self.classes, self.class_weights)
            self.train_set.skip = self.bad_images if self.skips else None
            self.val_set = self._labelled(val, evaluation)
            if self._derive_batch_size:
                self.batch_size = default_batch_size(len(train))
            self._plan_steps()
        elif stage == "validate":
            val = self.rules.validation(self._source, self._class_names, own=self._own)
            self.val_set = self._labelled(self._readable(Samples.of([]), val)[1], evaluation)
            self._check_arrays(val.paths)
        elif stage == "test":
            test = self.rules.test(self._source, self._class_names, own=self._own)
            self.test_set = self._labelled(test, evaluation)
            self._check_arrays(test.paths)
        self._scanned.add(stage)

    def evaluates_run(self, run: Mapping[str, Any], images: Mapping[str, Fingerprint]) -> None:
        """Let ``validate`` and ``test`` use what goes with a checkpoint.

        Of the run's own images without a validation split, wherever they lie now, that is the part that the run held
        back; of others without splits, all of them.

        Args:
            run: The settings of the checkpoint's run.
            images: The fingerprints of its training and of its validation images.
        """
        trained_on = run.get("data.root")
        rules = None
        if isinstance(trained_on, str):
            rules = rules_of_own_run(run, self._folder(), data_folder(trained_on, self.cache_dir))
            if rules is None and self._are_those_of(images):
                rules = stored_rules(run)
            self._trained_on = trained_on
        self._own = rules is not None
        self._held_back = images.get("val")
        self.rules = rules or self.rules

    def _are_those_of(self, images: Mapping[str, Fingerprint]) -> bool:
        """Whether a folder without splits has the images of a run; where only some classes have, warn of them."""
        if not images or self._source.has_splits:
            return False
        here = fingerprint(self._source.everything(self._class_names), self._image_root, self.classes)
        whole = together(images.values())
        if here == whole:
            return True
        known = [name for name, of_class in here.items() if of_class in (whole.get(name), images["train"].get(name))]
        if known:
            rank_zero_warn(
                f"The checkpoint was trained on the images of {listed(known)}, so these metrics will be too high. "
                "Evaluate images that it has not seen."
            )
        return False

    def describe(self, stage: str) -> list[str]:
        """Where the images of a stage come from, how many there are, and what was left out: a line each.

        Args:
            stage: One that was set up.
        """
        if stage == "predict":
            return describe_junk(self._ignored)
        held_back = stage != "test" and self.holds_back
        if stage == "fit":
            train, val = self.train_set.samples, self.val_set.samples
            text = describe_training(self._source, self.rules, train, val, held_back=held_back)
        elif stage == "validate":
            now = fingerprint(self.val_set.samples, self._image_root, self.classes) if held_back else None
            changed = self._held_back is not None and now != self._held_back
            text = describe_evaluation(
                self._source, "val", self.val_set.samples, held_back=held_back, changed=held_back and changed
            )
        else:
            text = describe_evaluation(self._source, "test", self.test_set.samples)
        if stage != "fit" and not self._own and self._trained_on is not None:
            text += f" (the checkpoint was trained on {self._trained_on})"
        return [f"Images:     {text}", *describe_rest(self._source)]

    def fingerprint(self) -> dict[str, Fingerprint]:
        """What tells the training and the validation images from others; the stage ``fit`` has to be set up."""
        sets = {"train": self.train_set, "val": self.val_set}
        return {name: fingerprint(of.samples, self._image_root, self.classes) for name, of in sets.items()}

    @property
    def holds_back(self) -> bool:
        """Whether the validation images are a part of the training split."""
        return self._own and self.rules.hold_back(self._source, self._class_names)

    @property
    def _image_root(self) -> str:
        folder = self._folder()
        return str(folder if folder.is_dir() else folder.parent)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of the training split; images that make no full step any more are left out."""
        self.train_set.seed = run_seed()  # not before now, when all processes have agreed on it
        if self.skips:
            self.bad_images.begin(Path((self.trainer.log_dir if self.trainer else None) or "."))
        balanced = images_by_class(self.train_set.samples, self.num_classes) if self.sampler == "balanced" else None
        return self._training_loader(
            self.train_set, collate_labelled, repeats=self.augmentation.repeats, balanced=balanced
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation split, in the order of the scan."""
        return self._evaluation_loader(self.val_set, collate_labelled)

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test split, in the order of the scan."""
        return self._evaluation_loader(self.test_set, collate_labelled)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of unlabelled images, in natural order."""
        return self._loader(self.predict_set, collate_unlabelled)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Compares the first training images with the mean and deviation that are taken for theirs."""
        if self.trainer and self.trainer.training and self.trainer.is_global_zero and isinstance(batch[0], RawImages):
            self._seen.note(batch[0].pixels)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Makes a model's input of the images that a loader gave, on the device; the rest of the batch stays."""
        if self.erases_mixed and isinstance(batch[0], RawImages):
            self._left_to_erase = batch[0].erasures
        precision = self.trainer.precision_plugin if self.trainer else None
        return finish_batch(batch, self._to_input, precision, with_erasing=not self.erases_mixed)

    def erase_mixed(self, images: Tensor) -> None:
        """Erases what was left of the last batch, where :attr:`erases_mixed` is on.

        Args:
            images: Its images (N, C, H, W), mixed or not, changed in place.
        """
        if self._left_to_erase:
            erase(images, self._left_to_erase)

    def _folder(self) -> Path:
        if self.root is None:
            raise UserError("No images were named. Give a folder with --data.root, or --data.root sample.")
        if isinstance(self.root, list):
            raise UserError(f"data.root names {', '.join(self.root)}; name one data folder.")
        return data_folder(self.root, self.cache_dir)

    @cached_property
    def _source(self) -> Source:
        suffixes = image_suffixes(self.in_chans)
        source = open_source(
            self._folder(),
            multi_label=self.multi_label,
            suffixes=suffixes,
            columns=self.columns,
            classes=self._class_names,
        )
        for note in source.notes:
            rank_zero_info(note)
        return source

    def _training_samples(self) -> Split:
        """The training and the validation samples, after a look at what would ruin a run."""
        train, val = self.rules.training(self._source, self._class_names)
        warn_of_twins(self.classes)
        if not self.skips:
            check_headers(train.paths + val.paths, self.max_pixels)
        self._check_arrays(train.paths + val.paths)
        return self._readable(train, val)

    def _readable(self, train: Samples, val: Samples) -> Split:
        if not self.skips:
            return train, val
        load = reader(self.preprocessing, self.max_pixels)
        return hold_back_readable(train, val, load, may_move=self.holds_back)

    def _check_arrays(self, paths: Texts | Sequence[str]) -> None:
        check_arrays(paths, self.preprocessing, self.max_pixels, has_statistics=self._has_statistics)

    def _labelled(self, samples: Samples, transform: Transform) -> LabelledImages:
        num_labels = self.num_classes if self.multi_label else None
        return LabelledImages(samples, transform, num_labels=num_labels)

    def _unlabelled(self) -> list[str]:
        inputs = self.root if isinstance(self.root, list) else [str(self._folder())]
        named = [str(unpack_sample(self.cache_dir)) if name == SAMPLE else name for name in inputs]
        return resolve_inputs(
            named, image_suffixes(self.in_chans), self.columns, note=rank_zero_info, ignored=self._ignored
        )
