"""Teachers for distillation: frozen classifiers with published weights, or from a file."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.fitting import stem_weights
from inceptionnext_lit.models.hub import NoWeightsError
from inceptionnext_lit.models.pre_logits import PreLogits
from inceptionnext_lit.models.pretrained_input import pretrained_input
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.safe_load import SUFFIXES, load_plain, read_metadata
from inceptionnext_lit.tasks.backbone import WEIGHT_SOURCES, create_backbone
from inceptionnext_lit.tasks.described import model_arguments
from inceptionnext_lit.tasks.published import Published, describe_published
from inceptionnext_lit.wording import count, printable


class Teacher:
    """A frozen model that a student learns from.

    It is not a module: a task that has one neither trains nor saves it.

    Attributes:
        title: The name or the file under which it was given.
        model: The model, in evaluation mode.
        preprocessing: Its own input, at the size of the student's images.
        digest: SHA-256 of its weights.
        was_finite: Whether no output for finite images has been NaN or infinite so far, a tensor since reading it waits
            for the device; None before the first batch.

    Args:
        title: As above.
        model: As above.
        preprocessing: As above.
        images: The student's input, whose normalization the images have.
        as_features: Whether its outputs are the features that its classifier sees, and not logits.
    """

    def __init__(
        self, title: str, model: nn.Module, preprocessing: Preprocessing, images: Preprocessing, *, as_features: bool
    ) -> None:
        self.title = title
        self.model = model.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.digest = _digest(model)
        self.was_finite: Tensor | None = None
        self._features = PreLogits(model, title) if as_features else None
        mean, std, own_mean, own_std = (
            torch.tensor(one[key], dtype=torch.float64).view(1, -1, 1, 1)
            for one in (images, preprocessing)
            for key in ("mean", "std")
        )
        self._affine = std / own_std, (mean - own_mean) / own_std
        self._placed = self._affine
        self._is_normalized = images["mean"] == preprocessing["mean"] and images["std"] == preprocessing["std"]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """Return the teacher itself, which never changes."""
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Return its outputs for a batch, without gradients.

        Args:
            images: Shape (N, C, H, W), normalized for the student.

        Returns:
            Logits of shape (N, classes), or features of shape (N, features).
        """
        with torch.no_grad():
            outputs: Tensor = self.model(self.normalized(images))
            if self._features is not None:
                outputs = self._features.take()
            is_finite = outputs.isfinite().all() | ~images.isfinite().all()
            self.was_finite = is_finite if self.was_finite is None else self.was_finite & is_finite
            return outputs

    def normalized(self, images: Tensor) -> Tensor:
        """Return images with the teacher's normalization instead of the student's, shape and dtype unchanged."""
        if self._is_normalized:
            return images
        exact = images if images.dtype == torch.float64 else images.float()
        scale, shift = (one.to(exact) for one in self._placed)
        return (exact * scale + shift).to(images.dtype)

    def move(self, like: Tensor) -> None:
        """Move it to the device of a tensor, and convert it to its dtype."""
        self.model.to(device=like.device, dtype=like.dtype)
        self.was_finite = None
        exact = torch.float64 if like.dtype == torch.float64 else torch.float32  # not all devices have the former
        scale, shift = (one.to(exact).to(like.device) for one in self._affine)
        self._placed = scale, shift


@dataclass(frozen=True)
class _Source:
    """Where a teacher's weights are.

    Attributes:
        name: Its model.
        pretrained: True for the published weights, or the file.
        kwargs: The model's own arguments.
        spec: Classes and input.
        has_names: Whether the file names its classes.
    """

    name: str
    pretrained: bool | str
    kwargs: dict[str, Any]
    spec: DataSpec
    has_names: bool


def load_teacher(given: str, student: DataSpec, name: str | None = None, *, as_features: bool) -> Teacher:
    """Load a teacher for a student's images and classes.

    Args:
        given: A model with published weights; a file that names its model: a checkpoint of ``fit`` (its average, if
            any), or weights as ``convert`` writes them; or any other file of weights.
        student: The student's classes and input.
        name: The model of a file that does not name it.
        as_features: Whether the student learns its features, for which it may have any classes.

    Raises:
        UserError: If there are no such weights, or the teacher does not fit the student's classes, channels or image
            size.
    """
    images = student.preprocessing
    if images is None:
        raise UserError("model.distill needs model.data_spec.preprocessing, to normalize the images for the teacher.")
    try:
        source = _find(given, name, student, needs_classes=not as_features)
        own = source.spec.preprocessing
        if own is None:
            raise UserError(f"{given} does not say how its images were prepared; use another checkpoint of fit.")
        _check_channels(given, len(own["mean"]), len(images["mean"]))
        if not as_features:
            _check_classes(given, source, student)
        own = cast(Preprocessing, {**own, "image_size": images["image_size"]})
        number = len(source.spec.names)
        model, report = create_backbone(
            source.name, number, source.kwargs, pretrained=source.pretrained, preprocessing=own
        )
    except NoWeightsError as error:
        raise UserError(
            f"{error.problem}, so it cannot be the teacher; give model.distill.teacher a model with published weights, "
            "or a checkpoint of fit."
        ) from error
    except UserError as error:
        raise UserError(f"The teacher of model.distill cannot be used: {error}") from error
    if report is not None and not set(report.adapted).isdisjoint(stem_weights(model)):
        raise UserError(
            f"The teacher of model.distill cannot be used: {given} does not take images of "
            f"{count(len(images['mean']), 'channel')}, as the student's are; give a teacher for the same images."
        )
    if report is not None and report.reinitialized and not as_features:
        found = "no classifier" if report.classes is None else count(report.classes, "class", "classes")
        raise UserError(
            f"The teacher of model.distill cannot be used: {given} has {found}, and not "
            f"{count(number, 'class', 'classes')}; give a teacher of the same classes, or model.distill.kind features, "
            "which compares no classes."
        )
    return Teacher(given, model, own, images, as_features=as_features)


