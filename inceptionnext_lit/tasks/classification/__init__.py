"""Image classification, single-label or multi-label."""

from inceptionnext_lit.tasks.classification.task import ClassificationTask

__all__ = ["ClassificationTask"]
