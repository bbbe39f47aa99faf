"""What is measured, on a GPU and, to try the check itself, on a CPU."""

from dataclasses import dataclass
from typing import Literal

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class Settings:
    """Models and sizes.

    Attributes:
        device: Where models run.
        batch_size: Images per step.
        image_size: Side of the images in pixels.
        tiny: InceptionNeXt-T.
        small: InceptionNeXt-S.
        iso: Isotropic InceptionNeXt-S.
        convnext: ConvNeXt-T.
        deit: DeiT-S.
        timm: timm's own InceptionNeXt-T.
        variants: The variants of ``benchmark`` that are measured.
        at_once: Cases of ``benchmark`` that get ready at the same time.
        types: Types in which kernels are timed, the most important first.
        rounds: Rounds in which sides take turns.
        seconds: Least duration of a side in a round of ``benchmark``.
        runs: Runs of a kernel in a round.
        product: Side of the large square matrix product.
        copied_mib: Size of the copy that measures the bandwidth.
        photos: Generated JPEGs.
        photo_size: Their width and height in pixels.
        steps: Steps of ``fit`` that are timed.
        warm_up: Steps of ``fit`` before them. They also use up what the loader read ahead.
        overhead_batch_size: Images per step where ``fit`` is compared with a bare loop.
        overhead_rounds: Rounds of that comparison.
    """

    device: Device
    batch_size: int
    image_size: int
    tiny: str
    small: str
    iso: str
    convnext: str
    deit: str
    timm: str
    variants: tuple[str, ...]
    at_once: int
    types: tuple[str, ...]
    rounds: int
    seconds: float
    runs: int
    product: int
    copied_mib: int
    photos: int
    photo_size: tuple[int, int]
    steps: int
    warm_up: int
    overhead_batch_size: int
    overhead_rounds: int


GPU = Settings(
    device="cuda",
    batch_size=128,
    image_size=224,
    tiny="inceptionnext_tiny",
    small="inceptionnext_small",
    iso="inceptionnext_iso_small",
    convnext="convnext_tiny",
    deit="deit_small_patch16_224",
    timm="inception_next_tiny",
    variants=("eager", "kernels", "compile", "compile+kernels", "deploy+compile", "deploy+compile+kernels"),
    at_once=12,
    types=("bf16", "fp32", "fp16"),
    rounds=5,
    seconds=0.4,
    runs=10,
    product=8192,
    copied_mib=1024,
    photos=1920,
    photo_size=(500, 375),
    steps=30,
    warm_up=60,
    overhead_batch_size=64,
    overhead_rounds=2,
)
CPU = Settings(
    device="cpu",
    batch_size=2,
    image_size=32,
    tiny="inceptionnext_iso_micro",
    small="inceptionnext_iso_micro",
    iso="inceptionnext_iso_micro",
    convnext="convnext_atto",
    deit="deit_tiny_patch16_224",
    timm="inception_next_atto",
    variants=("eager",),
    at_once=1,
    types=("fp32",),
    rounds=2,
    seconds=0.01,
    runs=2,
    product=64,
    copied_mib=1,
    photos=40,
    photo_size=(48, 40),
    steps=3,
    warm_up=2,
    overhead_batch_size=2,
    overhead_rounds=1,
)
SETTINGS = {"cuda": GPU, "cpu": CPU}
