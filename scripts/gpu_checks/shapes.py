"""The depthwise mixers of the models, and the maps that they are used on."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

import inceptionnext_lit  # noqa: F401 - registers the family's models
from gpu_checks.settings import Settings
from inceptionnext_lit.models.mixers import InceptionDWConv2d

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass
class Shape:
    """A mixer on a map.

    Attributes:
        module: The mixer on the meta device, in torch's form.
        branches: Names of its convolutions in the order of their channels, the last ones of the map.
        channels: Channels of the map.
        height: Its height.
        width: Its width.
        models: The models that have it.
    """

    module: nn.Module
    branches: tuple[str, ...]
    channels: int
    height: int
    width: int
    models: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The kernels of the branches, as in ``3×3, 1×11, 11×1``."""
        sizes = [f"{height}×{width}" for height, width in (conv.kernel_size for conv in self.convs(self.module))]
        return ", ".join(sizes)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it different from others."""
        return (self.title, self.convs(self.module)[0].in_channels, self.channels, self.height, self.width)

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "kernels": self.title,
            "map": f"{self.channels}×{self.height}×{self.width}",
            "models": list(dict.fromkeys(self.models)),
        }

    def convs(self, module: nn.Module) -> list[nn.Conv2d]:
        """Return the convolutions of a module like this one."""
        return [module.get_submodule(name) for name in self.branches]  # type: ignore[misc]

    def on(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return the mixer with random parameters in float32 that a dtype represents exactly."""
        module = copy.deepcopy(self.module).to_empty(device=device)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_((torch.randn_like(parameter) / parameter[0].numel() ** 0.5).to(dtype))
        return module

    def maps(self, batch_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return random maps with channels-last strides."""
        size = (batch_size, self.channels, self.height, self.width)
        return torch.randn(size, device=device).to(dtype, memory_format=torch.channels_last)


def find_shapes(settings: Settings) -> list[Shape]:
    """Return the different shapes of T, S, isotropic S and ConvNeXt-T, at the image size of the settings."""
    found: dict[tuple[Any, ...], Shape] = {}
    for name in (settings.tiny, settings.small, settings.iso, settings.convnext):
        with torch.device("meta"):
            model = timm.create_model(name).eval()
        mixers = [(module, _branches(path, module)) for path, module in model.named_modules()]
        hooks = [module.register_forward_hook(_Note(found, name, branches)) for module, branches in mixers if branches]
        with torch.no_grad():
            model(torch.zeros(1, 3, settings.image_size, settings.image_size, device="meta"))
        for hook in hooks:
            hook.remove()
    return [*found.values()]


def _branches(path: str, module: nn.Module) -> tuple[str, ...]:
    """Return the names of a mixer's convolutions; none if a module is not a mixer. The name of itself is empty."""
    if isinstance(module, InceptionDWConv2d):
        return tuple(name for name in ("dwconv_hw", "dwconv_w", "dwconv_h") if getattr(module, name) is not None)
    return ("",) if path.endswith("conv_dw") and isinstance(module, nn.Conv2d) and module.stride == (1, 1) else ()


class _Note:
    """A hook that notes a mixer's input."""

    def __init__(self, found: dict[tuple[Any, ...], Shape], model: str, branches: Sequence[str]) -> None:
        self._found, self._model, self._branches = found, model, tuple(branches)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        _, channels, height, width = inputs[0].shape
        shape = Shape(module, self._branches, channels, height, width)
        self._found.setdefault(shape.key, shape).models.append(self._model)


def exact(x: Tensor, convs: Sequence[nn.Conv2d]) -> tuple[Tensor, list[Tensor]]:
    """Compute a mixer in double precision.

    Args:
        x: Maps.
        convs: Its convolutions.

    Returns:
        The result, and what it can be differentiated by: the maps, and each convolution's weight and bias.
    """
    inputs = [tensor.detach().double().requires_grad_() for tensor in (x, *parameters(convs))]
    doubled, *rest = inputs
    widths = [conv.in_channels for conv in convs]
    first, *groups = doubled.split([x.shape[1] - sum(widths), *widths], dim=1)
    parts = [first]
    for group, conv, weight, bias in zip(groups, convs, rest[::2], rest[1::2], strict=True):
        parts.append(functional.conv2d(group, weight, bias, padding=conv.padding, groups=conv.groups))
    return torch.cat(parts, dim=1), inputs


def parameters(convs: Sequence[nn.Conv2d]) -> list[Tensor]:
    """Return each convolution's weight and bias."""
    return [parameter for conv in convs for parameter in (conv.weight, conv.bias) if parameter is not None]
