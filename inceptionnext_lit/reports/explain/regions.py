"""Heat maps of segmentation models: which parts of an image speak for a class where it is predicted.

What is explained is the class's mean logit over the pixels that are predicted as it, as in Seg-Grad-CAM (arXiv
2002.11434), or over all pixels if there are none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.data.scenes import SceneInput
from inceptionnext_lit.data.transforms.segmentation import TestScale
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.segmenter import Segmenter, resized
from inceptionnext_lit.preprocessing import Preprocessing, Size, height_and_width
from inceptionnext_lit.reports.explain.attribution import (
    BY_LAYER,
    Explanation,
    Method,
    attribute,
    check_layer,
    check_layer_option,
    depends_on,
    normalized,
)
from inceptionnext_lit.reports.explain.layers import default_layer
from inceptionnext_lit.reports.explain.libraries import check_captum
from inceptionnext_lit.tasks.segmentation import SegmentationTask

_AT_ONCE = 2  # images per batch of the methods without a layer; those of segmentation are large


@dataclass(frozen=True)
class RegionExplanation(Explanation):
    """A heat map of a class in an image.

    ``probability`` is its mean over the explained pixels, and ``predicted`` the same class.

    Attributes:
        share: Share of the image's pixels that are predicted as the class; if it is 0, all pixels are explained.
    """

    share: float = 0.0


class RegionScores(nn.Module):
    """The mean logits of the classes over a region, as a network of the segmenter's layers under their names.

    Args:
        segmenter: The segmenter, in eval mode.
        shares: Weight of each position of the logits, (h, w); None for their mean.

    Shape:
        Images (N, C, H, W) to (N, K).
    """

    def __init__(self, segmenter: Segmenter, shares: Tensor | None = None) -> None:
        super().__init__()
        for name, child in segmenter.named_children():
            self.add_module(name, child)
        backbone = segmenter.maps.backbone
        self.output_fmt = getattr(backbone, "output_fmt", "NCHW")
        self.num_prefix_tokens = getattr(backbone, "num_prefix_tokens", 0)
        self._segment = segmenter.forward
        self._shares = shares
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean logits."""
        logits = self._segment(images)
        assert isinstance(logits, Tensor)  # without auxiliary logits, in eval mode
        return logits.mean(dim=(2, 3)) if self._shares is None else (logits * self._shares).sum(dim=(2, 3))


def read_scene(preprocessing: Preprocessing, path: str) -> Tensor:
    """Read an image as a segmentation model takes it, upright by its EXIF orientation.

    Args:
        preprocessing: Preprocessing of the model's input.
        path: The image file.

    Returns:
        The pixels at the test scale, (C, h, w).

    Raises:
        UserError: If it cannot be read.
    """
    preprocessing = preprocessing.copy()
    preprocessing.pop("exif", None)  # as in the predict command
    return TestScale(preprocessing).read(path)[0]


def explain_class(
    task: SegmentationTask, pixels: Tensor, method: Method, target: int, layer: str | None = None
) -> RegionExplanation:
    """Compute a heat map of an image for a class, on the task's device. The image is segmented at once, at one scale.

    Args:
        task: A segmentation model with preprocessing; it is put in eval mode. Its averaged weights are used if there
            are any.
        pixels: As :func:`read_scene` returns them.
        method: The method. Integrated gradients and occlusion start from the data's mean color.
        target: Index of the class.
        layer: Name of the layer of ``gradcam`` and ``gradcam++``; None for the backbone's last map.

    Raises:
        UserError: If captum is not installed, there is no such layer or class, or the logits are NaN or infinite.
    """
    check_captum()
    check_layer_option(method, layer)
    if not 0 <= target < task.num_classes:
        raise UserError(f"There is no class {target}; the model's classes are 0 to {task.num_classes - 1}.")
    assert task.preprocessing is not None
    segmenter = _segmenter(task)
    device = next(segmenter.parameters()).device
    images = SceneInput(task.preprocessing)(pixels.to(device))[None].contiguous()
    size: Size = (images.shape[2], images.shape[3])
    with torch.no_grad():
        logits = segmenter(images)
        probabilities = resized(logits, size)[0].softmax(dim=0)  # (K, H, W)
    if not bool(probabilities.sum().isfinite()):
        raise UserError("The model's outputs are NaN or infinite; check the pixel values, or use another checkpoint.")
    predicted = probabilities.argmax(dim=0) == target
    share = float(predicted.float().mean())
    region = predicted if share else torch.ones_like(predicted)
    probability = float(probabilities[target][region].mean())
    del probabilities
    model = RegionScores(segmenter, _shares(region, (logits.shape[2], logits.shape[3])))
    if method in BY_LAYER and layer is None:
        layer = _region_layer(segmenter, images)
    with torch.enable_grad():
        raw = attribute(model, images, method, target, layer, at_once=_AT_ONCE)
        depends = bool(raw.any()) or depends_on(model, images, method, target, layer)
    heat = functional.interpolate(raw[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    return RegionExplanation(
        normalized(heat.cpu().numpy(), method), pixels.cpu(), target, probability, target, probability, depends, share
    )


def find_region_layer(task: SegmentationTask, method: Method = "gradcam", layer: str | None = None) -> str | None:
    """Return the layer that a heat map is computed for, after a run on a plain image.

    Args:
        task: A segmentation model with preprocessing.
        method: The method.
        layer: The layer's name; None for the backbone's last map.

    Returns:
        Its name; None for methods without a layer.

    Raises:
        UserError: If there is no such layer, it does not return a map, or the logits do not depend on it.
    """
    check_layer_option(method, layer)
    if method not in BY_LAYER:
        return None
    assert task.preprocessing is not None
    segmenter = _segmenter(task)
    shape = (1, len(task.preprocessing["mean"]), *height_and_width(task.preprocessing))
    images = torch.zeros(shape, device=next(segmenter.parameters()).device)
    name = _region_layer(segmenter, images) if layer is None else layer
    check_layer(RegionScores(segmenter), images, name)
    return name


def _region_layer(segmenter: Segmenter, images: Tensor) -> str:
    return f"maps.backbone.{default_layer(segmenter.maps.backbone, images)}"


def _segmenter(task: SegmentationTask) -> Segmenter:
    model = task.eval().inference_model
    assert isinstance(model, Segmenter)
    return model


def _shares(region: Tensor, size: Size) -> Tensor:
    """Return the weight of each position of a map (h, w) in the mean of the resized map over a region (H, W)."""
    grid = torch.zeros(1, 1, *size, device=region.device, requires_grad=True)
    with torch.enable_grad():
        mean = resized(grid, (region.shape[0], region.shape[1]))[0, 0][region].mean()
        [shares] = torch.autograd.grad(mean, grid)
    return shares
