"""Memory of this process, as the kernel tells it (Linux)."""

from pathlib import Path


def resident_mib() -> float | None:
    """Return the memory that this process uses in MiB; None if the system does not provide it."""
    return _status("VmRSS")


def peak_mib() -> float | None:
    """Return its peak since the start or :func:`forget_peak`; None if the system does not provide it."""
    return _status("VmHWM")


def grown_mib(before: float | None) -> float | None:
    """Return how far the peak lies above a value of :func:`resident_mib`; None if the system does not provide it."""
    peak = peak_mib()
    return None if peak is None or before is None else peak - before


def forget_peak() -> None:
    """Reset the kernel's record of this process's peak memory."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) / 1024 if found else None