def _find(given: str, name: str | None, student: DataSpec, *, needs_classes: bool) -> _Source:
    path = Path(given).expanduser()
    if not path.exists() and path.name == given and path.suffix not in SUFFIXES:
        _refuse_name(given, name)
        check_model_name(given)
        if not timm.get_pretrained_cfg(given).has_weights:
            raise NoWeightsError(f"No public weights of {given!r}")
        published = describe_published(given, True, classifier_needed=needs_classes)
        return _Source(given, True, {}, published.spec, has_names=False)
    content = load_plain(path, mmap=True)
    if "hyper_parameters" in content:
        _refuse_name(given, name)
        arguments = model_arguments(content, path)
        if "segmentation" in content["hyper_parameters"]:
            raise UserError(f"{path} is a checkpoint of a segmentation model, and this needs one of a classifier.")
        kwargs = {key: value for key, value in (arguments["kwargs"] or {}).items() if key not in WEIGHT_SOURCES}
        spec = arguments["data_spec"]
        known = {key: spec.get(key) for key in ("class_names", "num_classes", "preprocessing")}
        classes = DataSpec(**known, multi_label=bool(spec.get("multi_label")))
        return _Source(arguments["name"], str(path), kwargs, classes, has_names=classes.class_names is not None)
    metadata = read_metadata(path)
    if "model" not in metadata:
        if name is None:
            raise UserError(
                f"{path} does not name its model; give it with model.distill.name, or a checkpoint of fit, or what "
                "convert writes from one."
            )
        published = describe_published(
            name, str(path), student.names if needs_classes else None, classifier_needed=needs_classes
        )
        return _Source(name, str(path), {}, _like(student, published), has_names=False)
    _refuse_name(given, name)
    published = describe_published(metadata["model"], str(path), classifier_needed=needs_classes)
    has_names = metadata.get("class_names", "null") != "null"
    return _Source(metadata["model"], str(path), published.kwargs or {}, published.spec, has_names)


def _like(student: DataSpec, published: Published) -> DataSpec:
    """Return the description of a file that says nothing but its weights: as many labels and channels as the student's.

    Its weights tell whether it has these channels.
    """
    own, images = published.spec.preprocessing, student.preprocessing
    found = pretrained_input(published.name, published.pretrained, for_testing=True)
    if own is not None and images is not None and found is not None:
        found = found.for_channels(len(images["mean"]))
        own = cast(Preprocessing, {**own, "mean": found.mean, "std": found.std})
    return replace(published.spec, multi_label=student.multi_label, preprocessing=own)


def _refuse_name(given: str, name: str | None) -> None:
    if name is not None:
        raise UserError(f"model.distill.name is {name}, but {given} already says what model it is; leave out the name.")


def _check_channels(given: str, own: int, images: int) -> None:
    if own != images:
        raise UserError(
            f"{given} takes images of {count(own, 'channel')}, and the student's have {images}; give a teacher for "
            "the same images."
        )


def _check_classes(given: str, source: _Source, student: DataSpec) -> None:
    """Refuse other classes: compared by name if the file has names, otherwise by number."""
    own, names = source.spec.names, student.names
    hint = "give a teacher of the same classes, or model.distill.kind features, which compares no classes."
    if source.spec.multi_label != student.multi_label:
        kinds = ["several labels" if one else "one label" for one in (source.spec.multi_label, student.multi_label)]
        raise UserError(f"{given} gives an image {kinds[0]}, and the student {kinds[1]}; {hint}")
    if len(own) != len(names):
        raise UserError(f"{given} has {count(len(own), 'class', 'classes')}, and the student {len(names)}; {hint}")
    if own != names and (source.has_names or sorted(own) == sorted(names)):
        place = next(place for place, pair in enumerate(zip(own, names, strict=True)) if pair[0] != pair[1])
        raise UserError(
            f"{given} has other classes, or the same in another order: its class {place + 1} of {len(own):,} is "
            f"{printable(own[place])}, and the student's {printable(names[place])}; {hint}"
        )


def _digest(model: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
