"""ImageNet-1k in Parquet, as Hugging Face has it: shards of rows with an image's bytes and file name, and a label."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from inceptionnext_lit.data.sources.imagenet_names import SHARD, OfficialName, official_name
from inceptionnext_lit.data.sources.split_names import split_named
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet.folders import val_numbers
from inceptionnext_lit.prepare.imagenet.source import Part, Source, Split, SplitName, Wanted
from inceptionnext_lit.prepare.imagenet.target import Target
from inceptionnext_lit.wording import count, first_line, listed, printable

_ROWS = 64  # held in memory at a time
_DEPTH = 4  # of folders; the hub's cache has snapshots/COMMIT/data


def find_shards(root: Path) -> list[Path]:
    """Return the Parquet files with the names of shards in a folder, down to that of the hub's cache."""
    found = []
    for folder, folders, names in os.walk(root, followlinks=False):
        if len(Path(folder).relative_to(root).parts) >= _DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if SHARD.fullmatch(name)]
    return found


def open_parquet(root: Path, shards: list[Path], wanted: Wanted) -> Source:
    """Return what the shards contain; their names and labels are read, not their images.

    Args:
        root: The folder, for messages.
        shards: What :func:`find_shards` returns.
        wanted: What to take.

    Raises:
        UserError: If shards are missing, broken or of another data set, or pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"Reading {shards[0]} needs a package that is not installed: pip install pyarrow.")
    by_split = _by_split(root, shards)
    rows = _Rows()
    splits: dict[SplitName, Split] = {}
    for split, paths in by_split.items():
        names: dict[str, list[str]] = {}
        for path in paths:
            for official in rows.read(path, split):
                names.setdefault(str(official.wnid), []).append(official.name)
        wanted.check_known(names, root)
        kept = {wnid: found for wnid, found in names.items() if wnid in set(wanted.classes)}
        chosen = frozenset(name for found in kept.values() for name in wanted.choose(split, found))
        every = len(chosen) == sum(map(len, names.values()))
        parts = [
            Part(
                f"{split}/{path.name}",
                partial(_write, path=path, split=split, chosen=None if every else chosen),
                path.stat().st_size if every else 0,
            )
            for path in paths
        ]
        counts: dict[str, int | None] = {wnid: len(found) for wnid, found in kept.items()}
        numbers = val_numbers({name for found in names.values() for name in found})
        splits[split] = Split(parts, counts, frozenset(numbers))
    return Source(f"Hugging Face's Parquet files in {root.absolute()}", splits["train"], splits["val"])


def _by_split(root: Path, shards: list[Path]) -> dict[SplitName, list[Path]]:
    """Sort the shards by split and number, and check that all are there."""
    numbered: dict[tuple[str, int], dict[int, Path]] = {}
    for path in shards:
        found = SHARD.fullmatch(path.name)
        split = None if found is None else split_named(found["split"])
        if found is None or split is None or split == "test":  # the test images have no labels
            continue
        same = numbered.setdefault((split, int(found["total"])), {})
        first = same.setdefault(int(found["number"]), path)
        if first != path:
            raise UserError(f"{first} and {path} are the same shard; remove one, or name the folder of one download.")
    result: dict[SplitName, list[Path]] = {}
    words: dict[SplitName, str] = {"train": "train", "val": "validation"}
    for split, word in words.items():
        totals = [total for name, total in numbered if name == split]
        if len(totals) != 1:
            what = f"shards of {totals[0]} and of {totals[1]} files" if totals else "no shards"
            raise UserError(
                f"{root} has {what} of the split {word}; download {word}-*.parquet of ILSVRC/imagenet-1k into one "
                "folder."
            )
        total, there = totals[0], numbered[split, totals[0]]
        missing = [f"{word}-{number:05}-of-{total:05}.parquet" for number in range(total) if number not in there]
        if missing:
            raise UserError(
                f"{root} lacks {len(missing)} of {count(total, 'shard')} of the split {word}: {listed(missing, 10)}. "
                "Download what is missing, then give the same command again."
            )
        result[split] = [there[number] for number in sorted(there)]
    return result


@dataclass
class _Rows:
    """Reads names and labels, and checks that they agree."""

    labels: dict[int, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path, split: SplitName) -> Iterator[OfficialName]:
        """Yield the official name and class of each row of a shard."""
        with _opened(path) as file:
            for batch in file.iter_batches(4096, columns=["image.path", "label"]):
                for image, label in zip(batch["image"].to_pylist(), batch["label"].to_pylist(), strict=True):
                    name = (image or {}).get("path")
                    official = official_name(os.path.basename(name)) if name else None
                    if official is None or official.wnid is None:
                        raise _foreign(path, f"a row's image.path is {printable(str(name))}")
                    if self.labels.setdefault(label, official.wnid) != official.wnid:
                        raise _foreign(path, f"{name} has the label of {self.labels[label]}")
                    if official.name in self.seen:
                        first = self.seen[official.name]
                        raise UserError(f"{official.name} is in {first} and again in {path}; download them again.")
                    self.seen[official.name] = path.name
                    yield official


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a shard, and explain the errors of a damaged one."""
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = {file.schema.column(place).path for place in range(len(file.schema))}
            if not {"image.bytes", "image.path", "label"} <= columns:
                raise _foreign(path, f"its columns are {listed(sorted(columns))}")
            yield file
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of this machine; pyarrow's have none
            raise
        raise UserError(
            f"{path} is broken or not completely downloaded ({first_line(error)}); download it again, then give the "
            "same command again."
        ) from error


def _foreign(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is not of ILSVRC/imagenet-1k as Hugging Face has it: {reason}. Its rows have image.bytes, image.path "
        "such as n01440764_10026_n01440764.JPEG, and label."
    )


def _write(target: Target, path: Path, split: SplitName, chosen: frozenset[str] | None) -> None:
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            names = [
                official_name(os.path.basename(image["path"]))
                for image in file.read_row_group(group, columns=["image.path"])["image"].to_pylist()
            ]
            if chosen is not None and not any(name is not None and name.name in chosen for name in names):
                continue
            place = 0
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=["image.bytes"]):
                for image in batch["image"]:
                    official = names[place]
                    place += 1
                    if official is None or (chosen is not None and official.name not in chosen):
                        continue
                    content = image["bytes"].as_py()
                    if not content:
                        raise _foreign(path, f"{official.name} has no bytes")
                    where = f"{split}/{official.wnid}/{official.name}"
                    if not target.has(where, len(content)):
                        target.put_bytes(where, content)
