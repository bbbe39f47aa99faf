"""Options set in Python have the values that the command line allows."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
from PIL import Image

from inceptionnext_lit.choices import choices_of
from inceptionnext_lit.data import ImageFolderDataModule, SegmentationDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.explain.attribution import heat_map
from inceptionnext_lit.tasks import ClassificationTask, SegmentationTask
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.self_contained import nested_options
from inceptionnext_lit.training.callbacks.checkpoints import Checkpoints
from tests.small_checkpoint import INPUT

REQUIRED: dict[str, Any] = {"teacher": "resnet18", "monitor": "val/loss", "unit": "epoch", "epochs": 1}


def option_classes() -> Iterator[type]:
    """Yield each dataclass that is an argument of a task or data module, or part of one."""
    tops = (ClassificationTask, SegmentationTask, ImageFolderDataModule, SegmentationDataModule)
    left = [Checkpoints, *(option for top in tops for option in nested_options(top).values())]
    seen: set[type] = set()
    while left:
        cls = left.pop()
        if cls in seen:
            continue
        seen.add(cls)
        yield cls
        hints = get_type_hints(cls).values()
        left += [
            one for hint in hints for one in (hint, *get_args(hint)) if isinstance(one, type) and is_dataclass(one)
        ]


FIELDS = [(cls, name) for cls in option_classes() for name in choices_of(cls)]


def test_which_options_have_fixed_values() -> None:
    found = {f"{cls.__name__}.{name}" for cls, name in FIELDS}
    assert {"LossOptions.name", "Mix.order", "Execution.kernels", "InputOptions.crop_mode"} <= found
    assert {"BalanceOptions.sampler", "BadImageOptions.action", "MaskOptions.kind", "Checkpoints.mode"} <= found
    assert len(found) >= 16


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_other_values_are_refused(cls: Any, name: str) -> None:
    given = {field.name: REQUIRED[field.name] for field in fields(cls) if field.name in REQUIRED}
    allowed = choices_of(cls)[name]
    for value in (allowed[0].upper(), "typo"):
        with pytest.raises(UserError, match=rf"\.{name} is '{value}'; (choose|it must be) one of .*{allowed[-1]}"):
            cls(**{**given, name: value})


def test_the_message_names_the_key_and_the_choices() -> None:
    with pytest.raises(UserError) as error:
        LossOptions(name="ce")  # type: ignore[arg-type]
    assert str(error.value) == "model.loss.name is 'ce'; choose one of cross_entropy, bce."
    with pytest.raises(UserError) as error:
        InputOptions(interpolation="lanczos")  # type: ignore[arg-type]
    assert str(error.value) == "data.input.interpolation is 'lanczos'; choose one of bicubic, bilinear."


def test_methods_of_heat_maps() -> None:
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(["a", "b"], preprocessing=INPUT))
    with pytest.raises(UserError, match=r"^The method is 'ig'; choose one of gradcam, gradcam\+\+, integrated_grad"):
        heat_map(task, Image.new("RGB", (28, 28)), method="ig")  # type: ignore[arg-type]
