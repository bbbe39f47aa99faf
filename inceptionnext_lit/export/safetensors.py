"""Convert a training checkpoint to a weight file that other tools can read."""

import contextlib
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from inceptionnext_lit.data.sources.fingerprint import total
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.fitting import listed
from inceptionnext_lit.models.formats import Unwrapped, WeightSet, unwrap
from inceptionnext_lit.models.weights import LoadReport, check_numbers, save_weights
from inceptionnext_lit.safe_load import check_finite, load_plain
from inceptionnext_lit.safe_save import obstacle
from inceptionnext_lit.tasks.backbone import WEIGHT_SOURCES, create_backbone
from inceptionnext_lit.tasks.classification.calibration import KEY as CALIBRATION
from inceptionnext_lit.tasks.classification.calibration import read_calibration
from inceptionnext_lit.tasks.described import model_arguments
from inceptionnext_lit.training.callbacks.same_data import KEY as DATA


@dataclass(frozen=True)
class ConversionReport:
    """What was converted.

    Attributes:
        output: The written file.
        model: Name of its model.
        kwargs: The model's own arguments.
        image_size: Side of the training images in pixels, or height and width; None if the checkpoint does not say.
        num_classes: Number of classes.
        parameters: Number of the model's parameters.
        weights: Whether they are averaged or raw.
        loaded: Which tensors of the checkpoint they are.
    """

    output: Path
    model: str
    kwargs: dict[str, Any]
    image_size: int | list[int] | None
    num_classes: int
    parameters: int
    weights: WeightSet
    loaded: LoadReport

    def __str__(self) -> str:
        kind = "averaged" if self.weights == "ema" else "raw"
        return (
            f"{self.output}: {self.model}, {kind} weights, {self.num_classes} classes, {self.parameters:,} parameters"
        )

    def fit_arguments(self) -> str:
        """Return the arguments for ``fit`` to start from the file."""
        words = ["--model.name", self.model]
        if self.kwargs:
            words += ["--model.kwargs", json.dumps(self.kwargs, default=str)]
        words += ["--model.pretrained", str(self.output)]
        if self.image_size is not None:
            words += ["--data.image_size", str(self.image_size).replace(" ", "")]
        return shlex.join(words)


def convert_checkpoint(path: str | Path, output: str | Path, weights: WeightSet | None = None) -> ConversionReport:
    """Save a checkpoint's weights under the names under which models of its kind are published.

    The file's metadata has ``model`` (timm's name), ``num_classes``, ``class_names``, ``preprocessing`` and ``kwargs``
    (the model's own arguments) as JSON, and ``weights`` (``ema`` or ``raw``); that of a multi-label model has
    ``multi_label``, true. A ``calibration`` of the checkpoint is stored too, as JSON, with the weights that it was
    fitted to, which are those that ``predict`` uses. ``data_fingerprint``, as JSON too, has the numbers and hashes of
    the run's images and of its validation images (``all`` and ``val``), if the checkpoint has them: ``fit`` warns if it
    would validate on images that the weights were trained on.

    Args:
        path: A checkpoint of ``fit``.
        output: The file to write or replace, with the suffix ``.safetensors``.
        weights: Averaged or raw weights; None for averaged ones if there are any.

    Returns:
        What was converted.

    Raises:
        UserError: If the file is not a checkpoint of ``fit``, lacks such weights, or the output cannot be written;
            nothing is then written.
    """
    path, output = Path(path).expanduser(), Path(output).expanduser()
    _check_output(output, path)
    content = load_plain(path, mmap=True)  # the optimizer state is never read
    arguments = model_arguments(content, path)
    found = unwrap({"state_dict": content["state_dict"]}, weights, source=str(path))
    check_finite(content["state_dict"], path)  # the other set of weights too, since the run may have diverged
    name, spec = arguments["name"], arguments["data_spec"]
    num_classes, preprocessing = spec["num_classes"], spec.get("preprocessing")
    kwargs = {key: value for key, value in (arguments["kwargs"] or {}).items() if key not in WEIGHT_SOURCES}
    model, _ = create_backbone(name, num_classes, kwargs, preprocessing=preprocessing)
    loaded = _load(model, found, path, name)
    chosen: WeightSet = "ema" if found.averaged else "raw"
    plain = {"class_names": spec.get("class_names"), "preprocessing": preprocessing, "kwargs": kwargs}
    if spec.get("multi_label"):
        plain["multi_label"] = True
    metadata = {"model": name, "num_classes": str(num_classes), "weights": chosen}
    calibration = read_calibration(content, num_classes, str(path))
    if "val" in (splits := content.get(DATA, {})):
        plain[DATA] = {"all": total(splits.values()), "val": total([splits["val"]])}
    used_by_predict = found.averaged == unwrap({"state_dict": content["state_dict"]}).averaged
    if used_by_predict and not calibration.is_neutral:
        plain[CALIBRATION] = calibration.record()
    save_weights(model, output, metadata | {key: json.dumps(value, default=str) for key, value in plain.items()})
    return ConversionReport(
        output=output,
        model=name,
        kwargs=kwargs,
        image_size=None if preprocessing is None else preprocessing["image_size"],
        num_classes=num_classes,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights=chosen,
        loaded=loaded,
    )


def _check_output(output: Path, source: Path) -> None:
    """Refuse an unsuitable output before reading gigabytes; creates nothing."""
    if output.suffix != ".safetensors":
        raise UserError(f"The output is {output}; it must end in .safetensors.")
    with contextlib.suppress(OSError):  # one of them does not exist
        if output.samefile(source):
            raise UserError(f"The output {output} is the checkpoint itself; give it another name.")
    if (code := obstacle(output)) is not None:
        raise UserError(f"The output {output} cannot be written: {os.strerror(code)}; give another one.")


def _load(model: nn.Module, found: Unwrapped, path: Path, name: str) -> LoadReport:
    """Load all tensors or none; unlike in other files, they must match the model exactly."""
    own = model.state_dict()
    shapes, stored = ({key: tensor.shape for key, tensor in one.items()} for one in (own, found.tensors))
    if wrong := [key for key in {**shapes, **stored} if shapes.get(key) != stored.get(key)]:
        raise UserError(
            f"The weights in {path} are not those of {name} as its arguments describe it: {listed(wrong)}. "
            "Use a checkpoint as fit wrote it."
        )
    check_numbers(found.tensors, path)
    model.load_state_dict(found.tensors, assign=True)  # a copy would have the dtype of the new model
    kind = "averaged" if found.averaged else "raw"
    return LoadReport(path, f"checkpoint of fit, {kind} weights", loaded=tuple(found.tensors), skipped=found.others)
