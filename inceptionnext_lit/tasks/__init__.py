"""LightningModules."""

from inceptionnext_lit.tasks.base import BaseTask
from inceptionnext_lit.tasks.classification.task import ClassificationTask
from inceptionnext_lit.tasks.segmentation.task import SegmentationTask

__all__ = ["BaseTask", "ClassificationTask", "SegmentationTask"]
