"""PyTorch Lightning toolkit for the InceptionNeXt family of vision backbones (arXiv 2303.16900).

Importing this package registers the family's models with timm, in either order of imports:
``timm.create_model("inceptionnext_iso_small")``. Nothing heavy is loaded until timm itself is imported.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
    from inceptionnext_lit.predict.classifier import Classifier
    from inceptionnext_lit.predict.exported import ExportedClassifier
    from inceptionnext_lit.predict.exported_segmenter import ExportedSegmenter
    from inceptionnext_lit.predict.loading import load_classifier, load_segmenter
    from inceptionnext_lit.predict.prediction import Prediction
    from inceptionnext_lit.predict.segmentation import Segmentation
    from inceptionnext_lit.predict.segmenter import TrainedSegmenter

__all__ = [
    "Classifier",
    "ExportedClassifier",
    "ExportedSegmenter",
    "Prediction",
    "Segmentation",
    "TrainedSegmenter",
    "load_classifier",
    "load_segmenter",
]
_MODULES = {
    "Classifier": "classifier",
    "ExportedClassifier": "exported",
    "ExportedSegmenter": "exported_segmenter",
    "Prediction": "prediction",
    "Segmentation": "segmentation",
    "TrainedSegmenter": "segmenter",
    "load_classifier": "loading",
    "load_segmenter": "loading",
}
__version__ = "0.1.0"


@when_imported("timm")
def _register_models(_timm: ModuleType) -> None:
    """Register our models with timm once timm is imported.

    Deferred so that the command line answers ``--help`` without importing torch and timm, which takes seconds.
    """
    importlib.import_module("inceptionnext_lit.models")


def __getattr__(name: str) -> Any:
    """Import the API for prediction on first use, since most of it pulls in torch and Lightning."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"inceptionnext_lit.predict.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
