"""Check that a data module has the classes of a task and prepares images as the task expects."""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from numbers import Real
from typing import Any, Protocol, cast

from lightning.pytorch.utilities import rank_zero_warn

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing, are_of_bytes, height_and_width
from inceptionnext_lit.wording import count, listed

_DEFAULTS = {"crop_mode": "center", "exif": "apply"}


class Described(Protocol):
    """A task with the properties of its data."""

    data_spec: DataSpec


def check_data(task: Described, data: Any, stage: str, *, only_in_training: Collection[str] = ()) -> None:
    """Compare a task with the data module that it is used with; another one than this package's is not checked.

    Args:
        task: The task.
        data: The data module, set up for the stage; None if there is none.
        stage: ``fit``, ``validate``, ``test`` or ``predict``. Except in ``fit``, images may be prepared in another way,
            such as at another size, which a warning describes.
        only_in_training: Keys of the preprocessing that have no effect in evaluation.

    Raises:
        UserError: If the classes differ, or in training the preprocessing.
    """
    own = task.data_spec
    if stage != "predict" and isinstance(given := getattr(data, "data_spec", None), DataSpec):
        _check_classes(own, given)
    prepared = getattr(data, "preprocessing", None)
    if own.preprocessing is None:
        return
    if not isinstance(prepared, Mapping) or not Preprocessing.__required_keys__ <= prepared.keys():  # not ours
        mean, std = own.preprocessing["mean"], own.preprocessing["std"]
        if stage == "fit" and are_of_bytes(mean, std):
            rank_zero_warn(f"The task's mean is {mean} and its std {std}, but pixels are 0 to 1; divide them by 255.")
        return
    changes = _differences(own.preprocessing, cast(Preprocessing, prepared))
    # photos are rotated upright for prediction, whatever training did
    unused = {*(only_in_training if stage != "fit" else ()), *(("exif",) if stage == "predict" else ())}
    changes = [change for change in changes if change[0] not in unused]
    if changes and stage == "fit":
        raise UserError(
            f"The task expects images with {'; '.join(f'{key} {before}' for key, before, _ in changes)}, but the data "
            f"module prepares them with {'; '.join(f'{key} {now}' for key, _, now in changes)}. Create the task with "
            "data_spec=data.data_spec."
        )
    if changes:
        listed_changes = ", ".join(f"{key} {now} instead of {before}" for key, before, now in changes)
        rank_zero_warn(f"The images are prepared in another way than in training: {listed_changes}.")


def _check_classes(own: DataSpec, given: DataSpec) -> None:
    if own.multi_label != given.multi_label:
        kinds = ["several labels" if spec.multi_label else "one label" for spec in (own, given)]
        raise UserError(f"The task expects {kinds[0]} per image, and the data module has {kinds[1]}.")
    unnamed = DataSpec(num_classes=len(own.names)).names
    if own.names == given.names or (len(own.names) == len(given.names) and unnamed in (own.names, given.names)):
        return
    order = " in another order" if sorted(own.names) == sorted(given.names) else ""
    raise UserError(
        f"The task has {_classes(own.names)}, and the data module {_classes(given.names)}{order}. To train, create the "
        "task with data_spec=data.data_spec; to evaluate, create the data module with class_names=task.class_names."
    )


def _classes(names: Sequence[str]) -> str:
    return f"{count(len(names), 'class', 'classes')} ({listed(names, limit=5)})"


def _differences(own: Preprocessing, given: Preprocessing) -> list[tuple[str, str, str]]:
    """Return the keys whose values differ, with both values."""
    ours, theirs = ({**_DEFAULTS, **one, "image_size": list(height_and_width(one))} for one in (own, given))
    keys = [key for key in Preprocessing.__annotations__ if not _same(ours.get(key), theirs.get(key))]
    return [(key, str(own.get(key, _DEFAULTS.get(key))), str(given.get(key, _DEFAULTS.get(key)))) for key in keys]


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    values = [value if isinstance(value, list | tuple) else [value] for value in (one, other)]
    if len(values[0]) != len(values[1]) or not all(isinstance(value, Real) for value in chain(*values)):
        return False
    return all(
        math.isclose(a, b, rel_tol=1e-6) or (math.isnan(a) and math.isnan(b)) for a, b in zip(*values, strict=True)
    )
