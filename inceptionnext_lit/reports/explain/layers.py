"""The layer of a network that a heat map is computed for, as a map (N, C, H, W) in whatever layout it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import did_you_mean


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds a map.

    Attributes:
        kind: ``NCHW``, ``NHWC``, or ``NLC`` for a sequence of tokens in the rows' order.
        height: Height of the map.
        width: Width of the map.
        prefix: Number of tokens before those of the map, such as the class token.
    """

    kind: Literal["NCHW", "NHWC", "NLC"]
    height: int
    width: int
    prefix: int = 0

    def to_map(self, output: Tensor) -> Tensor:
        """Return the map, (N, C, H, W)."""
        if self.kind == "NCHW":
            return output
        if self.kind == "NHWC":
            return output.permute(0, 3, 1, 2)
        tokens = output[:, self.prefix :]  # (N, L, C)
        return tokens.transpose(1, 2).reshape(len(tokens), -1, self.height, self.width)

    def restore(self, maps: Tensor, output: Tensor) -> Tensor:
        """Return the layer's output with another map.

        Args:
            maps: The map, (N, C, H, W).
            output: The layer's output, for the tokens before the map's.
        """
        if self.kind == "NCHW":
            return maps.clone()  # the next layer may work in place
        if self.kind == "NHWC":
            return maps.permute(0, 2, 3, 1).clone()
        return torch.cat([output[:, : self.prefix], maps.flatten(2).transpose(1, 2)], dim=1)


def find_layout(output: object, images: torch.Size, model: nn.Module) -> Layout | None:
    """Return how a layer's output holds a map of the images; None if it does not.

    A map has the images' aspect ratio, up to the rounding of strides. If both layouts are possible, timm's
    ``output_fmt`` of the model decides.

    Args:
        output: What the layer returned.
        images: Shape of the images, (N, C, H, W).
        model: The network, for its number of tokens before the map.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or len(output) != images[0]:
        return None
    height, width = images[-2:]
    if output.ndim == 3:
        for prefix in dict.fromkeys((int(getattr(model, "num_prefix_tokens", 0) or 0), 0, 1)):
            grid = _grid(output.shape[1] - prefix, height, width)
            if grid is not None:
                return Layout("NLC", *grid, prefix)
        return None
    first = getattr(model, "output_fmt", "NCHW") == "NHWC"
    candidates = [Layout("NCHW", *output.shape[2:]), Layout("NHWC", *output.shape[1:3])]
    candidates = [one for one in candidates[:: -1 if first else 1] if _fits(one.height, one.width, height, width)]
    return min(candidates, key=lambda one: abs(math.log(one.height * width / one.width / height)), default=None)


def _grid(tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """Return the rows and columns of a sequence of tokens with the images' aspect ratio."""
    rows = round(math.sqrt(max(tokens, 0) * height / width))
    if rows < 1 or tokens % rows or not _fits(rows, tokens // rows, height, width):
        return None
    return rows, tokens // rows


def _fits(rows: int, columns: int, height: int, width: int) -> bool:
    """Return whether one stride, with its rounding, gives these rows and columns for an image of this size."""
    if rows > height or columns > width:
        return False
    least = max(height / (rows + 1), width / (columns + 1))
    most = min(height / max(rows - 1, 0.5), width / max(columns - 1, 0.5))
    return least < most


class Tapped(nn.Module):
    """A network whose map of one layer passes through a module, :attr:`map`, as (N, C, H, W).

    Libraries that attribute to a layer expect its output in that layout; others, (N, H, W, C) and sequences of tokens,
    give them meaningless maps without an error. They are given :attr:`map` instead of the layer.

    Args:
        model: The network.
        layer: Name of one of its modules.

    Raises:
        UserError: If there is no such layer, with the nearest names; or (in ``forward``) it does not run exactly once,
            or does not return a map of the images.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        modules = dict(model.named_modules())
        if not layer or layer not in modules:
            hint = did_you_mean(layer, [name for name in modules if name], otherwise="name one of its modules.")
            raise UserError(f"The model has no layer {layer!r}; {hint}")
        self.model, self.layer = model, layer
        self.map = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (N, C, H, W)."""
        calls = 0

        def pass_through(module: nn.Module, args: Any, output: Any) -> Tensor:
            nonlocal calls
            calls += 1
            layout = find_layout(output, images.shape, self.model)
            if layout is None:
                given = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
                raise UserError(
                    f"The layer {self.layer!r} does not return a map of the image, but {given}; give a layer before "
                    "the pooling, such as the default one."
                )
            return layout.restore(self.map(layout.to_map(output)), output)

        handle = self.model.get_submodule(self.layer).register_forward_hook(pass_through)
        try:
            logits: Tensor = self.model(images)
        finally:
            handle.remove()
        if calls != 1:
            raise UserError(
                f"The layer {self.layer!r} runs {calls} times for an image, but it must run once; give another layer."
            )
        return logits


def default_layer(model: nn.Module, images: Tensor) -> str:
    """Return the name of the last layer with a map before the pooling.

    It is the last block. Of a block with attention it is the first norm: the block's output reaches a class token's
    logits only through the block itself.

    Args:
        model: The network, in eval mode.
        images: A batch, (N, C, H, W), which is run if the network does not say where its maps are.

    Raises:
        UserError: If no layer has a map.
    """
    modules = dict(model.named_modules())
    info = getattr(model, "feature_info", None)
    info = getattr(info, "info", info)
    name = str(info[-1].get("module", "")) if info else ""
    if name not in modules or not name:
        return _last_map(model, images)
    while inner := _last_child(name, modules[name]):
        name = inner
    attends = isinstance(getattr(modules[name], "attn", None), nn.Module)
    return f"{name}.norm1" if attends and f"{name}.norm1" in modules else name


def _last_child(name: str, module: nn.Module) -> str | None:
    blocks = getattr(module, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks):
        return f"{name}.blocks.{len(blocks) - 1}"
    names = [child for child, _ in module.named_children()] if isinstance(module, nn.Sequential) else []
    return f"{name}.{names[-1]}" if names else None


def _last_map(model: nn.Module, images: Tensor) -> str:
    """Return the name of the module that returned the last map of more than one position."""
    found: list[str] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            layout = find_layout(output, images.shape, model)
            if layout is not None and layout.height * layout.width > 1:
                found.append(name)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UserError("No layer of the model returns a map of the image; give one with --layer NAME.")
    return found[-1]
