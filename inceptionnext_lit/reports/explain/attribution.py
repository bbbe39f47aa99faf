"""Heat maps: which parts of an image speak for a class. What speaks against it is not shown.

Grad-CAM (arXiv 1610.02391), integrated gradients (arXiv 1703.01365) and occlusion (arXiv 1311.2901) are captum's.
Grad-CAM++ is computed here, since captum does not have it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.choices import check_choice
from inceptionnext_lit.data.decode.image import upright
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width
from inceptionnext_lit.reports.explain.grad_cam import grad_cam_plus_plus
from inceptionnext_lit.reports.explain.layers import Tapped, default_layer
from inceptionnext_lit.reports.explain.libraries import check_captum
from inceptionnext_lit.tasks.classification import ClassificationTask

Method = Literal["gradcam", "gradcam++", "integrated_gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
BY_LAYER: tuple[Method, ...] = ("gradcam", "gradcam++")
_STEPS = 32  # of the integral
_WINDOWS = 8  # occluding windows along a side, each moved by half its side
_AT_ONCE = 16  # images per batch of the methods without a layer
_BRIGHTEST = 99  # percentile of pixels' positive parts that is drawn as 1; the few above would hide the others
_FLAT = 1e-3  # range of a map that looks the same everywhere


@dataclass(frozen=True)
class Explanation:
    """A heat map of an image.

    Attributes:
        heat: The map, (H, W) of the model's input, in [0, 1]; all 0 if nothing speaks for the class.
        pixels: The model's input before normalization, (C, H, W), uint8 or float32 in [0, 1].
        target: Index of the class that the map is for.
        probability: Its probability.
        predicted: Index of the most probable class.
        predicted_probability: Its probability.
        depends: Whether the class depends on the map of the layer, or, of methods without a layer, on the image.
    """

    heat: NDArray[np.float32]
    pixels: Tensor
    target: int
    probability: float
    predicted: int
    predicted_probability: float
    depends: bool = True

    @property
    def remark(self) -> str:
        """What a map without a pattern is: ``no evidence`` or ``constant``; empty otherwise."""
        if not self.heat.any():
            return "no evidence"
        return "constant" if float(np.ptp(self.heat)) < _FLAT else ""


def heat_map(
    task: ClassificationTask,
    image: Image.Image | Tensor,
    method: Method = "gradcam",
    target: int | None = None,
    layer: str | None = None,
) -> NDArray[np.float32]:
    """Return the heat map of an image, (H, W) of the model's input, in [0, 1]; see :func:`explain`."""
    return explain(task, image, method, target, layer).heat


