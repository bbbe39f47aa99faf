"""The module that is exported: a segmentation model from pixels to classes, or from normalized images to logits."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from inceptionnext_lit.export.resampling import ToInput
from inceptionnext_lit.export.segmentation.resizing import FitToScale, without_adaptive_pools
from inceptionnext_lit.export.wrapper import Exportable, Input
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.tasks import SegmentationTask


class SegmenterGraph(Exportable):
    """A segmentation model with everything around it that ``predict`` does, in operations that can be exported.

    Each image is segmented once, as a whole.

    Args:
        task: The trained task; it is not changed, and its averaged weights are used if there are any.
        takes: ``"pixels"`` for bytes, ``"tensor"`` for normalized images.
        resizes: Whether pixels are of any size, and are resized to the test scale if there is one.
        with_probabilities: Whether to return the probabilities instead of the best class and its probability.
        deployed: Whether to fold the norms into the convolutions.

    Shape:
        Pixels, uint8 ``(N, H, W, 3)``, to class indices, uint8 ``(N, H, W)``, and their probability, float32
        ``(N, H, W)``; or to probabilities, float32 ``(N, K, H, W)``. Normalized images, float32 ``(N, C, H, W)``, to
        logits ``(N, K, H, W)``.

    Raises:
        UserError: If pixels are asked of a model that does not take RGB images.
    """

    other_size = (141, 203)  # the last maps have sides above 1, which would be constants

    def __init__(
        self,
        task: SegmentationTask,
        takes: Input,
        *,
        resizes: bool = True,
        with_probabilities: bool = False,
        deployed: bool = True,
    ) -> None:
        super().__init__(task.preprocessing, takes)
        own = task.inference_model
        model = deploy(own) if deployed else deepcopy(own).eval().requires_grad_(False)
        self.model: Any = without_adaptive_pools(model.float().cpu().to(memory_format=torch.contiguous_format))
        scale = self.preprocessing.get("scale")
        self.resize = FitToScale(scale) if takes == "pixels" and resizes and scale is not None else nn.Identity()
        self.to_input = ToInput(self.preprocessing) if takes == "pixels" else nn.Identity()
        self.multiple = task.segmentation.inference.multiple
        self.with_probabilities = with_probabilities
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Segment images."""
        if self.takes == "tensor":
            return _resized(self._logits(images), images)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)  # (N, H, W, 3) -> (N, 3, H, W)
        scores = _resized(self._logits(self.to_input(self.resize(pixels))), pixels).softmax(dim=1)
        if self.with_probabilities:
            return scores
        best = scores.amax(dim=1) + 0 * scores.sum(dim=1)  # NaN if any is, which a maximum may hide
        return scores.argmax(dim=1).to(torch.uint8), best

    def _logits(self, inputs: Tensor) -> Tensor:
        if self.multiple > 1:
            height, width = (_rounded_up(side, self.multiple) for side in inputs.shape[-2:])
            inputs = nn.functional.interpolate(inputs, size=(height, width), mode="bilinear", align_corners=False)
        return _resized(self.model(inputs), inputs)

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        if self.takes == "tensor":
            return ["logits"]
        return ["probabilities"] if self.with_probabilities else ["classes", "confidence"]


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _rounded_up(side: int, multiple: int) -> int:
    return (side + multiple - 1) // multiple * multiple  # without negative numbers, which ONNX divides otherwise
