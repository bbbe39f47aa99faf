"""Decoders of segmentation_models_pytorch over four feature maps."""

import inspect
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional as F

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.decoders import LEVELS

SmpDecoderName = Literal[
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "segformer"
]


class _Use(NamedTuple):
    """How a decoder uses the maps, whose strides are 4, 8, 16 and 32.

    Attributes:
        stride: Stride to which the last map is resized, for decoders that expect a dilated backbone.
        logits: Stride of the logits.
        levels: Indices of the maps that it uses.
        least: Minimum side of the last map, before it is resized.
    """

    stride: int = 32
    logits: int = 1
    levels: tuple[int, ...] = (0, 1, 2, 3)
    least: int = 1


_USES: Mapping[SmpDecoderName, _Use] = {
    "unet": _Use(),
    "unetplusplus": _Use(),
    "manet": _Use(),
    "linknet": _Use(),
    "fpn": _Use(logits=4),
    "pspnet": _Use(stride=8, logits=8, levels=(3,)),
    "deeplabv3": _Use(stride=8, logits=8, levels=(3,)),
    "deeplabv3plus": _Use(stride=16, logits=4, levels=(0, 3)),
    "pan": _Use(stride=16, logits=4, least=4),  # it pools the last map three times
    "segformer": _Use(logits=4),
}
_OURS = {"encoder_name", "encoder_weights", "encoder_depth", "encoder_output_stride", "in_channels", "classes"}
_OURS |= {"activation", "aux_params", "upsampling"}
_ENCODER = "inceptionnext_lit_maps"
_DEPTH = 5


class SmpDecoder(nn.Module):
    """A decoder of segmentation_models_pytorch, with its head.

    The maps are given to it as those of an encoder without a map of stride 2. DeepLabV3, DeepLabV3+, PSPNet and PAN
    expect a backbone with dilated convolutions; the last map is resized to that stride instead. Maps are padded with
    zeros on the right and at the bottom so that each is twice as large as the next one.

    Args:
        name: Its name.
        channels: Channels of the four maps, finest first.
        num_classes: Number K of logits per position.
        options: Its own arguments, named as in segmentation_models_pytorch, such as ``decoder_channels``.

    Attributes:
        levels: Indices of the maps that it uses.

    Shape:
        Four maps to logits: ``(N, K, 4 H_0, 4 W_0)`` of ``unet``, ``unetplusplus``, ``manet`` and ``linknet``,
        ``(N, K, H_0, W_0)`` of the others.

    Raises:
        TypeError: If the decoder does not take an argument.
        UserError: If a value is out of its range, or the library is missing.
    """

    def __init__(
        self, name: SmpDecoderName, channels: Sequence[int], num_classes: int, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self._use = _USES[name]
        self.levels = self._use.levels
        whole = _create(name, channels, num_classes, options)
        self.decoder = cast(nn.Module, whole.decoder)
        self.head = cast(nn.Module, whole.segmentation_head)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Classify each position."""
        height, width = maps[0].shape[-2:] if 0 in self.levels else (8 * side for side in maps[-1].shape[-2:])
        rows, columns = self._sides(maps)
        padded: list[Tensor] = []
        for level, x in enumerate(maps):
            factor = 2 ** (LEVELS - 1 - level)
            used = level in self.levels
            padded.append(_padded(x, rows * factor, columns * factor) if used else x)
        if (factor := 32 // self._use.stride) > 1:
            padded[-1] = _resized(padded[-1], rows * factor, columns * factor)
        empty = padded[-1].new_empty(len(padded[-1]), 0, 32 * rows, 32 * columns)
        logits: Tensor = self.head(self.decoder([empty, empty[..., ::2, ::2], *padded]))
        if self._use.logits > 4:
            logits = _resized(logits, 8 * rows, 8 * columns)
        scale = max(1, 4 // self._use.logits)
        return logits[..., : height * scale, : width * scale]

    def _sides(self, maps: Sequence[Tensor]) -> tuple[int, int]:
        """Return the height and width of the last map, padded."""
        sides = [self._use.least, self._use.least]
        for level in self.levels:
            factor = 2 ** (LEVELS - 1 - level)
            found = maps[level].shape[-2:]
            sides = [max(side, -(-now // factor)) for side, now in zip(sides, found, strict=True)]
        return sides[0], sides[1]


def smp_decoder(name: SmpDecoderName, channels: Sequence[int], num_classes: int = 150, **options: Any) -> SmpDecoder:
    """Create a decoder; arguments as those of :class:`SmpDecoder`."""
    return SmpDecoder(name, channels, num_classes, options)


def _create(name: SmpDecoderName, channels: Sequence[int], num_classes: int, options: Mapping[str, Any]) -> Any:
    """Create a model of segmentation_models_pytorch around maps with these channels."""
    if find_spec("segmentation_models_pytorch") is None:
        raise UserError(
            f"The decoder {name} needs segmentation_models_pytorch; install it with "
            "pip install 'inceptionnext-lit[smp]'."
        )
    import segmentation_models_pytorch as smp

    cls = smp.MODEL_ARCHITECTURES_MAPPING[name]
    taken = set(inspect.signature(cls).parameters) - _OURS - {"kwargs"}
    if unknown := sorted(options.keys() - taken):
        raise TypeError(f"it takes {', '.join(sorted(taken))}, not {', '.join(unknown)}")
    own = {"encoder_name": _ENCODER, "encoder_weights": None, "encoder_depth": _DEPTH, "classes": num_classes}
    if "upsampling" in inspect.signature(cls).parameters:
        own["upsampling"] = 1
    # the documented way to give a model another encoder
    smp.encoders.encoders[_ENCODER] = {"encoder": _Encoder, "params": {"channels": list(channels)}}
    try:
        return cls(**own, **options)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"The decoder {name} cannot be built with model.segmentation.decoder_kwargs {dict(options)}: "
            f"{str(error).rstrip('.')}."
        ) from error
    finally:
        del smp.encoders.encoders[_ENCODER]


class _Encoder(nn.Module):
    """What a decoder needs to know of its encoder: the channels of each map, of which that of stride 2 has none."""

    output_stride = 32

    def __init__(self, channels: Sequence[int], depth: int, output_stride: int) -> None:
        super().__init__()
        self.out_channels = [3, 0, *channels]

    def set_in_channels(self, in_channels: int, pretrained: bool) -> None:
        """Do nothing: the backbone has its channels."""

    def make_dilated(self, output_stride: int) -> None:
        """Do nothing: the last map is resized."""


def _padded(x: Tensor, height: int, width: int) -> Tensor:
    below, right = height - x.shape[-2], width - x.shape[-1]
    return F.pad(x, (0, right, 0, below)) if below or right else x


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
