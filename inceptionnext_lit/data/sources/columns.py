"""Identify the columns of a manifest by their usual names in various tools."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.errors import UserError

Role = Literal["path", "label", "split", "weight", "group"]
Roles = dict[Role, int]
"""The position of each used column."""

COLUMNS_MEANT = "A manifest has the columns path and label, and may have split, weight and group."
# Names without case, spaces and punctuation. If a table has several of them, the earliest group wins.
_SYNONYMS: dict[Role, tuple[tuple[str, ...], ...]] = {
    "path": (
        ("path",),
        (
            *("filepath", "filename", "file", "image", "img", "imagepath", "imgpath", "imagefile", "imgfile"),
            *("imagename", "imgname", "images", "files", "paths", "photo", "picture", "relpath", "relativepath"),
        ),
        ("imageid", "imgid", "idcode", "id", "fileid"),
    ),
    "label": (
        ("label",),
        ("labels", "class", "classname", "category", "categoryname", "labelname", "target", "targets", "classes"),
        ("classid", "labelid", "categoryid", "targetid", "classindex", "labelindex"),
    ),
    "split": (("split",), ("splits", "splitname", "datasplit")),
    "weight": (("weight",), ("weights", "sampleweight")),
    "group": (("group",), ("groups", "groupid", "groupname")),
}
_OFTEN_SPLITS = frozenset({"subset", "partition", "set", "dataset", "phase", "usage", "stage", "part", "fold", "mode"})
_NOT_MISSPELLED = frozenset({"height"})  # similar to weight
_IMAGE_NAME = re.compile(r".+\.(jpe?g|png|tiff?|bmp|webp|gif|npy)", re.IGNORECASE)


@dataclass(frozen=True)
class ColumnNames:
    """Names of a manifest's columns that differ from the usual ones.

    Attributes:
        path_column: The column of images, if its name is not ``path``, ``filename``, ``image_id`` or similar.
        label_column: The column of labels, if its name is not ``label``, ``class``, ``category``, ``target`` or
            similar.
    """

    path_column: str | None = None
    label_column: str | None = None


def plain_name(name: str) -> str:
    """Return a column's name without case, spaces and punctuation: ``Image_ID`` becomes ``imageid``."""
    return re.sub(r"[\W_]+", "", name.casefold())


def often_splits(name: str) -> bool:
    """Return whether a column of this name often contains the split, but may mean something else."""
    return plain_name(name) in _OFTEN_SPLITS


def known_names(names: Sequence[str], given: ColumnNames) -> int:
    """Count the columns of a table with known names, including the given ones."""
    known = {name for ranks in _SYNONYMS.values() for rank in ranks for name in rank}
    known |= {plain_name(name) for name in (given.path_column, given.label_column) if name is not None}
    return sum(plain_name(name) in known for name in names)


def find_columns(path: Path, names: Sequence[str], given: ColumnNames, needed: Sequence[Role]) -> Roles:
    """Find the columns to use.

    Args:
        path: The table, for messages.
        names: The names of its columns.
        given: Unusual names of columns.
        needed: The required columns.

    Raises:
        UserError: If a column is missing, ambiguous, or an optional one looks misspelled.
    """
    roles: Roles = {}
    for role in _SYNONYMS:
        wanted = getattr(given, f"{role}_column", None) if role in needed else None
        found = _synonym(path, names, role) if wanted is None else _named(path, names, role, wanted)
        if found is not None:
            roles[role] = found
    if missing := [role for role in needed if role not in roles]:
        if any(_IMAGE_NAME.fullmatch(name) for name in names):
            raise UserError(
                f"The first row of {path} names an image ({', '.join(names[:3])}); add a row with the names of the "
                "columns above it, such as path,label."
            )
        keys = " and ".join(f"--data.manifest.{role}_column" for role in missing)
        raise UserError(
            f"The manifest {path} has no column {' and no column '.join(missing)} (it has {enumerate_names(names)}). "
            f"{COLUMNS_MEANT} Set other names with {keys}."
        )
    if "path" in roles and roles["path"] == roles.get("label"):
        raise UserError(f"The column {names[roles['path']]!r} of {path} cannot be both the path and the label.")
    _check_spelling(path, names, roles)
    return roles


def describe_columns(path: Path, names: Sequence[str], roles: Roles) -> tuple[str, ...]:
    """Describe the columns used, in a sentence; empty if they have the standard names and all are used."""
    renamed = [f"{role} from {names[place]!r}" for role, place in roles.items() if names[place] != role]
    unused = [name for place, name in enumerate(names) if name and place not in roles.values()]
    parts = [*renamed, *([f"not used: {enumerate_names(unused)}"] if unused else [])]
    return (f"Columns of {path}: {'; '.join(parts)}.",) if parts else ()


def _named(path: Path, names: Sequence[str], role: Role, wanted: str) -> int:
    places = [place for place, name in enumerate(names) if name == wanted.strip()]
    places = places or [place for place, name in enumerate(names) if plain_name(name) == plain_name(wanted)]
    if not places:
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {enumerate_names(names)}."
        raise UserError(f"The manifest {path} has no column {wanted!r} (data.manifest.{role}_column); {hint}")
    return _single(path, names, role, places)


def _synonym(path: Path, names: Sequence[str], role: Role) -> int | None:
    for rank in _SYNONYMS[role]:
        if places := [place for place, name in enumerate(names) if plain_name(name) in rank]:
            exact = [place for place in places if names[place] == role]
            return _single(path, names, role, exact or places)
    return None


def _single(path: Path, names: Sequence[str], role: Role, places: list[int]) -> int:
    if len(places) == 1:
        return places[0]
    found = [names[place] for place in places]
    if len(set(found)) == 1:
        raise UserError(f"The manifest {path} has {len(found)} columns {found[0]!r}; rename or remove all but one.")
    way_out = (
        f"name it with --data.manifest.{role}_column" if role in ("path", "label") else "rename or remove the others"
    )
    raise UserError(f"The columns {' and '.join(map(repr, found))} of {path} could each be the {role}; {way_out}.")


def _check_spelling(path: Path, names: Sequence[str], roles: Roles) -> None:
    """Refuse a column that looks like a misspelled optional one: ignoring it silently would change the training."""
    optional = [role for role in ("split", "weight", "group") if role not in roles]
    for place, name in enumerate(names):
        plain = plain_name(name)
        if place in roles.values() or plain in _NOT_MISSPELLED or plain != re.sub(r"\d", "", plain):
            continue
        near = difflib.get_close_matches(plain, optional, n=1, cutoff=0.8)
        if near and abs(len(plain) - len(near[0])) <= 1:
            raise UserError(
                f"The manifest {path} has the column {name!r}; did you mean {near[0]}? Rename it, or remove it if it "
                "means something else."
            )
