"""What an exported file says about itself, in its own metadata and in ``FILE.json``. Imports neither torch nor timm."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inceptionnext_lit import __version__
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing

if TYPE_CHECKING:
    from inceptionnext_lit.tasks import ClassificationTask, SegmentationTask

KEY = "inceptionnext_lit"
"""Where the metadata is stored in a format's own place."""

FORMAT_VERSION = 1
_CODE_LICENSE = "not stated for the weights; the toolkit is Apache-2.0"


@dataclass(frozen=True)
class Metadata:
    """The part of the metadata that prediction needs.

    Attributes:
        name: The model.
        class_names: Names of the classes in index order.
        class_words: Their words, such as ``tabby, tabby cat``; None if they have none.
        multi_label: Whether an image may have several labels.
        takes: ``pixels`` or ``tensor``.
        preprocessing: Preprocessing of the model's input.
        temperature: What logits are divided by; already applied to probabilities.
        thresholds: The probability from which on each label is present; None for one half.
        outputs: Names of the outputs, in their order.
        dynamic: The dimensions of the input that may vary.
        task: ``classification`` or ``segmentation``.
        palette: For segmentation, the color of each class.
    """

    name: str
    class_names: list[str]
    class_words: list[str] | None
    multi_label: bool
    takes: Literal["pixels", "tensor"]
    preprocessing: Preprocessing
    temperature: float
    thresholds: list[float] | None
    outputs: list[str]
    dynamic: frozenset[str]
    task: Literal["classification", "segmentation"] = "classification"
    palette: list[list[int]] | None = None


def describe(
    task: "ClassificationTask | SegmentationTask",
    source: Mapping[str, str | None],
    *,
    takes: str,
    outputs: list[str],
    dynamic: frozenset[str],
    format_name: str,
    license_line: str | None,
    libraries: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the metadata of an exported model.

    Args:
        task: The classifier, or the segmentation model.
        source: Where its weights come from; see :func:`source_of`.
        takes: ``pixels`` or ``tensor``.
        outputs: Names of the outputs.
        dynamic: The dimensions of the input that may vary.
        format_name: The format.
        license_line: License of the weights, if known.
        libraries: The packages that wrote the file.
    """
    return {
        "format_version": FORMAT_VERSION,
        "format": format_name,
        "name": str(task.hparams["name"]),
        "class_names": list(task.class_names),
        **_of_task(task),
        "num_classes": task.num_classes,
        "input": takes,
        "preprocessing": dict(task.preprocessing or {}),
        "outputs": outputs,
        "dynamic": [name for name in ("batch", "size") if name in dynamic],
        "license": license_line or _CODE_LICENSE,
        "source": dict(source),
        "versions": {KEY: __version__} | _versions(("torch", "timm", *libraries)),
    }


def _of_task(task: "ClassificationTask | SegmentationTask") -> dict[str, Any]:
    from inceptionnext_lit.data.class_words import class_words
    from inceptionnext_lit.data.masks.class_table import colormap
    from inceptionnext_lit.tasks import SegmentationTask

    if isinstance(task, SegmentationTask):
        return {"task": "segmentation", "palette": task.data_spec.palette or colormap(task.num_classes)}
    words = [class_words(name) or "" for name in task.class_names]
    return {
        **({"class_words": words} if any(words) else {}),
        "multi_label": task.data_spec.multi_label,
        "temperature": task.calibration.temperature,
        "thresholds": task.calibration.thresholds,
    }


def source_of(path: Path | None) -> dict[str, str | None]:
    """Return the name and the SHA-256 of a file of weights; both None for published weights.

    Args:
        path: The file.
    """
    if path is None:
        return {"file": None, "sha256": None}
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def as_text(content: Mapping[str, Any]) -> str:
    """Return metadata as JSON.

    Args:
        content: The metadata.
    """
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def read(text: str | None, source: Path) -> Metadata:
    """Read the metadata of an exported file.

    Args:
        text: The JSON.
        source: The file, for messages.

    Raises:
        UserError: If there is none, it is damaged, or of a later version.
    """
    if text is None:
        raise UserError(
            f"{source} does not say which classes and images it is for; use a file that export has written."
        )
    try:
        content = json.loads(text)
        found = content["format_version"]
        if found != FORMAT_VERSION:
            raise UserError(
                f"{source} was written by a later version of this package (its metadata are of version {found}); "
                "update the package."
            )
        is_classifier = content.get("task", "classification") == "classification"
        return Metadata(
            name=content["name"],
            class_names=content["class_names"],
            class_words=content.get("class_words"),
            multi_label=content["multi_label"] if is_classifier else False,
            takes=content["input"],
            preprocessing=content["preprocessing"],
            temperature=content["temperature"] if is_classifier else 1.0,
            thresholds=content["thresholds"] if is_classifier else None,
            outputs=content["outputs"],
            dynamic=frozenset(content["dynamic"]),
            task=content.get("task", "classification"),
            palette=None if is_classifier else content["palette"],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"The metadata in {source} are damaged ({error}); export it again.") from error


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
