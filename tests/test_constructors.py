"""Constructors with many arguments take them in groups."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import inceptionnext_lit

MOST = 14
FLAT = {
    "inceptionnext_lit.data.classification.ImageFolderDataModule": 16,
    "inceptionnext_lit.tasks.classification.task.ClassificationTask": 15,
}
"""More keys that users expect at the top level of a group, such as ``data.progressive_size`` and ``model.distill``."""


def public_classes() -> Iterator[type]:
    """Yield every public class of the package, except the models, whose arguments are timm's."""
    for module in pkgutil.walk_packages(inceptionnext_lit.__path__, f"{inceptionnext_lit.__name__}."):
        if module.name.startswith("inceptionnext_lit.models.") or module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and value.__module__ == module.name and not name.startswith("_"):
                yield value


def arguments(cls: type) -> list[str]:
    """Return the names of a constructor's arguments; empty for a constructor of another package."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    return list(inspect.signature(cls).parameters) if owner.__module__.startswith(inceptionnext_lit.__name__) else []


CLASSES = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in public_classes()}


@pytest.mark.parametrize("name", CLASSES)
def test_no_constructor_takes_too_many_arguments(name: str) -> None:
    assert len(arguments(CLASSES[name])) <= FLAT.get(name, MOST), arguments(CLASSES[name])


def test_the_classes_are_found() -> None:
    names = {name.rpartition(".")[2] for name in CLASSES}
    assert {"ImageFolderDataModule", "ClassificationTask", "BaseTask", "SplitRules", "Schedule", "Classifier"} <= names
    assert len(arguments(CLASSES["inceptionnext_lit.data.classification.ImageFolderDataModule"])) == 16
    assert len(arguments(CLASSES["inceptionnext_lit.tasks.classification.task.ClassificationTask"])) == 15
