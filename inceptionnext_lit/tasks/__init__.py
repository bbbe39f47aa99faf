"""LightningModules."""

from inceptionnext_lit.tasks.base import BaseTask
from inceptionnext_lit.tasks.classification.task import ClassificationTask

__all__ = ["BaseTask", "ClassificationTask"]
