"""The base class of the models in the registry."""

from typing import ClassVar

from torch import nn


class Backbone(nn.Module):
    """A model with timm's interface: features, head, and functions to change both.

    Attributes:
        first_conv: Name of the first convolution, whose weights depend on the channels of the image; None if another
            layer is the first.
        classifier_name: Name of the last Linear.
        stride: Stride of the last feature map in pixels, unless the model has an argument ``patch_size``.
        is_sequential: Whether timm may rebuild the model from its layers (``feature_cls`` ``list`` and ``dict``): it
            does nothing but run its stem and its stages or blocks in sequence.
        returns_maps: Whether the modules named by ``feature_info`` return the maps ``(N, C, H, W)`` themselves
            (``feature_cls`` ``hook`` and ``fx``).
    """

    first_conv: ClassVar[str | None]
    classifier_name: ClassVar[str]
    stride: ClassVar[int] = 32
    is_sequential: ClassVar[bool] = False
    returns_maps: ClassVar[bool] = True
