"""Find a data set's files in what was downloaded, unpacking archives where needed."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inceptionnext_lit.data.public import DATASETS, PublicDataset
from inceptionnext_lit.data.sources.files import is_skipped
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.layout import Archive, Layout
from inceptionnext_lit.prepare.layouts import layout_of, names
from inceptionnext_lit.prepare.unpacking import gunzip, is_archive, unpack
from inceptionnext_lit.wording import listed, printable

_VIEW = ".view"
_MOST_FOLDERS = 500  # folders of a source that are searched


@dataclass(frozen=True)
class Place:
    """Where torchvision's class finds a data set.

    Attributes:
        root: The root for the class.
        links: Links below the root, and what they stand for.
    """

    root: Path
    links: dict[str, str]

    def actual(self, path: str) -> str:
        """Return the path of a file without our links."""
        for link, target in self.links.items():
            if path == link or path.startswith(link + os.sep):
                return target + path[len(link) :]
        return path


@contextlib.contextmanager
def located(row: PublicDataset, source: Path, staging: Path) -> Iterator[Place]:
    """Find a data set in a folder of downloads, in any of its usual layouts.

    Args:
        row: The data set.
        source: The folder, or one of the archives in it; nothing in it is changed.
        staging: Where archives are unpacked.

    Yields:
        Where torchvision's class finds it.

    Raises:
        UserError: If the folder does not contain it, or only a part of it.
    """
    if not source.exists():
        raise UserError(f"The source {source} does not exist; name the folder with what was downloaded.")
    source = (source if source.is_dir() else source.parent).absolute()
    layout = layout_of(row.name)
    items = _find(layout, source, staging)
    if missing := [item for item in layout.tree if item not in items]:
        raise UserError(_refusal(row, layout, source, missing, len(items)))
    items = {item: _plain(item, found, layout, staging) for item, found in items.items()}
    if (root := _own_root(layout, items)) is not None:
        yield Place(root, {})
        return
    view = staging / _VIEW
    shutil.rmtree(view, ignore_errors=True)
    links = {}
    for item, found in items.items():
        link = view / layout.base / item
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(found)
        links[str(link)] = str(found)
    try:
        yield Place(view, links)
    finally:
        shutil.rmtree(view, ignore_errors=True)


def _find(layout: Layout, source: Path, staging: Path) -> dict[str, Path]:
    """Find the items of a layout's tree; unpacks archives if some are missing."""
    places = _places(source, layout.base)
    items = _items(layout, places)
    unpacked: set[str] = set()
    for _ in range(2):  # some archives contain archives
        if len(items) == len(layout.tree):
            break
        found = _archives(layout, places, unpacked)
        if not found:
            break
        for archive, path in found:
            unpack(path, archive, staging)
            unpacked.add(archive.name)
        places = [*places, *_places(staging, layout.base)]
        items = _items(layout, places)
    return items


def _places(source: Path, base: str) -> list[Path]:
    """Return the folders to search: the source, folders in it, and the layout's base in them, best first."""
    if not source.is_dir():
        return []
    folders = [source, *_below(source)]
    parts = base.split("/")
    tails = ["/".join(parts[start:]) for start in range(len(parts))] if base else []
    found = [folder / tail for folder in folders for tail in tails if (folder / tail).is_dir()]
    return [*found, *(below for folder in found for below in _below(folder)), *folders]


def _below(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        found = sorted(Path(entry.path) for entry in entries if not is_skipped(entry.name) and entry.is_dir())
    return found[:_MOST_FOLDERS]


def _items(layout: Layout, places: Sequence[Path]) -> dict[str, Path]:
    """Return the items that exist, all from one folder if possible."""
    best: dict[str, Path] = {}
    for place in places:
        found = {item: path for item in layout.tree if (path := _item(layout, item, place)) is not None}
        if len(found) == len(layout.tree):
            return found
        best = {**found, **best}
    return best


def _item(layout: Layout, item: str, place: Path) -> Path | None:
    for name in (item, *layout.other_names.get(item, ())):
        if (place / name).exists() and not (place / name / name.rpartition("/")[2]).is_dir():
            return place / name
        if layout.may_be_gzipped and (place / f"{name}.gz").is_file():
            return place / f"{name}.gz"
    return None


def _archives(layout: Layout, places: Sequence[Path], unpacked: Collection[str]) -> list[tuple[Archive, Path]]:
    """Return the archives to unpack: of the first set of which all exist, or else those that exist."""
    found: list[tuple[Archive, Path]] = []
    for archives in layout.archives:
        paths = {
            archive: path
            for archive in archives
            if archive.name not in unpacked
            for place in reversed(places)
            for name in (archive.name, *archive.other_names)
            if (path := place / name).is_file()
        }
        if paths and len(paths) == len(archives):
            return [(archive, path) for archive, path in paths.items() if is_archive(path)]
        found += [(archive, path) for archive, path in paths.items() if is_archive(path)]
    return found


def _plain(item: str, found: Path, layout: Layout, staging: Path) -> Path:
    """Return a file of the tree, decompressed if needed."""
    if found.suffix != ".gz":
        return found
    target = staging / layout.base / item
    gunzip(found, target)
    return target


def _own_root(layout: Layout, items: dict[str, Path]) -> Path | None:
    """Return the root for torchvision's class if all items are in their places below it; None otherwise."""
    first = layout.tree[0]
    tail = Path(layout.base, first).parts
    root = Path(*items[first].parts[: -len(tail)])
    in_place = all(found == root / layout.base / item for item, found in items.items())
    return root if in_place else None


def _refusal(row: PublicDataset, layout: Layout, source: Path, missing: Sequence[str], found: int) -> str:
    need = f"{source} is not {row.title}: expected {layout.expected}"
    if found:
        return (
            f"{source} has only a part of {row.title}: {listed(missing)} missing. Expected {layout.expected}, from "
            f"{layout.web}."
        )
    others = [name for name in names() if name != row.name and _is_complete(layout_of(name), source)]
    if len(others) == 1:  # MNIST and others have files of the same names
        return f"{source} is {DATASETS[others[0]].title}, not {row.title}: expected {layout.expected}."
    entries = sorted(entry for entry in os.listdir(source) if not is_skipped(entry))
    content = f"found {printable(listed(entries))}" if entries else "found nothing"
    return f"{need}, from {layout.web}; {content}."


def _is_complete(layout: Layout, source: Path) -> bool:
    places = _places(source, layout.base)
    has_archives = any(
        all(any((place / archive.name).is_file() for place in places) for archive in archives)
        for archives in layout.archives
    )
    return has_archives or len(_items(layout, places)) == len(layout.tree)
