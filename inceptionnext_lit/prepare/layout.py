"""The form of a data set on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Archive:
    """A downloaded file.

    Attributes:
        name: Its name.
        md5: Its checksum; None if it has none.
        into: The folder that it is extracted into, relative to the root of torchvision's class.
        other_names: Names that torchvision or other programs give it.
    """

    name: str
    md5: str | None = None
    into: str = ""
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A data set on disk.

    Attributes:
        base: The folder of the files, relative to the root of torchvision's class.
        tree: The files and folders in ``base`` that must exist.
        web: Where the archives can be fetched.
        archives: Sets of archives that contain the tree; one set is enough.
        other_names: Names that items of the tree have in other distributions, such as Kaggle's.
        may_be_gzipped: Whether each file of the tree may be gzipped.
        packages: Packages that reading it needs.
        download_packages: Packages that downloading it needs.
        is_arrays: Whether the images are stored as arrays.
        can_download: Whether torchvision can download it.
    """

    base: str
    tree: tuple[str, ...]
    web: str
    archives: tuple[tuple[Archive, ...], ...] = ()
    other_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may_be_gzipped: bool = False
    packages: tuple[str, ...] = ()
    download_packages: tuple[str, ...] = ()
    is_arrays: bool = False
    can_download: bool = True

    @property
    def downloads(self) -> str:
        """What must be downloaded, for messages."""
        names = [archive.name for archive in self.archives[0]] if self.archives else self.tree
        suffix = ".gz" if self.may_be_gzipped and not self.archives else ""
        return ", ".join(f"{name}{suffix}" for name in names)

    @property
    def expected(self) -> str:
        """What a source must contain, for messages."""
        alternatives = [" with ".join(archive.name for archive in archives) for archives in self.archives]
        files = f"{', '.join(self.tree)}{' (or each as .gz)' * self.may_be_gzipped}"
        return " or ".join([*alternatives, f"the extracted {files}" if alternatives else files])
