"""What a classifier costs: parameters, multiply-adds, speed on this machine, and the size of its file."""

import platform
import time
from pathlib import Path
from typing import Any

import lightning
import timm
import torch
import torchvision
from torch import nn

from inceptionnext_lit import __version__
from inceptionnext_lit.models.cost import image_macs
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width, size_text

_SECONDS = 1.0  # of measurement
_FEWEST = 3  # batches


def measure_cost(
    model: nn.Module, preprocessing: Preprocessing, *, device: torch.device, batch_size: int, path: Path | None
) -> dict[str, Any]:
    """Measure a model as ``predict`` runs it.

    Args:
        model: The model.
        preprocessing: Preprocessing of its input.
        device: Device to measure on.
        batch_size: Images per batch.
        path: The file of its weights.

    Returns:
        ``parameters``, ``macs`` of one image (None if they cannot be counted), ``image_size``, ``images_per_second`` of
        the model alone, ``measured_on`` and ``file_bytes``.
    """
    shape = (len(preprocessing["mean"]), *height_and_width(preprocessing))
    record: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": image_macs(model, shape),
        "image_size": size_text(preprocessing),
    }
    inference = deploy(model).eval().to(device)
    images = torch.randn(batch_size, *shape, device=device).to(memory_format=torch.channels_last)
    record["images_per_second"] = round(_rate(inference, images), 1)
    record["measured_on"] = f"{_device(device)}, batches of {batch_size}, float32"
    if path is not None and path.is_file():
        record["file_bytes"] = path.stat().st_size
    return record


@torch.inference_mode()
def _rate(model: nn.Module, images: torch.Tensor) -> float:
    model(images)  # the first batch allocates memory
    batches, start = 0, time.perf_counter()
    while batches < _FEWEST or time.perf_counter() - start < _SECONDS:
        model(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        batches += 1
    return batches * len(images) / (time.perf_counter() - start)


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def library_versions() -> dict[str, str]:
    """Return the versions of this package, its main libraries and Python."""
    return {
        "inceptionnext-lit": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
