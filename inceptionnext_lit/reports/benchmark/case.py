"""A benchmark case: a model in one form. This module does not import torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from inceptionnext_lit.export.formats import FORMATS
from inceptionnext_lit.preprocessing import Size

Mode = Literal["infer", "train"]
Precision = Literal["fp32", "tf32", "bf16", "int8"]
TorchVariant = Literal[
    "eager",
    "compile",
    "deploy",
    "deploy+compile",
    "kernels",
    "compile+kernels",
    "deploy+kernels",
    "deploy+compile+kernels",
]
Layout = Literal["best", "channels_last", "contiguous"]
OWN = "own"
"""The decoder of a checkpoint."""

TORCH_VARIANTS: tuple[str, ...] = get_args(TorchVariant)
TRAINED_VARIANTS = tuple(variant for variant in TORCH_VARIANTS if "deploy" not in variant)
WARM_UPS = 2  # the second one compiles
_LEAST_STEPS = 3  # per round
Product = tuple[int, int, int]  # rows, inner dimension and columns
PRODUCTS: tuple[Product, ...] = (
    (50176, 96, 384), (12544, 192, 768), (3136, 384, 1536), (784, 768, 2304), (2048, 2048, 2048)
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """An exported form of a model.

    Attributes:
        format: The format of the file.
        precision: What it computes in.
    """

    format: str
    precision: Precision


FORMS: dict[str, Form] = {
    "onnx": Form("onnx", "fp32"),
    "openvino": Form("openvino", "fp32"),
    "openvino-bf16": Form("openvino", "bf16"),
    "pt2": Form("pt2", "fp32"),
    "aoti": Form("aoti", "fp32"),
    **{f"{one.name}-int8": Form(one.name, "int8") for one in FORMATS.values() if one.int8 is not None},
}
VARIANTS: tuple[str, ...] = (*TORCH_VARIANTS, *FORMS)


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: A timm model name, a checkpoint of ``fit``, or an exported file.
        variant: ``eager``; ``compile`` (with freezing for inference); ``kernels``, with Triton kernels for the mixers;
            ``deploy``, the inference form, whose weights have the given precision too; several of them; or one of
            :data:`FORMS`, an exported file, which runs on the CPU.
        mode: Inference, or a training step: forward, loss, backward and a step of AdamW.
        precision: ``bf16`` is autocast, except for ``deploy`` and exported files; ``tf32`` uses a GPU's TF32 units for
            matrix products and convolutions; ``fp32`` uses full precision for both.
        layout: Memory layout of images and weights in torch; ``best`` tries both.
        batch_size: Images per step.
        image_size: Height of the images in pixels.
        threads: CPU threads.
        keeps_memory: Whether the allocator keeps freed memory.
        file: The exported file, for the variants of :data:`FORMS`.
        width: Width of the images in pixels; None for square ones.
        decoder: Of a segmentation model, its decoder, or ``own`` for a checkpoint; None for a classifier.
    """

    model: str
    variant: str
    mode: Mode
    precision: Precision
    layout: Layout
    batch_size: int
    image_size: int
    threads: int
    keeps_memory: bool
    file: str | None = None
    width: int | None = None
    decoder: str | None = None

    @property
    def size(self) -> Size:
        """Height and width of the images in pixels."""
        return self.image_size, self.image_size if self.width is None else self.width

    @property
    def title(self) -> str:
        """The model, with its decoder."""
        return self.model if self.decoder in (None, OWN) else f"{self.model} + {self.decoder}"

    @property
    def runtime(self) -> str:
        """What runs it: ``torch``, or the format of its file."""
        return "torch" if self.file is None else self.variant.partition("-")[0]


class Ready(Protocol):
    """A case that is ready to run.

    Attributes:
        case: What is measured.
        warm_up_s: Seconds until it was ready, including compilation.
        layout: The memory layout in use; None if the runtime chooses it.
    """

    case: Case
    warm_up_s: float
    layout: str | None

    @property
    def device_name(self) -> str:
        """The device in use."""
        ...

    def images_per_s(self, seconds: float) -> float:
        """Run for at least this many seconds and three steps, and return the images per second."""
        ...

    def matmul_gflop_per_s(self, products: tuple[Product, ...]) -> float | None:
        """Return the best speed of several matrix products in this precision; None if it cannot be measured."""
        ...

    def peak_memory_mib(self) -> float | None:
        """Return the peak memory since the warm-up."""
        ...


def steps_in(seconds: float, one_step: float) -> int:
    """Return how many steps to run.

    Args:
        seconds: The least duration.
        one_step: Seconds that a step takes.
    """
    return max(_LEAST_STEPS, math.ceil(seconds / one_step))


def best_rate(products: tuple[Product, ...], seconds_of: Callable[[Product], float]) -> float:
    """Return the best speed of several matrix products in GFLOP/s.

    Args:
        products: Their sizes.
        seconds_of: Measures one of them.
    """
    return max(2e-9 * rows * inner * columns / seconds_of((rows, inner, columns)) for rows, inner, columns in products)
