"""Semantic segmentation: a backbone, norms on its feature maps, and a decoder (arXiv 2303.16900, section 4.2)."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from inceptionnext_lit.models.decoders import SemanticFPN, UperNet
from inceptionnext_lit.models.pyramid import STRIDES, SimplePyramid, StageMaps, channels_first_norm
from inceptionnext_lit.models.smp_decoders import SmpDecoderName, smp_decoder

DecoderName = Literal["upernet", "semantic_fpn", SmpDecoderName]
LevelNorm = Literal["batch", "layer", "none"]

DECODERS: dict[DecoderName, Callable[..., nn.Module]] = {
    "upernet": UperNet,
    "semantic_fpn": SemanticFPN,
    **{name: partial(smp_decoder, name) for name in get_args(SmpDecoderName)},
}
_NORMS: dict[LevelNorm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": channels_first_norm,
    "none": lambda dim: nn.Identity(),
}
_STAGE = re.compile(r"\b(?:stages|layers)[._](\d+)[._](?!downsample)")
_STAGES = 4


class Segmenter(nn.Module):
    """Logits for each position of an image's first feature map, or for each pixel.

    Args:
        maps: The backbone, as :func:`~inceptionnext_lit.models.pyramid.feature_maps` returns it.
        num_classes: Number K of classes.
        decoder: ``upernet``, ``semantic_fpn``, or a decoder of segmentation_models_pytorch; see
            :class:`~inceptionnext_lit.models.smp_decoders.SmpDecoder`.
        level_norm: Norm on each of the backbone's four maps: a BatchNorm, as the authors of InceptionNeXt use it, a
            LayerNorm over channels, as ConvNeXt and Swin have it, or none.
        decoder_kwargs: The decoder's own arguments, such as ``width``.

    Shape:
        Images (N, C, H, W) to logits (N, K, H / 4, W / 4), or with some decoders (N, K, H, W); in training, UperNet
        also returns auxiliary logits (N, K, H / 16, W / 16).

    Raises:
        TypeError: If the decoder does not take an argument.
        UserError: If it cannot be built with these arguments, or its library is missing.
    """

    pretrained_cfg: ClassVar[dict[str, Any]] = {"classifier": ("norms", "decoder", "maps.scales")}

    def __init__(
        self,
        maps: StageMaps | SimplePyramid,
        num_classes: int,
        decoder: DecoderName = "upernet",
        level_norm: LevelNorm = "batch",
        decoder_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = maps.channels[-1]
        self.maps = maps
        head = DECODERS[decoder](maps.channels, num_classes=num_classes, **(decoder_kwargs or {}))
        used = getattr(head, "levels", range(len(STRIDES)))
        maps.keep(used)
        norms = [level_norm if level in used else "none" for level in range(len(STRIDES))]
        self.norms = nn.ModuleList(_NORMS[norm](dim) for norm, dim in zip(norms, maps.channels, strict=True))
        self.decoder = head

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify each position; in training, some decoders return auxiliary logits too."""
        maps = [norm(x) for norm, x in zip(self.norms, self.maps(images), strict=True)]
        logits: Tensor | tuple[Tensor, Tensor] = self.decoder(maps)
        return logits

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's activations in the backward pass."""
        cast(Any, self.maps.backbone).set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the backbone's parameters without weight decay, besides biases and norms."""
        own = getattr(self.maps.backbone, "no_weight_decay", set)
        return {f"maps.backbone.{name}" for name in own()}

    def decay_exponents(self) -> dict[str, int]:
        """Return how often each parameter's learning rate is multiplied by the layer decay.

        For backbones of four stages, these are the powers of ConvNeXt's segmentation code (``num_layers`` 6, stage by
        stage): 7 for the stem and all downsampling layers, 6, 5, 4 and 3 for the stages, 0 for everything else. For
        others, such as isotropic ones, the exponent falls by one with each block and is 1 in the last.
        """
        backbone = self.maps.backbone
        names = [name for name, _ in backbone.named_parameters()]
        exponents = {name: 0 for name, _ in self.named_parameters()}
        if isinstance(self.maps, StageMaps) and any(_STAGE.search(name) for name in names):
            stages = {name: _STAGE.search(name) for name in names}
            inside = {name: 2 + _STAGES - int(found[1]) for name, found in stages.items() if found is not None}
            below = dict.fromkeys(names, 3 + _STAGES) | inside
        else:
            depth = group_parameters(backbone, cast(Any, backbone).group_matcher(coarse=False), reverse=True)
            last = max(depth.values())
            below = {name: last - depth[name] + 1 for name in names}
        return exponents | {f"maps.backbone.{name}": power for name, power in below.items()}


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits to an image's size, bilinearly and in single precision, as MMSegmentation does.

    Args:
        logits: Shape (N, K, h, w).
        size: Height H and width W.

    Returns:
        Shape (N, K, H, W).
    """
    logits = logits.float()
    if logits.shape[-2:] == torch.Size(size):
        return logits
    return nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
