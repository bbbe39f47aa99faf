"""Distillation: a student learns from a teacher's classes, probabilities or features besides the labels."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.pre_logits import PreLogits, pre_logits_width
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width
from inceptionnext_lit.tasks.classification.losses import LossName, classification_loss
from inceptionnext_lit.tasks.classification.teacher import Teacher

Kind = Literal["hard", "logits", "features"]


@dataclass(frozen=True)
class Distill:
    """A teacher, and what the student learns from it: (1 - weight) · label loss + weight · distillation loss.

    Args:
        teacher: A model with published weights, such as ``resnet50.a1_in1k``, a checkpoint of ``fit``, a file of
            ``convert``, or any file of weights. Its classes must be those of the data, except for ``features``.
        kind: ``hard`` learns the teacher's most probable class like a label (arXiv 2012.12877, section 3); ``logits``
            its probabilities (arXiv 1503.02531, section 2); ``features`` what its last linear layer classifies, by a
            linear projection of the student's.
        weight: Weight of the distillation loss, from 0 to 1.
        temperature: Divisor of both models' logits, for ``logits`` alone.
        name: The teacher's model, for a file that does not name it, such as a state dict. Its images are normalized as
            for timm's weights of that model, and its outputs are in the order of the data's classes.

    Raises:
        UserError: If a value is out of range, or does not belong to the kind.
    """

    teacher: str
    kind: Kind = "hard"
    weight: float = 0.5
    temperature: float = 1.0
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.teacher:
            raise UserError("model.distill.teacher is empty; give a model with published weights, or a checkpoint.")
        if self.kind not in get_args(Kind):
            raise UserError(f"model.distill.kind is {self.kind!r}; it must be one of {', '.join(get_args(Kind))}.")
        if not 0 <= self.weight <= 1:
            raise UserError(f"model.distill.weight is {self.weight}; it must be between 0 and 1.")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"model.distill.temperature is {self.temperature}; it must be greater than 0.")
        if self.kind != "logits" and self.temperature != 1:
            raise UserError(
                f"model.distill.temperature is {self.temperature}, but only the kind logits has one, not {self.kind}; "
                "leave it out."
            )


class Distillation(nn.Module):
    """The distillation loss of a run.

    Attributes:
        options: As given.
        teacher: The teacher, which is not a submodule.
        projection: From the student's features to the teacher's; None unless features are compared.

    Args:
        options: What is learned from the teacher.
        teacher: The teacher, with outputs of this kind.
        student: The model that is trained; if features are compared, it keeps them in each training step.
        name: Its name, for messages.
        images: The student's input.
        loss: The loss against labels, which ``hard`` uses too.
        multi_label: Whether an image may have several labels.

    Raises:
        UserError: If the student has no features to compare, or the kind does not support multi-label classification.
    """

    def __init__(
        self,
        options: Distill,
        teacher: Teacher,
        student: nn.Module,
        name: str,
        images: Preprocessing,
        *,
        loss: LossName,
        multi_label: bool,
    ) -> None:
        super().__init__()
        self.options = options
        self.teacher = teacher
        self.projection: nn.Linear | None = None
        self._loss = loss
        self._multi_label = multi_label
        if options.kind == "features":
            shape = len(images["mean"]), height_and_width(images)
            width = pre_logits_width(student, name, *shape)
            self.projection = nn.Linear(width, pre_logits_width(teacher.model, teacher.title, *shape))
            self._features = PreLogits(student, name, in_training=True)

    def forward(self, images: Tensor, logits: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch, right after the student's forward pass.

        Args:
            images: The batch, shape (N, C, H, W), as the student has seen it: augmented and mixed.
            logits: The student's, shape (N, K).
            weights: Weight of each image, shape (N,), if they differ.

        Returns:
            A scalar; NaN or infinite if outputs of the teacher are.
        """
        outputs = self.teacher(images)
        if self.projection is not None:
            return feature_loss(self.projection(self._features.take()), outputs, weights)
        if self.options.kind == "hard":
            loss = classification_loss(logits, outputs.argmax(dim=1), name=self._loss, weights=weights)
            # argmax takes NaN for the largest value, and would make a class of it
            return loss.masked_fill(~outputs.isfinite().all(), torch.nan)
        return logit_loss(logits, outputs, self.options.temperature, multi_label=self._multi_label, weights=weights)


def check_labels(options: Distill, *, multi_label: bool) -> None:
    """Refuse a kind that does not support several labels per image.

    Args:
        options: What is learned from the teacher.
        multi_label: Whether an image may have several labels.

    Raises:
        UserError: If it is ``hard``, which needs one class.
    """
    if multi_label and options.kind == "hard":
        raise UserError(
            "model.distill.kind is hard, the teacher's single class, but these images may have several labels; give "
            "logits or features."
        )


def logit_loss(
    logits: Tensor,
    teacher: Tensor,
    temperature: float,
    *,
    multi_label: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Compute T² · KL(teacher ‖ student) of the probabilities at temperature T, in at least single precision.

    The factor T² keeps the gradients' magnitude (arXiv 1503.02531, section 2).

    Args:
        logits: The student's, shape (N, K).
        teacher: The teacher's, shape (N, K).
        temperature: T.
        multi_label: Whether each label has a probability of its own: the mean over labels of the divergence of two
            Bernoulli distributions, and otherwise that of two distributions over the classes.
        weights: Weight of each image, shape (N,); the result is the mean of weight times loss.

    Returns:
        A scalar, the mean over images.
    """
    logits, teacher = (_precise(one) / temperature for one in (logits, teacher))
    if multi_label:
        present, absent = (
            F.kl_div(F.logsigmoid(sign * logits), F.logsigmoid(sign * teacher), reduction="none", log_target=True)
            for sign in (1, -1)
        )
        losses = (present + absent).mean(dim=1)
    else:
        pair = logits.log_softmax(dim=1), teacher.log_softmax(dim=1)
        losses = F.kl_div(*pair, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * _mean(losses, weights)


def feature_loss(features: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the mean squared difference of features in at least single precision.

    Args:
        features: The student's, projected, shape (N, D).
        teacher: The teacher's, shape (N, D).
        weights: Weight of each image, shape (N,); the result is the mean of weight times loss.

    Returns:
        A scalar, the mean over images and features.
    """
    return _mean((_precise(features) - _precise(teacher)).square().mean(dim=1), weights)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    return (losses if weights is None else weights * losses).mean()


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
