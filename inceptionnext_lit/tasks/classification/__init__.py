"""Image classification, of one label an image or several."""

from inceptionnext_lit.tasks.classification.task import ClassificationTask

__all__ = ["ClassificationTask"]
