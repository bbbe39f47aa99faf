"""LightningModules, and the options of their constructors."""

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks.base import BaseTask
from inceptionnext_lit.tasks.classification.distillation import Distill
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from inceptionnext_lit.tasks.classification.task import ClassificationTask
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from inceptionnext_lit.tasks.segmentation.task import SegmentationTask
from inceptionnext_lit.training.execution import Execution
from inceptionnext_lit.training.finetuning import Finetuning
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule

__all__ = [
    "BaseTask",
    "ClassificationTask",
    "DataSpec",
    "Distill",
    "Execution",
    "Finetuning",
    "LossOptions",
    "Mix",
    "OptimizerOptions",
    "Schedule",
    "SegmentationOptions",
    "SegmentationTask",
]
