"""How much faster an exported file labels images on this CPU than a checkpoint of this family, as measured."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from inceptionnext_lit.models.isotropic import IsotropicMetaNeXt
from inceptionnext_lit.models.metanext import MetaNeXt
from inceptionnext_lit.program import exact_name

CPU_FILE = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Gain:
    """Images per second of OpenVINO's int8 files over those of checkpoints, on CPUs with an instruction set.

    Attributes:
        name: The instruction set.
        flag: What Linux calls it.
        least: The smaller gain of InceptionNeXt-T and the isotropic InceptionNeXt-S at batch 16.
        most: The larger one.
    """

    name: str
    flag: str
    least: float
    most: float


GAINS = (  # as printed by the commands in docs/guides/cpu-speed.md
    Gain("AMX", "amx_int8", 4.0, 5.6),
    Gain("AVX-512 VNNI", "avx512_vnni", 3.0, 3.1),
    Gain("AVX-VNNI", "avx_vnni", 2.6, 2.8),
    Gain("AVX2", "avx2", 1.9, 2.1),
)


def cpu_gain() -> Gain | None:
    """Return the gain on this CPU; None if it was not measured on such a one, or the CPU is unknown."""
    try:
        text = CPU_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), [])
    return next((gain for gain in GAINS if gain.flag in flags), None)


def speed_hint(model: nn.Module, checkpoint: str | Path, program: str | None = None) -> str | None:
    """Return a sentence with the command that makes a checkpoint faster; None if nothing is known to.

    Args:
        model: Its model.
        checkpoint: The checkpoint.
        program: The command that starts the program (default: as this process was started).
    """
    gain = cpu_gain()
    if gain is None or not isinstance(model, (MetaNeXt, IsotropicMetaNeXt)):
        return None
    output = Path(checkpoint).with_suffix(".xml").name
    words = ["export", str(checkpoint), "--format", "openvino", "--output", output, "--int8", "TRAINING_IMAGES"]
    return (
        f"Faster:     int8 in OpenVINO labels {gain.least:.1f} to {gain.most:.1f} times as many images per second on "
        f"CPUs with {gain.name}, and its accuracy is checked against the floats: {program or exact_name()} "
        f"{shlex.join(words)}"
    )
