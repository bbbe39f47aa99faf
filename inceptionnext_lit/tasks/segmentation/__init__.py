"""Semantic segmentation."""

from inceptionnext_lit.tasks.segmentation.task import SegmentationTask

__all__ = ["SegmentationTask"]
