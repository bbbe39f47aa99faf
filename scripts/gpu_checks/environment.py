"""The card, the versions, and the bounds: matrix products and memory bandwidth."""

import platform
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from gpu_checks.reporting import Work
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.reports.benchmark.case import PRODUCTS, Product, best_rate
from inceptionnext_lit.reports.benchmark.timing import seconds_of

_ASKED = (
    *("name", "memory.total", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw"),
    *("power.limit", "temperature.gpu"),
)
_PACKAGES = ("triton", "timm", "lightning", "inceptionnext_lit")
_SECONDS = 0.2  # of a matrix product
_COPIES = 10
_REPEATS = 5


def describe_machine(work: Work) -> None:
    """Report the card, the versions, and what matrix products and copies reach."""
    device = torch.device(work.settings.device)
    found: dict[str, Any] = {"card": card_name(device), "cores": usable_cores(), "versions": versions()}
    found["smi"] = _smi(device)
    work.report(found)
    found["matmul_tflop_per_s"] = {}
    precisions = ("bf16", "tf32", "fp32") if device.type == "cuda" else ("bf16", "fp32")
    for precision in precisions:
        found["matmul_tflop_per_s"][precision] = _matmul(device, precision, work.settings.product)
        work.report(found)
    found["smi_after_products"] = _smi(device)
    found["copy_gb_per_s"] = copy_rate(device, work.settings.copied_mib)
    work.report(found)


def card_name(device: torch.device) -> str:
    """Return the name of the card, or of the processor without one."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Return the versions of what takes part; None if it is not there."""
    found: dict[str, str | None] = {"python": platform.python_version(), "torch": torch.__version__}
    found["cuda"] = torch.version.cuda
    number = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    found["cudnn"] = None if number is None else str(number)
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def copy_rate(device: torch.device, mib: int) -> float:
    """Return the bandwidth of a copy in GB/s, each byte counted as read and as written: the median of several.

    Args:
        device: Where to copy.
        mib: Size in MiB; more than any cache.
    """
    source = torch.ones(mib * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    for _ in range(3):
        target.copy_(source)
    seconds = [seconds_of(device, lambda: target.copy_(source), _COPIES) / _COPIES for _ in range(_REPEATS)]
    return 2e-9 * source.numel() / statistics.median(seconds)


def _matmul(device: torch.device, precision: str, side: int) -> float:
    """Return the best rate of matrix products in TFLOP/s, of those of the models and a large one."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def seconds_per_product(size: Product) -> float:
        rows, inner, columns = size
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        right = torch.randn(inner, columns, device=device, dtype=dtype)
        for _ in range(3):
            left @ right
        count = max(1, round(_SECONDS / max(seconds_of(device, lambda: left @ right, 3) / 3, 1e-6)))
        return seconds_of(device, lambda: left @ right, count) / count

    products = (*PRODUCTS, (side, side, side)) if device.type == "cuda" else ((side, side, side),)
    return best_rate(products, seconds_per_product) / 1000


def _smi(device: torch.device) -> dict[str, str] | None:
    """Return what nvidia-smi says of the card now; None if it says nothing."""
    if device.type != "cuda":
        return None
    known = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    which = [] if known is None else [f"--id=GPU-{known}"]
    command = ["nvidia-smi", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader", *which]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    first = said.strip().split("\n")[0]
    return dict(zip(_ASKED, (cell.strip() for cell in first.split(",")), strict=False))
