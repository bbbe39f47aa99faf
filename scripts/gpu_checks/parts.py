"""The parts, in order."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_checks.running import Part

SCRIPT = Path(__file__).parents[1] / "gpu_check.py"
_PATIENCE = 20  # how much more time a CPU is given


@dataclass(frozen=True)
class Row:
    """A part before it is known where and how it runs.

    Attributes:
        name: Its name.
        title: What it does.
        function: ``module:name`` of what it calls.
        arguments: What it calls that with.
        limit: Seconds after which it is killed.
        least: Seconds that must be left to start it.
        needs_gpu: Whether it needs a GPU.
    """

    name: str
    title: str
    function: str
    limit: float
    least: float
    arguments: tuple[str, ...] = ()
    needs_gpu: bool = False


def _checked(kind: str) -> Row:
    title = f"the kernels against double precision in {kind}"
    return Row(f"kernels_{kind}", title, "kernels:check_kernels", 150, 20, (kind,), needs_gpu=kind != "fp32")


def _measured(group: str, title: str) -> Row:
    return Row(group, title, "speed:measure_group", 120, 30, (group,))


# The parts of a line run at the same time: they check, compile and generate, and their speed does not matter.
STAGES: tuple[tuple[Row, ...], ...] = (
    (Row("environment", "the card, the versions and the bounds", "environment:describe_machine", 60, 10),),
    (
        Row("tests", "pytest -m gpu", "testing:run_tests", 150, 30, needs_gpu=True),
        _checked("bf16"),
        Row("compiling", "compiled forms for the parts below", "speed:compile_all", 150, 30, needs_gpu=True),
        _checked("fp32"),
        _checked("fp16"),
        Row("photos", "JPEGs for the loader", "photos:make_photos", 60, 10),
    ),
    (Row("kernel_times", "the kernels' times beside torch's", "kernels:time_kernels", 90, 15),),
    (_measured("train_tiny", "training of T, ConvNeXt-T and timm's T in turn"),),
    (_measured("infer_tiny", "inference of T, ConvNeXt-T and timm's T in turn"),),
    (_measured("train_iso", "training of isotropic S and DeiT-S in turn"),),
    (_measured("infer_iso", "inference of isotropic S and DeiT-S in turn"),),
    (Row("fit_overhead", "fit beside a bare loop", "fitting:compare_with_a_bare_loop", 100, 40),),
    (Row("fit_loader", "fit with the loader, bf16-mixed and clipping", "fitting:fit_with_the_loader", 60, 25),),
    (_measured("train_small", "training of S"),),
    (_measured("infer_small", "inference of S"),),
)
ROWS = {row.name: row for stage in STAGES for row in stage}


def stages(device: str, batch_size: int, folder: Path, names: Sequence[str]) -> list[list[Part]]:
    """Return the parts as they are run.

    Args:
        device: ``cuda`` or ``cpu``.
        batch_size: Images per step.
        folder: A folder that they share.
        names: Those to run.
    """
    chosen = [[row for row in stage if row.name in names] for stage in STAGES]
    return [[_part(row, device, batch_size, folder) for row in stage] for stage in chosen if stage]


def _part(row: Row, device: str, batch_size: int, folder: Path) -> Part:
    start = [sys.executable, str(SCRIPT), "--device", device, "--batch_size", str(batch_size), "--folder", str(folder)]
    environment: dict[str, str] = {}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
        if row.function.startswith("kernels:"):
            environment["TRITON_INTERPRET"] = "1"  # runs kernels on the CPU
    return Part(
        name=row.name,
        title=row.title,
        command=lambda file: [*start, "--part", row.name, "--report", str(file)],
        limit=row.limit * (_PATIENCE if device == "cpu" else 1),
        least=row.least,
        why_not="needs a GPU" if row.needs_gpu and device == "cpu" else "",
        environment=environment,
    )
