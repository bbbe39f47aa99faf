"""What ``data.root`` names: a data set to train on and evaluate, or images to label."""

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
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.splits import Source, open_source
from inceptionnext_lit.errors import UserError


@dataclass
class ImageRoot:
    """A folder or a manifest as a data set, or whatever names images to label.

    Attributes:
        named: What was named; see :class:`ImageFolderDataModule`.
        in_chans: Channels of the images, on which it depends which files are images.
        multi_label: Whether an image may have several labels.
        columns: Names of a manifest's columns.
        given_classes: The class names in index order, if they are given.
        ignored: How many images to label were left out, by the folder that they lie in.
    """

    named: str | list[str] | None
    in_chans: int = 3
    multi_label: bool = False
    columns: ColumnNames = ColumnNames()
    given_classes: list[str] | None = None
    ignored: Counter[str] = field(default_factory=Counter)

    def prepare(self) -> None:
        """Unpack the embedded images if they are named."""
        if self.named == SAMPLE:
            unpack_sample()

    @property
    def absolute(self) -> str | list[str] | None:
        """What was named; a single path in full."""
        if isinstance(self.named, str) and self.named != SAMPLE:
            return os.path.abspath(os.path.expanduser(self.named))
        return self.named

    @property
    def folder(self) -> Path:
        """The one folder or manifest that was named.

        Raises:
            UserError: If there is none, or there are several.
        """
        if self.named is None:
            raise UserError("No images were named. Give a folder with --data.root, or --data.root sample.")
        if isinstance(self.named, list):
            raise UserError(f"data.root names {', '.join(self.named)}; name one data folder.")
        return data_folder(self.named)

    @cached_property
    def source(self) -> Source:
        """The data set; folders are listed when a split is asked for.

        Raises:
            UserError: If it is neither a folder nor a manifest, or something in it is wrong.
        """
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
        """What tells some of the data set's images from others."""
        folder = self.folder
        return fingerprint(samples, str(folder if folder.is_dir() else folder.parent), self.classes)

    def to_label(self) -> Sequence[str]:
        """Paths of the images to label; those that are left out are counted in :attr:`ignored`.

        Raises:
            UserError: If a name stands for no image.
        """
        inputs = self.named if isinstance(self.named, list) else [str(self.folder)]
        named = [str(unpack_sample()) if name == SAMPLE else name for name in inputs]
        suffixes = image_suffixes(self.in_chans)
        return resolve_inputs(named, suffixes, self.columns, note=rank_zero_info, ignored=self.ignored)
