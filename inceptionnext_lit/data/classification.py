"""The data module for image classification."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

from torch.utils.data import DataLoader

from inceptionnext_lit.data.balance import BalanceOptions, image_weights, images_by_class
from inceptionnext_lit.data.checks import check, warn_of_twins
from inceptionnext_lit.data.datasets import LabeledImages, UnlabeledImages, collate_labeled, collate_unlabeled
from inceptionnext_lit.data.decode.array_checks import check_arrays
from inceptionnext_lit.data.decode.bad_images import BadImageOptions, BadImages, check_headers, hold_back_readable
from inceptionnext_lit.data.defaults import default_batch_size
from inceptionnext_lit.data.describing import describe_evaluation, describe_junk, describe_rest, describe_training
from inceptionnext_lit.data.device_input import DeviceInput
from inceptionnext_lit.data.evaluated import Evaluated, evaluated_images
from inceptionnext_lit.data.input_format import InputOptions, input_format
from inceptionnext_lit.data.progressive import StagedTransform, check_sizes
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.fingerprint import Fingerprint
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.data.splitting.run_images import rules_of_run
from inceptionnext_lit.data.splitting.selection import Split
from inceptionnext_lit.data.transforms.augmentation import LEVELS, Augmentation, Level
from inceptionnext_lit.data.transforms.pipeline import Transform, eval_transform, reader, train_transform
from inceptionnext_lit.data_spec import ClassNames, DataSpec, are_names
from inceptionnext_lit.seeding import run_seed

_BATCH_SIZE = 64  # for batch_size auto outside training


class ImageFolderDataModule(DeviceInput):
    """Data module for images in class folders or in a manifest, for training, evaluation and prediction.

    The folder contains ``train/CLASS/*.jpg``, and optionally ``val`` and ``test`` folders of the same layout, also
    under their other usual names (:func:`split_named`); or only class folders. A manifest is a table with the columns
    ``path`` and ``label``, and optionally ``split``, ``weight`` and ``group``; see :func:`read_manifest`. Without a
    validation split, a part of each class is held back; groups and copies are not divided.

    The loaders return pixels, with :class:`RawImages` instead of images, which :meth:`on_after_batch_transfer` turns
    into the model's input on the device. Batches are ``(images, labels)``: float32 (N, C, S, S) and int64 (N,), or
    float32 (N, K) if multi-label; with weighted images or classes, training batches are ``(images, labels, weights)``
    with float32 (N,). In prediction they are :class:`UnlabeledBatch`, in natural order. Images are sharded across
    ranks: training images in an order that depends only on the run's seed and the epoch, evaluation images each once;
    a padding image has the label ``NOT_COUNTED``.

    Args:
        root: The data folder or a manifest (.csv, .tsv, .txt, .jsonl, .parquet, .xlsx); for prediction, one or several
            folders of images, image files, patterns or manifests. ``sample`` stands for the embedded images (write
            ``./sample`` for a folder of that name), which are unpacked into the folder that the environment variable
            ``INCEPTIONNEXT_LIT_CACHE`` names.
        image_size: Side S of the model's input images, in pixels, or their height and width: ``[H, W]``.
        in_chans: Channels C of the images: 3 for RGB, 1 for grayscale, 4 for RGBA, or any number of channels of TIFF
            files or NumPy arrays of shape (H, W, C).
        batch_size: Images per batch and device; ``auto`` derives it from the number of training images.
        global_batch_size: Images per optimizer step over all devices and nodes, for which the recipe's learning rate is
            meant; the trainer accumulates batches to match. ``None``: one batch per device, or
            ``trainer.accumulate_grad_batches`` batches.
        num_workers: Loader processes; ``None``: the cores available to this process, at most 8.
        progressive_size: Sizes of the training images, each for an equal share of the epochs, such as
            ``[128, 160, 192, 224]``; evaluation keeps ``image_size``. While the images are small, accumulated batches
            are joined; the images per step do not change. One size, such as ``[160]``, is for all epochs.
        augmentation: Random augmentation in training: ``none``, ``light``, ``medium``, ``strong``, or single keys of
            :class:`Augmentation`.
        multi_label: Whether an image may have several labels, which requires a manifest.
        class_names: The class names in index order, such as a checkpoint's; ``None``: the training split's, sorted.
        split: What to hold back without a validation split, folds, and few-shot subsets.
        input: How images are resized and normalized for the model.
        balance: How to compensate for classes of unequal size.
        bad_images: What to do about images that cannot be read.
        manifest: Names of a manifest's columns.
        real_labels: For ``validate``: the file ``real.json`` of ReaL labels for ImageNet's validation images.

    Raises:
        UserError: If a value is out of its range.
    """

    train_set: LabeledImages
    val_set: LabeledImages
    test_set: LabeledImages
    predict_set: UnlabeledImages

    def __init__(
        self,
        root: str | list[str] | None = None,
        image_size: int | list[int] = 224,
        in_chans: int = 3,
        batch_size: int | Literal["auto"] = 64,
        global_batch_size: int | None = None,
        num_workers: int | None = None,
        progressive_size: list[int | list[int]] | None = None,
        augmentation: Level | Augmentation = "light",
        multi_label: bool = False,
        class_names: ClassNames | list[str] | None = None,
        split: SplitRules = SplitRules(),
        input: InputOptions = InputOptions(),
        balance: BalanceOptions = BalanceOptions(),
        bad_images: BadImageOptions = BadImageOptions(),
        manifest: ColumnNames = ColumnNames(),
        real_labels: str | None = None,
    ) -> None:
        super().__init__(
            input_format(image_size, in_chans, input),
            _BATCH_SIZE if batch_size == "auto" else batch_size,
            global_batch_size,
            num_workers,
        )
        known_level = isinstance(augmentation, Augmentation) or augmentation in LEVELS
        check("augmentation", augmentation, known_level, f"one of {', '.join(LEVELS)}, or an Augmentation")
        names = None if class_names is None else list(class_names)
        is_mapping = names is None or (len(names) > 0 and are_names(names))
        check("class_names", names, is_mapping, "one name per class, each once, and none empty")
        split.warn_of_unused()
        balance.warn_of_both()

        self.images = ImageRoot(root, in_chans, multi_label, manifest, names, real_labels)
        self.augmentation = augmentation if isinstance(augmentation, Augmentation) else LEVELS[augmentation]
        self.multi_label = multi_label
        self.rules = split
        self.balance = balance
        self.bad_images = bad_images
        self.sizes = check_sizes(progressive_size)
        self.skipped = BadImages(bad_images.max_skipped)
        self._derive_batch_size = batch_size == "auto"
        self._has_statistics = input.has_statistics
        self._scanned: set[str] = set()
        self.evaluated: Evaluated | None = None
        self._trained_on, self._held_back = cast(str | None, None), cast(Fingerprint | None, None)
        self._own = real_labels is None  # whether evaluation uses the images that this data module would train on

    @property
    def classes(self) -> list[str]:
        """The class names in index order; lists folders unless they were given.

        Raises:
            UserError: If they cannot be derived from the folder.
        """
        return self.images.classes

    @property
    def num_classes(self) -> int:
        """The number of classes; raises like :attr:`classes`."""
        return len(self.classes)

    @property
    def data_spec(self) -> DataSpec:
        """The classes and input that the model depends on; raises like :attr:`classes`."""
        return DataSpec(self.classes, self.num_classes, self.multi_label, self.preprocessing)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that training depends on, as plain data under the arguments' names."""
        preprocessing = dict(self.preprocessing)
        return {
            "root": self.images.absolute,
            "batch_size": self.batch_size,
            "global_batch_size": self.global_batch_size,
            "multi_label": self.multi_label,
            "balance": asdict(self.balance),
            "manifest": asdict(self.images.columns),
            "split": asdict(self.rules),
            "augmentation": asdict(self.augmentation),
            **({"progressive_size": [list(size) for size in self.sizes]} if self.sizes else {}),
            "image_size": preprocessing.pop("image_size"),
            "input": preprocessing,
        }

    def prepare_data(self) -> None:
        """Unpack the embedded images if they are used."""
        self.images.prepare()

    def setup(self, stage: str) -> None:
        """Scan the folder for a stage, once: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            UserError: If the folder does not contain what the stage needs.
        """
        if stage in self._scanned:
            return
        evaluation = eval_transform(self.preprocessing, self.bad_images.max_pixels)
        if stage == "predict":
            self.predict_set = UnlabeledImages(self.images.to_label(), evaluation)
            self._check_arrays(self.predict_set.paths)
        elif stage == "fit":
            train, val = self._training_samples()
            transform = train_transform(self.augmentation, self.preprocessing, self.bad_images.max_pixels)
            self.train_set = self._labeled(train, transform)
            self.train_set.erasing = self.augmentation.erasing
            self.train_set.weights = image_weights(train, self.classes, self.balance.class_weights)
            self.train_set.skip = self.skipped if self.bad_images.skips else None
            self.val_set = self._labeled(val, evaluation)
            if self._derive_batch_size:
                self.batch_size = default_batch_size(len(train))
            self._plan_steps()
        elif stage in ("validate", "test"):
            split: Literal["val", "test"] = "val" if stage == "validate" else "test"
            found = evaluated_images(self.images, self.rules, split, own=self._own)
            self._check_arrays(found.samples.paths)
            samples = self._readable(Samples.of([]), found.samples)[1] if split == "val" else found.samples
            setattr(self, f"{split}_set", self._labeled(samples, evaluation))
            self.evaluated = found
        self._scanned.add(stage)

    def evaluates_run(self, run: Mapping[str, Any], images: Mapping[str, Fingerprint]) -> None:
        """Choose the images that ``validate`` and ``test`` use for a checkpoint.

        For the run's own images without a validation split, wherever they are now, use the part that the run held
        back; for other images without splits, use all of them.

        Args:
            run: The settings of the checkpoint's run.
            images: The fingerprints of its training and validation images.
        """
        self._trained_on, rules = rules_of_run(run, images, self.images)
        self._own = rules is not None and self.images.real_labels is None
        self._held_back = images.get("val")
        self.rules = rules or self.rules

    def describe(self, stage: str) -> list[str]:
        """Describe the source and number of a stage's images, and what was left out, one line each.

        Args:
            stage: A stage that was set up.
        """
        if stage == "predict":
            return describe_junk(self.images.ignored)
        held_back = stage != "test" and self.holds_back
        if stage == "fit":
            train, val = self.train_set.samples, self.val_set.samples
            text = describe_training(self.images.source, self.rules, train, val, held_back=held_back)
        else:
            split: Literal["val", "test"] = "val" if stage == "validate" else "test"
            samples = (self.val_set if split == "val" else self.test_set).samples
            changed = held_back and self._held_back not in (None, self.images.fingerprint(samples))
            text = describe_evaluation(self.images.source, split, samples, held_back=held_back, changed=changed)
            if not self._own and self._trained_on is not None:
                text += f" (the checkpoint was trained on {self._trained_on})"
        notes = self.evaluated.lines if stage != "fit" and self.evaluated is not None else []
        return [f"Images:     {text}", *notes, *self.describe_sizes(stage), *describe_rest(self.images.source)]

    def fingerprint(self) -> dict[str, Fingerprint]:
        """Return the fingerprints of the training and validation images; requires the stage ``fit`` to be set up."""
        sets = {"train": self.train_set, "val": self.val_set}
        return {name: self.images.fingerprint(of.samples) for name, of in sets.items()}

    @property
    def holds_back(self) -> bool:
        """Whether the validation images are held back from the training split."""
        return self._own and self.rules.hold_back(self.images.source, self.images.given_classes)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches of the training split, without the images of an incomplete last step."""
        self.train_set.seed = run_seed()  # only now have all ranks agreed on it
        if (progressive := self.progressive) is not None:
            options = self.augmentation, self.preprocessing, self.bad_images.max_pixels
            self.train_set.by_epoch = StagedTransform.of(progressive, *options)
        if self.bad_images.skips:
            self.skipped.begin(Path((self.trainer.log_dir if self.trainer else None) or "."))
        repeats, is_balanced = self.augmentation.repeats, self.balance.sampler == "balanced"
        balanced = images_by_class(self.train_set.samples, self.num_classes) if is_balanced else None
        return self._training_loader(self.train_set, collate_labeled, repeats=repeats, balanced=balanced)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return batches of the validation split, in the order of the scan."""
        return self._evaluation_loader(self.val_set, collate_labeled)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return batches of the test split, in the order of the scan."""
        return self._evaluation_loader(self.test_set, collate_labeled)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return batches of unlabeled images, in natural order."""
        return self._loader(self.predict_set, collate_unlabeled)

    def _training_samples(self) -> Split:
        """Return the training and validation samples, after checking them for problems that would ruin a run."""
        train, val = self.rules.training(self.images.source, self.images.given_classes)
        warn_of_twins(self.classes)
        if not self.bad_images.skips:
            check_headers(train.paths + val.paths, self.bad_images.max_pixels)
        self._check_arrays(train.paths + val.paths)
        return self._readable(train, val)

    def _readable(self, train: Samples, val: Samples) -> Split:
        if not self.bad_images.skips:
            return train, val
        load = reader(self.preprocessing, self.bad_images.max_pixels)
        return hold_back_readable(train, val, load, may_move=self.holds_back)

    def _check_arrays(self, paths: PackedStrings | Sequence[str]) -> None:
        check_arrays(paths, self.preprocessing, self.bad_images.max_pixels, has_statistics=self._has_statistics)

    def _labeled(self, samples: Samples, transform: Transform) -> LabeledImages:
        num_labels = self.num_classes if self.multi_label or samples.counts is not None else None
        return LabeledImages(samples, transform, num_labels=num_labels)
