"""The images of ``data.root`` with masks: a data set to train on and evaluate, or images to predict."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.masks.class_table import colormap
from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.data.sources.fingerprint import Fingerprint
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.scenes import SCENES, unpack_scenes
from inceptionnext_lit.errors import UserError

_MANY = 2000  # masks that take more than a few seconds to look at


@dataclass
class SceneRoot(ImageRoot):
    """A folder of images with masks, or the names of images to predict.

    Attributes:
        masks: How masks are stored.
        max_pixels: Maximum number of pixels of an image or a mask.
        apply_exif: Whether the EXIF orientation of images is applied.
    """

    masks: MaskOptions = MaskOptions()
    max_pixels: int = MAX_PIXELS
    apply_exif: bool = True

    def prepare(self) -> None:
        """Compose the embedded scenes if they are used."""
        if self.named == SCENES:
            unpack_scenes()

    @property
    def absolute(self) -> str | list[str] | None:
        """The given value; a single path is made absolute."""
        return SCENES if self.named == SCENES else super().absolute

    @property
    def folder(self) -> Path:
        """The given folder; see :attr:`ImageRoot.folder`."""
        if self.named == SCENES:
            return unpack_scenes()
        if self.named is None:
            raise UserError("No images were named. Give a folder with --data.root, or --data.root scenes.")
        return super().folder

    def locate(self, named: str) -> Path:
        """Return the folder of another value of ``data.root``; see :meth:`ImageRoot.locate`."""
        return unpack_scenes() if named == SCENES else super().locate(named)

    @cached_property
    def source(self) -> MaskSource:
        """The data set; masks are read when a split is requested.

        Raises:
            UserError: If it is not a folder of images with masks.
        """
        return MaskSource(
            self.folder,
            self.masks,
            self.given_classes,
            image_suffixes(self.in_chans),
            self.max_pixels,
            apply_exif=self.apply_exif,
            tick=_Progress(),
        )

    @property
    def classes(self) -> list[str]:
        """The class names in index order; reads masks unless they were given."""
        return self.source.classes() if self.given_classes is None else list(self.given_classes)

    @property
    def palette(self) -> list[list[int]]:
        """The color of each class; Pascal VOC's colormap for given classes if there are no masks, as in prediction.

        Raises:
            UserError: If no classes were given, and they cannot be derived from the data.
        """
        try:
            return [list(color) for color in self.source.scheme.palette]
        except UserError:
            if self.given_classes is None:
                raise
            return colormap(len(self.given_classes))

    def fingerprint(self, samples: Samples) -> Fingerprint:
        """Return the fingerprint of some of the images with their masks, by the classes of the masks."""
        found = super().fingerprint(samples)
        for place, digest in enumerate(self.source.digests(samples.paths)):
            for name in [self.classes[label] for label in samples.labels_of(place)] or [""]:
                count, mark = found[name]
                found[name] = count, (mark + digest) % 2**63
        return found


class _Progress:
    """Say once that looking at many files takes a while."""

    def __init__(self) -> None:
        self._read = 0

    def __call__(self, read: int) -> None:
        before, self._read = self._read, self._read + read
        if before < _MANY <= self._read and read < _MANY:  # results that were kept come all at once
            rank_zero_info("Looking at all images and masks once; the result is kept for the next run.")