def explain(
    task: ClassificationTask,
    image: Image.Image | Tensor,
    method: Method = "gradcam",
    target: int | None = None,
    layer: str | None = None,
) -> Explanation:
    """Compute a heat map of an image for a class, on the task's device.

    Args:
        task: A classifier with preprocessing; it is put in eval mode. Its averaged weights are used if there are any.
        image: A picture of any size, or pixels as :func:`eval_transform` returns them, resized and cropped: (C, H, W),
            uint8 or float32 in [0, 1].
        method: The method. Integrated gradients and occlusion start from the data's mean color.
        target: Index of the class; None for the predicted one.
        layer: Name of the layer of ``gradcam`` and ``gradcam++``; None for the last map before the pooling.

    Raises:
        UserError: If captum is not installed, there is no such layer or class, or the logits are NaN or infinite.
    """
    check_captum()
    check_choice("The method", method, METHODS)
    preprocessing = _preprocessing(task)
    if target is not None and not 0 <= target < task.num_classes:
        raise UserError(f"There is no class {target}; the model's classes are 0 to {task.num_classes - 1}.")
    check_layer_option(method, layer)
    task.eval()
    model = task.inference_model
    if not isinstance(image, Image.Image | Tensor):
        raise TypeError(f"A heat map is of a PIL image or a tensor (C, H, W), not of a {type(image).__name__}.")
    if isinstance(image, Image.Image):
        mean = preprocessing["mean"]
        image = eval_transform(preprocessing)(upright(image, len(mean), preprocessing.get("nodata"), mean))
    pixels: Tensor = image
    device = next(model.parameters()).device
    images = ToInput(preprocessing)(stack_pixels([pixels]).to(device)).contiguous()
    with torch.no_grad():
        scores = task.scores(model(images))[0]
    if not bool(scores.isfinite().all()):
        raise UserError("The model's outputs are NaN or infinite; check the pixel values, or use another checkpoint.")
    predicted = int(scores.argmax())
    target = predicted if target is None else target
    with torch.enable_grad():
        raw = attribute(model, images, method, target, layer)
        depends = bool(raw.any()) or depends_on(model, images, method, target, layer)
    heat = functional.interpolate(raw[None, None], size=images.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    probabilities = float(scores[target]), predicted, float(scores[predicted])
    return Explanation(normalized(heat.cpu().numpy(), method), pixels.cpu(), target, *probabilities, depends)


def check_layer_option(method: Method, layer: str | None) -> None:
    """Refuse a layer for a method without one.

    Args:
        method: The method.
        layer: The layer, if one was given.

    Raises:
        UserError: If the method has no layer.
    """
    if layer is not None and method not in BY_LAYER:
        raise UserError(f"The method {method} explains the input and has no layer; leave out --layer.")


def find_layer(task: ClassificationTask, method: Method = "gradcam", layer: str | None = None) -> str | None:
    """Return the layer that a heat map is computed for, after a run on a plain image.

    Args:
        task: A classifier with preprocessing.
        method: The method.
        layer: The layer's name; None for the last map before the pooling.

    Returns:
        Its name; None for methods without a layer.

    Raises:
        UserError: If there is no such layer, it does not return a map, or the logits do not depend on it.
    """
    check_layer_option(method, layer)
    preprocessing = _preprocessing(task)
    if method not in BY_LAYER:
        return None
    model = task.eval().inference_model
    shape = (1, len(preprocessing["mean"]), *height_and_width(preprocessing))
    images = torch.zeros(shape, device=next(model.parameters()).device)  # the data's mean color
    name = default_layer(model, images) if layer is None else layer
    check_layer(model, images, name)
    return name


def check_layer(model: nn.Module, images: Tensor, layer: str) -> None:
    """Refuse a layer that cannot be explained.

    Args:
        model: A network that returns logits (N, K), in eval mode.
        images: Images to run, (1, C, H, W).
        layer: The layer's name.

    Raises:
        UserError: If there is no such layer, it does not return a map, or the logits do not depend on it.
    """
    with torch.enable_grad():
        _map_and_gradient(Tapped(model, layer), images, target=0)


def _preprocessing(task: ClassificationTask) -> Preprocessing:
    if task.preprocessing is None:
        raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
    return task.preprocessing


def attribute(
    model: nn.Module,
    images: Tensor,
    method: Method,
    target: int,
    layer: str | None = None,
    *,
    at_once: int = _AT_ONCE,
) -> Tensor:
    """Return the attribution of an image before it is scaled, not negative.

    Args:
        model: A network that returns logits, in eval mode.
        images: One normalized image, (1, C, H, W).
        method: The method.
        target: Index of the class.
        layer: Name of the layer of ``gradcam`` and ``gradcam++``; None for the last map before the pooling.
        at_once: Images per batch of the methods without a layer.

    Returns:
        Shape (h, w) of the layer's map, or (H, W) of the image for methods without a layer.

    Raises:
        UserError: If there is no such layer, or the class does not depend on it.
    """
    if method in BY_LAYER:
        tapped = Tapped(model, default_layer(model, images) if layer is None else layer)
        if method == "gradcam++":
            return grad_cam_plus_plus(*_map_and_gradient(tapped, images, target))[0]
        from captum.attr import LayerGradCam

        images = images.clone().requires_grad_()
        with _naming(tapped.layer):
            cam: Tensor = LayerGradCam(tapped, tapped.map).attribute(images, target=target, relu_attributions=True)
        return cam[0, 0].detach()
    if method == "occlusion":
        from captum.attr import Occlusion

        window = [max(1, side // _WINDOWS) for side in images.shape[-2:]]
        with torch.no_grad():
            drop: Tensor = Occlusion(model).attribute(
                images,
                sliding_window_shapes=(images.shape[1], *window),
                strides=(images.shape[1], *(max(1, side // 2) for side in window)),
                baselines=0,
                target=target,
                perturbations_per_eval=at_once,
            )
        return drop[0, 0].relu().detach()  # the same in all channels
    from captum.attr import IntegratedGradients

    integrated: Tensor = IntegratedGradients(model).attribute(
        images, baselines=0, target=target, n_steps=_STEPS, internal_batch_size=at_once
    )
    return integrated[0].sum(dim=0).relu().detach()  # (C, H, W) -> (H, W)


def _map_and_gradient(tapped: Tapped, images: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Return a layer's map of images, (N, C, H, W), and the gradient of the first image's logit with respect to it."""
    maps: list[Tensor] = []
    handle = tapped.map.register_forward_hook(lambda module, args, output: maps.append(output))
    try:
        logit = tapped(images.clone().requires_grad_())[0, target]
    finally:
        handle.remove()
    with _naming(tapped.layer):
        [gradient] = torch.autograd.grad(logit, maps)
    return maps[0].detach(), gradient


@contextmanager
def _naming(layer: str) -> Iterator[None]:
    """Refuse a layer that autograd does not find in the logits' graph."""
    try:
        yield
    except RuntimeError as error:
        if "not have been used in the graph" not in str(error):
            raise
        raise UserError(f"The logits do not depend on the layer {layer!r}; give another one.") from error


def depends_on(model: nn.Module, images: Tensor, method: Method, target: int, layer: str | None) -> bool:
    """Return whether a logit has a gradient at a layer's map, which class tokens' networks lack after their last block.

    Of methods without a layer, it is the gradient at the image. The arguments are those of :func:`attribute`.
    """
    if method in BY_LAYER:
        tapped = Tapped(model, default_layer(model, images) if layer is None else layer)
        return bool(_map_and_gradient(tapped, images, target)[1].any())
    images = images.clone().requires_grad_()
    [gradient] = torch.autograd.grad(model(images)[0, target], images)
    return bool(gradient.any())


def normalized(heat: NDArray[np.float32], method: Method) -> NDArray[np.float32]:
    """Return the map divided by its maximum, or, for integrated gradients, by a high percentile of what is positive.

    Args:
        heat: The map, not negative.
        method: The method.
    """
    positive = heat[heat > 0]
    if not positive.size:
        return np.zeros_like(heat, dtype=np.float32)
    top = np.percentile(positive, _BRIGHTEST) if method == "integrated_gradients" else positive.max()
    scaled: NDArray[np.float32] = np.clip(heat / top, 0, 1).astype(np.float32)
    return scaled
