"""The data module for semantic segmentation."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, cast

from inceptionnext_lit.data.checks import check, warn_of_twins
from inceptionnext_lit.data.decode.array_checks import check_arrays
from inceptionnext_lit.data.decode.bad_images import BadImageOptions, check_headers, hold_back_readable
from inceptionnext_lit.data.defaults import default_batch_size
from inceptionnext_lit.data.describing import describe_evaluation, describe_junk, describe_rest, describe_training
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.root import SceneRoot
from inceptionnext_lit.data.scene_checks import CropSize, auto_crop, check_crop, check_split, scene_format
from inceptionnext_lit.data.scene_loaders import SceneLoaders
from inceptionnext_lit.data.scenes import EvaluatedScenes, PredictedScenes, TrainingScenes
from inceptionnext_lit.data.sources.fingerprint import Fingerprint
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.data.splitting.run_images import rules_of_run
from inceptionnext_lit.data.splitting.selection import Split
from inceptionnext_lit.data.transforms.pipeline import reader
from inceptionnext_lit.data.transforms.segmentation import (
    SegmentationAugmentation,
    SegmentationLevel,
    TestScale,
    TrainingCrop,
    augmentation_of,
)
from inceptionnext_lit.data_spec import ClassNames, DataSpec, are_names

_BATCH_SIZE = 16  # for batch_size auto outside training
_LARGEST_AUTO = 16


class SegmentationDataModule(SceneLoaders):
    """Data module for images with masks, for training, evaluation and prediction.

    Masks are found by the names of folders and files, and may be pictures of indices, with a palette, black and white,
    or in colors, or polygons of COCO, labelme or YOLO; see :class:`MaskSource`. Images, masks and classes are checked
    once before the first stage. Without a validation split, a part of the images is held back; copies are not divided.

    Training batches are ``(images, masks)``: crops, float32 (N, C, H, W), and class indices, int64 (N, H, W), where 255
    is ignored. Evaluation batches are :class:`Scenes`: whole images at the test scale, with masks of the images' own
    sizes. Prediction batches are :class:`UnlabeledScenes`. Images are sharded across ranks: training images in an order
    that depends only on the run's seed and the epoch, evaluation images each once.

    Args:
        root: The data folder; for prediction, one or several folders of images, image files, patterns or manifests.
            ``scenes`` stands for the embedded scenes (write ``./scenes`` for a folder of that name).
        crop_size: Side of the training crops in pixels, or their height and width: ``[H, W]``; ``auto``: the training
            images' median shorter side, rounded down to a multiple of 32, at most 512.
        scale: Longer and shorter side in pixels that evaluated images are resized to fit, with their ratio kept, such
            as ``[2048, 512]``; random resizing in training is relative to it. ``None``: images keep their size.
        in_chans: Channels C of the images: 3 for RGB, 1 for grayscale, 4 for RGBA, or any number of channels of TIFF
            files or NumPy arrays.
        batch_size: Images per batch and device; ``auto`` derives it from the number of training images.
        global_batch_size: Images per optimizer step over all devices and nodes; the trainer accumulates batches to
            match. ``None``: one batch per device, or ``trainer.accumulate_grad_batches`` batches.
        num_workers: Loader processes; ``None``: the cores available to this process, at most 8.
        augmentation: Random augmentation in training: ``none``, ``light``, ``strong``, ``mmseg`` (the pipeline of
            mmsegmentation), or single keys of :class:`SegmentationAugmentation`.
        class_names: The class names in index order, such as a checkpoint's; ``None``: those of the data.
        masks: How masks are stored.
        split: What to hold back without a validation split, folds, and few-shot subsets.
        input: How images are normalized for the model.
        bad_images: What to do about images that cannot be read.

    Raises:
        UserError: If a value is out of its range.
    """

    def __init__(
        self,
        root: str | list[str] | None = None,
        crop_size: CropSize = 512,
        scale: list[int] | None = None,
        in_chans: int = 3,
        batch_size: int | Literal["auto"] = 16,
        global_batch_size: int | None = None,
        num_workers: int | None = None,
        augmentation: SegmentationLevel | SegmentationAugmentation = "light",
        class_names: ClassNames | list[str] | None = None,
        masks: MaskOptions = MaskOptions(),
        split: SplitRules = SplitRules(),
        input: InputOptions = InputOptions(),
        bad_images: BadImageOptions = BadImageOptions(),
    ) -> None:
        preprocessing = scene_format(crop_size, scale, in_chans, input)
        size = _BATCH_SIZE if batch_size == "auto" else batch_size
        super().__init__(preprocessing, size, global_batch_size, num_workers, bad_images)
        self.augmentation = augmentation_of(augmentation)
        names = None if class_names is None else list(class_names)
        is_mapping = names is None or (len(names) > 1 and are_names(names))
        check("class_names", names, is_mapping, "two names or more, each once, and none empty")
        split.warn_of_unused()
        self.images = SceneRoot(
            root,
            in_chans,
            given_classes=names,
            masks=masks,
            max_pixels=bad_images.max_pixels,
            apply_exif=input.exif == "apply",
        )
        self.rules = split
        self._derive_batch_size = batch_size == "auto"
        self._derive_crop = crop_size == "auto"
        self._has_statistics = input.has_statistics
        self._scanned: set[str] = set()
        self._trained_on, self._held_back = cast(str | None, None), cast(Fingerprint | None, None)
        self._own = True  # whether evaluation uses the images that this data module would train on

    @property
    def classes(self) -> list[str]:
        """The class names in index order; unless they were given, raises UserError if the masks are unclear."""
        return self.images.classes

    @property
    def num_classes(self) -> int:
        """The number of classes; raises like :attr:`classes`."""
        return len(self.classes)

    @property
    def data_spec(self) -> DataSpec:
        """The classes, their colors, and the input that the model depends on; raises like :attr:`classes`."""
        if self._derive_crop:  # before the model is built, which keeps its size
            self._settle_crop(self.rules.training(self.images.source, self.images.given_classes)[0])
        return DataSpec(self.classes, self.num_classes, False, self.preprocessing, self.images.palette)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that training depends on, as plain data under the arguments' names."""
        preprocessing = dict(self.preprocessing)
        return {
            "root": self.images.absolute,
            "batch_size": self.batch_size,
            "global_batch_size": self.global_batch_size,
            "masks": asdict(self.images.masks),
            "split": asdict(self.rules),
            "augmentation": asdict(self.augmentation),
            "crop_size": preprocessing.pop("image_size"),
            "scale": preprocessing.pop("scale", None),
            "input": preprocessing,
        }

    def prepare_data(self) -> None:
        """Compose the embedded scenes if they are used."""
        self.images.prepare()

    def setup(self, stage: str) -> None:
        """Look at the images and masks of a stage, once: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            UserError: If the folder does not contain what the stage needs, or something must be corrected.
        """
        if stage in self._scanned:
            return
        evaluation = TestScale(self.preprocessing, self.bad_images.max_pixels)
        if stage == "predict":
            self.predict_set = PredictedScenes(self.images.to_label(), evaluation)
            self._check_arrays(self.predict_set.paths)
        elif stage == "fit":
            train, val = self._training_samples()
            transform = TrainingCrop(self.augmentation, self.preprocessing, self.bad_images.max_pixels)
            masks, scheme = self.images.source.masks(train.paths), self.images.source.scheme
            self.train_set = TrainingScenes(train, masks, scheme, transform, self.bad_images.max_pixels)
            self.train_set.skip = self.skipped if self.bad_images.skips else None
            self.val_set = self._evaluated(val, evaluation)
            if self._derive_batch_size:
                self.batch_size = min(_LARGEST_AUTO, default_batch_size(len(train)))
            self._plan_steps()
        elif stage in ("validate", "test"):
            choose = self.rules.validation if stage == "validate" else self.rules.test
            samples = choose(self.images.source, self.images.given_classes, own=self._own)
            self._check_arrays(samples.paths)
            if stage == "validate":
                self.val_set = self._evaluated(self._readable(Samples.of([]), samples)[1], evaluation)
            else:
                self.test_set = self._evaluated(samples, evaluation)
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
        self._own = rules is not None
        self._held_back = images.get("val")
        self.rules = rules or self.rules

    def describe(self, stage: str) -> list[str]:
        """Describe the source and number of a stage's images, and how masks are read, one line each.

        Args:
            stage: A stage that was set up.
        """
        if stage == "predict":
            return describe_junk(self.images.ignored)
        source = self.images.source
        held_back = stage != "test" and self.holds_back
        if stage == "fit":
            train, val = self.train_set.samples, self.val_set.samples
            text = describe_training(source, self.rules, train, val, held_back=held_back)
        else:
            split: Literal["val", "test"] = "val" if stage == "validate" else "test"
            samples = (self.val_set if split == "val" else self.test_set).samples
            changed = held_back and self._held_back not in (None, self.images.fingerprint(samples))
            text = describe_evaluation(source, split, samples, held_back=held_back, changed=changed)
            if not self._own and self._trained_on is not None:
                text += f" (the checkpoint was trained on {self._trained_on})"
        return [f"Images:     {text}", *(f"Masks:      {note}" for note in source.notes), *describe_rest(source)]

    def fingerprint(self) -> dict[str, Fingerprint]:
        """Return the fingerprints of the training and validation images; requires the stage ``fit`` to be set up."""
        sets = {"train": self.train_set.samples, "val": self.val_set.samples}
        return {name: self.images.fingerprint(samples) for name, samples in sets.items()}

    @property
    def holds_back(self) -> bool:
        """Whether the validation images are held back from the training split."""
        return self._own and self.rules.hold_back(self.images.source, self.images.given_classes)

    def class_pixels(self) -> list[dict[int, int]]:
        """Return the labeled pixels of each class in each training image; requires the stage ``fit`` to be set up."""
        return self.images.source.pixels(self.train_set.samples.paths)

    def _training_samples(self) -> Split:
        """Return the training and validation samples, after checking them for problems that would ruin a run."""
        train, val = self.rules.training(self.images.source, self.images.given_classes)
        warn_of_twins(self.classes)
        if not self.bad_images.skips:
            check_headers(train.paths + val.paths, self.bad_images.max_pixels)
        self._check_arrays(train.paths + val.paths)
        check_split(train, val, self.classes, self.images.source.place("train"))
        self._settle_crop(train)
        return self._readable(train, val)

    def _settle_crop(self, train: Samples) -> None:
        """Derive the size of the training crops from the images, or check the given one."""
        sizes = self.images.source.sizes(train.paths)
        if self._derive_crop:
            self.preprocessing["image_size"] = auto_crop(sizes, self.preprocessing.get("scale"))
        else:
            check_crop(sizes, self.preprocessing)

    def _readable(self, train: Samples, val: Samples) -> Split:
        if not self.bad_images.skips:
            return train, val
        load = reader(self.preprocessing, self.bad_images.max_pixels)
        return hold_back_readable(train, val, load, may_move=self.holds_back)

    def _check_arrays(self, paths: PackedStrings) -> None:
        check_arrays(paths, self.preprocessing, self.bad_images.max_pixels, has_statistics=self._has_statistics)

    def _evaluated(self, samples: Samples, transform: TestScale) -> EvaluatedScenes:
        source = self.images.source
        masks = source.masks(samples.paths)
        return EvaluatedScenes(samples, masks, source.scheme, transform, self.bad_images.max_pixels)
