"""The images of ``data.root``: a data set to train on and evaluate, or images to classify."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.embedded import SAMPLE, data_folder, unpack_sample
from inceptionnext_lit.data.sources.fingerprint import Fingerprint, fingerprint
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.data.sources.prepared import prepared_root
from inceptionnext_lit.data.sources.real_labels import RealLabelSource
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.splits import Source, open_source
from inceptionnext_lit.errors import UserError


@dataclass
class ImageRoot:
    """A folder or a manifest as a data set, or the names of images to classify.

    Attributes:
        named: The given value; see :class:`ImageFolderDataModule`.
        in_chans: Number of channels, which determines the supported files.
        multi_label: Whether an image may have several labels.
        columns: Names of a manifest's columns.
        given_classes: The class names in index order, if given.
        real_labels: The file of ReaL labels, by which ImageNet's validation images are labeled, if given.
        ignored: Number of images to classify that were skipped, by their folder.
    """

    named: str | list[str] | None
    in_chans: int = 3
    multi_label: bool = False
    columns: ColumnNames = ColumnNames()
    given_classes: list[str] | None = None
    real_labels: str | None = None
    ignored: Counter[str] = field(default_factory=Counter)

    def prepare(self) -> None:
        """Unpack the embedded images if they are used."""
        if self.named == SAMPLE:
            unpack_sample()

    @property
    def absolute(self) -> str | list[str] | None:
        """The given value; a single path is made absolute."""
        if isinstance(self.named, str) and self.named != SAMPLE:
            return os.path.abspath(os.path.expanduser(self.named))
        return self.named

    @property
    def folder(self) -> Path:
        """The given folder or manifest.

        Raises:
            UserError: If none or several were given.
        """
        if self.named is None:
            raise UserError("No images were named. Give a folder with --data.root, or --data.root sample.")
        if isinstance(self.named, list):
            raise UserError(f"data.root names {', '.join(self.named)}; name one data folder.")
        return data_folder(self.named)

    def locate(self, named: str) -> Path:
        """Return the folder of another value of ``data.root``, such as that of a checkpoint's run.

        Args:
            named: The value.
        """
        return data_folder(named)

    @cached_property
    def source(self) -> Source:
        """The data set; folders are listed when a split is requested.

        Raises:
            UserError: If it is neither a folder nor a manifest, or is invalid.
        """
        if self.real_labels is not None:
            return RealLabelSource(self.folder, self.real_labels, image_suffixes(self.in_chans), self.columns)
        source = open_source(
            self.folder,
            multi_label=self.multi_label,
            suffixes=image_suffixes(self.in_chans),
            columns=self.columns,
            classes=self.given_classes,
        )
        for note in source.notes:
            rank_zero_info(note)
        return source

    @property
    def classes(self) -> list[str]:
        """The class names in index order; lists folders unless they were given."""
        return self.source.classes() if self.given_classes is None else list(self.given_classes)

    def fingerprint(self, samples: Samples) -> Fingerprint:
        """Return the fingerprint of some of the data set's images."""
        folder = self.folder
        return fingerprint(samples, str(folder if folder.is_dir() else folder.parent), self.classes)

    def to_label(self) -> Sequence[str]:
        """Return the paths of the images to classify, and count skipped ones in :attr:`ignored`.

        Raises:
            UserError: If a name does not match any image.
        """
        inputs = self.named if isinstance(self.named, list) else [str(self.folder)]
        named = [str(data_folder(name)) if name in ("", SAMPLE) else str(prepared_root(Path(name))) for name in inputs]
        suffixes = image_suffixes(self.in_chans)
        return resolve_inputs(named, suffixes, self.columns, note=rank_zero_info, ignored=self.ignored)
