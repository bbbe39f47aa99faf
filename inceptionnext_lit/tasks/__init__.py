"""LightningModules."""

from inceptionnext_lit.tasks.classification import ClassificationTask

__all__ = ["ClassificationTask"]
