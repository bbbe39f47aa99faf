"""The module that is exported: a classifier from pixels to probabilities, or from normalized images to logits."""

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.resampling import ResizeAndCrop, ToInput
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.wording import first_line

Input = Literal["pixels", "tensor"]


class Exportable(nn.Module, ABC):
    """A model with everything around it that ``predict`` does, in operations that can be exported.

    Args:
        preprocessing: Preprocessing of the model's input.
        takes: ``"pixels"`` for bytes, ``"tensor"`` for normalized images.

    Attributes:
        channels: Channels C of the images.
        size: Height and width of the model's input.
        other_size: Height and width of images to capture the graph with, so that no side is taken for a constant.

    Raises:
        UserError: If pixels are asked of a model that does not take RGB images.
    """

    other_size: tuple[int, int] = (45, 67)

    def __init__(self, preprocessing: Preprocessing | None, takes: Input) -> None:
        super().__init__()
        if preprocessing is None:
            raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
        self.preprocessing = preprocessing
        self.takes: Input = takes
        self.channels = len(preprocessing["mean"])
        self.size = height_and_width(preprocessing)
        if takes == "pixels" and self.channels != 3:
            raise UserError(
                f"--input pixels is for RGB images, and this model takes {self.channels} channels; give tensor."
            )

    @property
    @abstractmethod
    def outputs(self) -> list[str]:
        """Names of the outputs."""

    def example(self, batch: int, size: tuple[int, int] | None = None) -> Tensor:
        """Return random inputs.

        Args:
            batch: Number of images.
            size: Their height and width; None for those of the model's input.
        """
        height, width = size or self.size
        random = torch.Generator().manual_seed(0)
        if self.takes == "pixels":
            return torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=random)
        return torch.randn(batch, self.channels, height, width, generator=random)


class ExportedModel(Exportable):
    """A classifier with everything around it that ``predict`` does, in operations that can be exported.

    Args:
        task: The trained task; it is not changed, and its averaged weights are used if there are any.
        takes: ``"pixels"``: bytes to probabilities, divided by the task's temperature. ``"tensor"``: normalized images
            to logits.
        resizes: Whether pixels are of any size, and are resized and cropped; otherwise of the model's input size.
        with_features: Whether to return the pooled embedding too.
        deployed: Whether to fold the norms into the convolutions.

    Shape:
        Pixels, uint8 ``(N, H, W, 3)``, or images, float32 ``(N, C, H, W)``, to ``(N, classes)`` and features
        ``(N, F)``.

    Raises:
        UserError: If pixels are asked of a model that does not take RGB images, or features of one without any.
    """

    lost: Tensor

    def __init__(
        self,
        task: ClassificationTask,
        takes: Input,
        *,
        resizes: bool = True,
        with_features: bool = False,
        deployed: bool = True,
    ) -> None:
        super().__init__(task.preprocessing, takes)
        preprocessing = self.preprocessing
        own = task.inference_model
        model = deploy(own) if deployed else deepcopy(own).eval().requires_grad_(False)
        self.model: Any = model.float().cpu().to(memory_format=torch.contiguous_format)
        self.with_features = with_features
        self.resize = ResizeAndCrop(preprocessing) if takes == "pixels" and resizes else nn.Identity()
        self.to_input = ToInput(preprocessing) if takes == "pixels" else nn.Identity()
        self.temperature = task.calibration.temperature
        self.multi_label = task.data_spec.multi_label
        self.mirrors = task.execution.test_time_flip
        self.register_buffer("lost", torch.tensor(torch.nan), persistent=False)
        self._targets = task.targets
        self.eval().requires_grad_(False)
        if with_features:
            self._check_features()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify images."""
        if self.takes == "pixels":
            images = images.permute(0, 3, 1, 2).to(torch.float32)  # (N, H, W, 3) -> (N, 3, H, W)
            images = self.to_input(self.resize(images))
        maps = self.model.forward_features(images) if self.with_features else None
        logits = self.model(images) if maps is None else self.model.forward_head(maps)
        if self.mirrors:
            logits = self._targets.average(logits, self.model(images.flip(-1)))
        scores = self.probabilities(logits) if self.takes == "pixels" else logits
        return scores if maps is None else (scores, self.model.forward_head(maps, pre_logits=True))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities; NaN for an image with a NaN or infinite logit, which a sigmoid would hide."""
        scaled = logits / self.temperature
        if not self.multi_label:
            return scaled.softmax(dim=1)
        is_finite = logits.abs().sum(dim=1, keepdim=True) < torch.inf
        return torch.where(is_finite, scaled.sigmoid(), self.lost)

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        scores = "probabilities" if self.takes == "pixels" else "logits"
        return [scores, "features"] if self.with_features else [scores]

    def _check_features(self) -> None:
        """Refuse models whose head does not have an embedding of its own."""
        try:
            with torch.no_grad():
                _, features = self(self.example(2))
        except (AttributeError, TypeError, RuntimeError) as error:
            raise UserError(f"--features is for models with a pooled embedding: {first_line(error)}.") from error
        if features.ndim != 2:
            raise UserError(f"--features is for models with a pooled embedding; this one has {features.ndim - 1} axes.")
