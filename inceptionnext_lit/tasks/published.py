"""What is known of published weights, or of a file of weights: classes, preprocessing and the model's arguments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import timm
from timm.data import ImageNetInfo
from timm.data.imagenet_info import infer_imagenet_subset

from inceptionnext_lit.data_spec import DataSpec, are_names
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.pretrained_input import pretrained_input
from inceptionnext_lit.models.weights import LoadReport
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.safe_load import read_metadata
from inceptionnext_lit.tasks.classification.calibration import KEY as CALIBRATION
from inceptionnext_lit.tasks.classification.calibration import StoredCalibration, read_calibration
from inceptionnext_lit.wording import count, listed

_NAMES = "--data.class_names '[NAME, …]' (class_names in Python)"


@dataclass(frozen=True)
class Published:
    """Weights that are not a checkpoint of ``fit``, described without loading them.

    Attributes:
        name: The model.
        pretrained: True for its published weights, or the file.
        spec: Classes and input; the names are None if they are unknown.
        origin: Where the preprocessing comes from.
        kwargs: The model's own arguments, if the file has any.
        calibration: Corrections of the probabilities.
    """

    name: str
    pretrained: bool | str
    spec: DataSpec
    origin: str
    kwargs: dict[str, Any] | None = None
    calibration: StoredCalibration = field(default_factory=StoredCalibration)

    def __str__(self) -> str:
        """Name the weights for messages."""
        return f"{self.name} with {'its published weights' if self.pretrained is True else self.pretrained}"

    def check(self, num_classes: int, loaded: LoadReport | None) -> None:
        """Refuse a model whose classifier is not that of the weights.

        Args:
            num_classes: The model's number of classes.
            loaded: What was loaded from the file, if it is one.

        Raises:
            UserError: If the weights have other classes, or no classifier.
        """
        if loaded is None and num_classes != self.spec.num_classes:
            raise UserError(_other_number(self.name, self.spec.num_classes or 0, num_classes))
        if loaded is not None and loaded.reinitialized:
            raise UserError(f"{self.pretrained} {_other_classifier(self.name, num_classes, loaded.classes)}")

    def check_names(self) -> None:
        """Refuse weights whose classes have no known names.

        Raises:
            UserError: If only their number is known.
        """
        if self.spec.class_names is None:
            raise UserError(
                f"Nothing says what the {self.spec.num_classes:,} outputs of {self} stand for (those of CLIP models "
                f"are features, not classes); if they are classes, name them in their order with {_NAMES}."
            )


def describe_published(
    name: str,
    pretrained: bool | str,
    class_names: Sequence[str] | None = None,
    *,
    classifier_needed: bool = True,
) -> Published:
    """Describe published weights, or the weights in a file, without loading them.

    Images are prepared as timm's ``validate.py`` does by default: at the test size and crop of the model's entry if it
    has them, and without applying EXIF orientations. A file written by ``convert`` has its own preprocessing and class
    names. Otherwise the classes are named if their number is that of ImageNet-1k, or of one of its larger sets.

    Args:
        name: Any timm model name, including this family's.
        pretrained: True for the published weights, or a file that is not a checkpoint of ``fit``.
        class_names: The names of the classes, if they are given.
        classifier_needed: Whether the weights must have a classifier; otherwise a model without one gets a single
            output.

    Raises:
        UserError: If the model is unknown, the names are not one per class, the file cannot be read, there is no
            classifier, or nothing says how images are prepared.
    """
    check_model_name(name)
    if class_names is not None and not (class_names and are_names(class_names)):
        raise UserError(
            f"data.class_names is {list(class_names)}, but must be one name per class, each once, and none empty."
        )
    stored = {} if pretrained is True else read_metadata(Path(str(pretrained)).expanduser())
    found = pretrained_input(name, pretrained, for_testing=True)
    config = timm.get_pretrained_cfg(name)
    if found is None or found.image_size is None or config is None:
        raise UserError(
            f"The weights of {name!r} do not say how their images were prepared, or in a way that is not supported; "
            "use a checkpoint of fit."
        )
    given = _json(stored, "class_names", pretrained) if class_names is None else list(class_names)
    number = int(config.num_classes or 0)
    if pretrained is not True:
        number = len(given or ()) or int(_json(stored, "num_classes", pretrained) or number)
    if number == 0 and not classifier_needed:
        number = 1
    if number == 0:
        raise UserError(_without_classifier(name))
    if given is not None and len(given) != number:
        raise UserError(_other_number(name, number, len(given)))
    if given is None and (subset := infer_imagenet_subset({"num_classes": number})) is not None:
        given = list(ImageNetInfo(subset).label_names())
    preprocessing: Preprocessing = {
        "image_size": found.image_size,
        "crop_pct": found.crop_pct,
        "interpolation": found.interpolation,
        "mean": found.mean,
        "std": found.std,
        "crop_mode": found.crop_mode,
        "exif": "ignore",
    }
    own = _json(stored, "preprocessing", pretrained)
    if isinstance(own, Mapping) and Preprocessing.__required_keys__ <= own.keys():
        preprocessing = cast(Preprocessing, dict(own))
    return Published(
        name,
        pretrained,
        DataSpec(given, number, bool(_json(stored, "multi_label", pretrained)), preprocessing),
        found.origin,
        _json(stored, "kwargs", pretrained),
        read_calibration({CALIBRATION: _json(stored, CALIBRATION, pretrained)}, number, str(pretrained)),
    )


def _json(metadata: Mapping[str, str], key: str, file: bool | str) -> Any:
    """Return a value in the metadata of a file written by ``convert``; None if it is missing."""
    text = metadata.get(key, "null")
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"The {key} in {file} is {text!r}, not JSON; use a file as convert writes it.") from error


def _without_classifier(name: str) -> str:
    others = _tagged(name)
    hint = f"use {listed(others)}" if others else "fine-tune it with fit --model.pretrained true"
    return f"The published weights of {name} have no classifier, only features; {hint}."


def _other_number(name: str, number: int, named: int) -> str:
    return (
        f"The published weights of {name} have {count(number, 'class', 'classes')}, but "
        f"{count(named, 'is', 'are')} named; leave out --data.class_names, or name all."
    )


def _other_classifier(name: str, wanted: int, found: int | None) -> str:
    """Say what is wrong with a file's classifier: the rest of a sentence that begins with the file."""
    if found is None:
        return (
            f"has no classifier for {name}, only features; give a file with a classifier, or fine-tune it first: "
            "fit --model.pretrained FILE."
        )
    tagged = _tagged(name, found)
    other = f"give --model.name {tagged[0]}, or " if tagged else ""
    return (
        f"has a classifier of {count(found, 'class', 'classes')} for {name}, not of {wanted:,}; {other}name its "
        f"classes in their order with {_NAMES}."
    )


def _tagged(name: str, classes: int | None = None) -> list[str]:
    """Return the names of a model's published weights with a classifier, of this number of classes if it is given."""
    architecture = name.partition(".")[0]
    numbers = {one: timm.get_pretrained_cfg(one).num_classes for one in timm.list_pretrained(f"{architecture}.*")}
    return [one for one, number in numbers.items() if number and classes in (None, number)]
