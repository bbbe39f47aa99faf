"""Resources of the machine that are available to this process."""

import os
from pathlib import Path

CACHE_VARIABLE = "INCEPTIONNEXT_LIT_CACHE"


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Return the folder for what is unpacked, prepared or measured once: the given one, the variable's, or the user's.

    Args:
        cache_dir: The folder, if given.
    """
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()) / "inceptionnext_lit"
