"""Find out whether a data set was used by a checkpoint's run, and how the run split it."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from inceptionnext_lit.data.sources.fingerprint import Fingerprint, together
from inceptionnext_lit.data.sources.folder import find_layout
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import listed


def rules_of_run(
    run: Mapping[str, Any], images: Mapping[str, Fingerprint], root: ImageRoot
) -> tuple[str | None, SplitRules | None]:
    """Return the rules by which a run held back a part of a data set.

    Warns if the run was trained on the images of some of the classes only.

    Args:
        run: The run's settings, as stored in a checkpoint.
        images: The fingerprints of its training and validation images.
        root: The data set.

    Returns:
        The location of the run's images, and the rules; None if unknown, and for the rules if the images are others.
    """
    trained_on = run.get("data.root")
    if not isinstance(trained_on, str):
        return None, None
    rules = _rules_by_place(run, root.folder, root.locate(trained_on))
    if rules is None and _has_images(root, images):
        rules = stored_rules(run)
    return trained_on, rules


def stored_rules(run: Mapping[str, Any]) -> SplitRules | None:
    """Return the rules in a run's settings; None if they are missing, as in earlier versions."""
    try:
        return SplitRules(**{field.name: run[f"data.split.{field.name}"] for field in fields(SplitRules)})
    except KeyError:
        return None


def _rules_by_place(run: Mapping[str, Any], root: Path, trained_on: Path) -> SplitRules | None:
    """Return the rules; None if ``root`` is other data, or the run did not hold back a part of it."""
    if not _places(root) & _places(trained_on) or (root != trained_on and _has_validation(trained_on)):
        return None
    return stored_rules(run)


def _has_images(root: ImageRoot, images: Mapping[str, Fingerprint]) -> bool:
    """Return whether a folder without splits has the images of a run; warn if only some classes do."""
    if not images or root.source.has_splits:
        return False
    try:
        here = root.fingerprint(root.source.everything(root.given_classes))
    except UserError:  # it has labels that the run does not have
        return False
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


def _places(root: Path) -> set[str]:
    """Return the real paths of a data set and of its training images."""
    places = {os.path.realpath(root)}
    with suppress(UserError):
        if root.is_dir() and (train := find_layout(root).train) is not None:
            places.add(os.path.realpath(train))
    return places


def _has_validation(root: Path) -> bool:
    return root.is_dir() and find_layout(root).val is not None
