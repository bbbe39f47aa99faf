"""Options of segmentation tasks."""

from dataclasses import dataclass, field
from typing import Any

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.pyramid import SimplePyramid, StageMaps
from inceptionnext_lit.models.segmenter import DecoderName, LevelNorm, Segmenter
from inceptionnext_lit.tasks.segmentation.inference import InferenceOptions
from inceptionnext_lit.tasks.segmentation.losses import PixelLossOptions


@dataclass(frozen=True)
class SegmentationOptions:
    """The decoder, the loss, and how whole images are segmented.

    Args:
        decoder: ``upernet`` (arXiv 1807.10221) or ``semantic_fpn`` (arXiv 1901.02446); or a decoder of
            segmentation_models_pytorch: ``unet``, ``unetplusplus``, ``manet``, ``linknet``, ``fpn``, ``pspnet``,
            ``deeplabv3``, ``deeplabv3plus``, ``pan`` or ``segformer``.
        level_norm: Norm on each of the backbone's four maps: ``batch``, ``layer`` or ``none``.
        decoder_kwargs: The decoder's own arguments, such as ``width``.
        aux_weight: Weight of the loss of UperNet's auxiliary head.
        loss: The training loss.
        inference: How whole images are segmented.

    Raises:
        UserError: If a value is out of range.
    """

    decoder: DecoderName = "upernet"
    level_norm: LevelNorm = "batch"
    decoder_kwargs: dict[str, Any] | None = None
    aux_weight: float = 0.4
    loss: PixelLossOptions = field(default_factory=PixelLossOptions)
    inference: InferenceOptions = field(default_factory=InferenceOptions)

    def __post_init__(self) -> None:
        check_choices(self, "model.segmentation")
        if not 0 <= self.aux_weight <= 10:
            raise UserError(f"model.segmentation.aux_weight is {self.aux_weight}; it must be 0 to 10.")

    def build(self, maps: StageMaps | SimplePyramid, num_classes: int) -> Segmenter:
        """Return the model.

        Args:
            maps: The backbone, as :func:`~inceptionnext_lit.models.pyramid.feature_maps` returns it.
            num_classes: Number of classes.

        Raises:
            UserError: If the decoder does not take one of its arguments.
        """
        try:
            return Segmenter(maps, num_classes, self.decoder, self.level_norm, self.decoder_kwargs)
        except TypeError as error:
            raise UserError(
                f"The decoder {self.decoder} does not take model.segmentation.decoder_kwargs "
                f"{self.decoder_kwargs}: {error}."
            ) from error
