"""The features that a model's last linear layer classifies, from an ordinary call of the model."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Size


class PreLogits:
    """Keep the input of a model's classifier in each forward pass.

    timm's ``forward_features`` and ``forward_head`` give the same, but bypass what is attached to a call of the whole
    model: compilation, and the gathering of sharded weights.

    Args:
        model: Any timm model with a single classifier.
        name: Its name, for messages.
        in_training: Whether to keep it only in training mode.

    Raises:
        UserError: If the model does not have one classifier.
    """

    def __init__(self, model: nn.Module, name: str, *, in_training: bool = False) -> None:
        self._in_training = in_training
        self._name = name
        self._kept: Tensor | None = None
        get = getattr(model, "get_classifier", None)
        classifier = None if get is None else get()
        if not isinstance(classifier, nn.Module):
            raise _without_features(name)
        classifier.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep the input; torch calls this before each pass of the classifier."""
        if module.training or not self._in_training:
            self._kept = inputs[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> "PreLogits":
        """Copy it without the features, whose graph belongs to the original model."""
        other = object.__new__(PreLogits)
        other._in_training, other._name, other._kept = self._in_training, self._name, None
        return other

    def take(self) -> Tensor:
        """Return the features of the last forward pass, shape (N, features), and forget them.

        Raises:
            UserError: If there are none, or they are not one vector per image.
        """
        kept, self._kept = self._kept, None
        if kept is None or kept.ndim != 2:
            raise _without_features(self._name)
        return kept


def pre_logits_width(model: nn.Module, name: str, channels: int, size: Size) -> int:
    """Return the number of features that a model's classifier classifies, from a pass of a blank image.

    Args:
        model: Any timm model; it is not changed.
        name: Its name, for messages.
        channels: Channels of the image.
        size: Its height and width.

    Raises:
        UserError: If the model does not have one classifier of one vector per image.
    """
    trial = deepcopy(model).cpu().float().eval()
    features = PreLogits(trial, name)
    with torch.no_grad():
        trial(torch.zeros(1, channels, *size))
    return features.take().shape[1]


def _without_features(name: str) -> UserError:
    return UserError(
        f"The model {name!r} does not have one classifier of a vector per image, so its features cannot be compared; "
        "give model.distill.kind hard or logits."
    )
