"""The kernels as machine code of NVIDIA GPUs, which Triton's wheel generates without one."""

import itertools
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from inceptionnext_lit.models.kernels import depthwise, moments, weight_grads  # noqa: E402

PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
pytestmark = pytest.mark.skipif(not PTXAS.exists(), reason="this build of Triton has no assembler of NVIDIA's")
TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
INCEPTION = [3, 3, 1, 11, 11, 1]
# channels, side of the map and width of a branch: the stages of InceptionNeXt-T, iso S, atto's first and ConvNeXt-T's
STAGES = [(96, 56, 12), (192, 28, 24), (384, 14, 48), (768, 7, 96), (40, 56, 10)]
Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Launch]:
    """Collects the launches instead of running them."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    launches: list[Launch] = []

    class Recorder:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            assert 0 < grid[0] < 2**31
            return lambda *values, **options: launches.append((self.kernel, values, options))

    for module, name in ((depthwise, "_forward"), (moments, "_join"), (weight_grads, "_backward")):
        monkeypatch.setattr(module, name, Recorder(getattr(module, name)))
    return launches


def machine_code(launch: Launch, capability: int, folder: Path) -> tuple[str, int, int]:
    """Return a kernel's PTX, its registers per thread and the bytes that it spills."""
    kernel, values, options = launch
    warps = options["num_warps"]
    constants = {name: value for name, value in options.items() if name != "num_warps"}
    signature = {name: "constexpr" for name in constants}
    for name, value in zip(kernel.arg_names, values, strict=False):
        signature[name] = TYPES[value.dtype] if isinstance(value, Tensor) else "i32" if value < 2**31 else "i64"
    signature = {name: signature[name] for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    code = compiled.asm["ptx"]
    (folder / "kernel.ptx").write_text(code)
    target = re.search(r"\.target (\w+)", code)
    assert target is not None
    words = [PTXAS, "-v", f"--gpu-name={target[1]}", folder / "kernel.ptx", "-o", folder / "kernel.cubin"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    registers, spilled = re.search(r"Used (\d+) registers", told), re.search(r"(\d+) bytes spill stores", told)
    assert registers is not None
    assert spilled is not None
    return code, int(registers[1]), int(spilled[1])


def loops(code: str) -> list[str]:
    """Return the bodies of the loops in PTX, from a label to the branch that goes back to it."""
    found = []
    for branch in re.finditer(r"\bbra(?:\.uni)?\s+(\$L__BB\w+);", code):
        start = code.find(f"{branch[1]}:")
        if 0 <= start < branch.start():
            found.append(code[start : branch.start()])
    return found


def maps(channels: int, side: int, width: int, sizes: list[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x = torch.empty(128, channels, side, side, dtype=dtype, device="meta").to(memory_format=torch.channels_last)
    rows = sum(h * w + 1 for h, w in zip(sizes[::2], sizes[1::2], strict=True))
    return x, torch.empty(rows, width, device="meta")


def run_all(x: Tensor, taps: Tensor, sizes: list[int]) -> None:
    depthwise.convolve(x, taps, sizes)
    depthwise.convolve(x, taps, sizes, mirror=True)
    moments.convolve_and_measure(x, taps, sizes)
    weight_grads.weight_grads(x, x, taps.shape[1], sizes)


BUILDS = [*itertools.product(STAGES, TYPES, [90]), *itertools.product(STAGES[1:2], TYPES, [80])]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "dtype", "capability"), BUILDS)
def test_inception(
    stage: tuple[int, int, int], dtype: torch.dtype, capability: int, recorded: list[Launch], tmp_path: Path
) -> None:
    run_all(*maps(*stage, INCEPTION, dtype), INCEPTION)
    assert len(recorded) == 5
    for launch in recorded:
        code, registers, spilled = machine_code(launch, capability, tmp_path)
        assert spilled == 0
        assert registers <= 255
        assert not re.search(r"\b(?:div|rem)\.[su]", code)  # of integers: thirty instructions each
        if stage[0] % 96 == 0 and launch[0].arg_names[0] == "x":  # channels that vectors divide
            # maps are read in vectors of 8 or 16 bytes, except small parts of the gradient
            wide = len(re.findall(r"ld\.global\S*\.v[24]\.b32", code))
            narrow = len(re.findall(r"ld\.global\S*\.b(?:16|32)", code)) - wide
            assert wide > 3 * narrow
            assert not any("bar.sync" in body for body in loops(code))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_square(kernel: int, dtype: torch.dtype, recorded: list[Launch], tmp_path: Path) -> None:
    run_all(*maps(192, 28, 192, [kernel, kernel], dtype), [kernel, kernel])
    for launch in recorded:
        assert machine_code(launch, 90, tmp_path)[2] == 0


def test_one_of_each(recorded: list[Launch], tmp_path: Path) -> None:
    run_all(*maps(24, 9, 8, [3, 3], torch.bfloat16), [3, 3])
    for launch in recorded:
        assert "st.global" in machine_code(launch, 90, tmp_path)[0]
