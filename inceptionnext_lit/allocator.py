"""Keep freed memory in the process instead of returning it to the kernel.

glibc returns a large buffer to the kernel when it is freed, so every new activation is faulted in again page by page,
which can take longer than computing it. A process that keeps its memory reuses it at once, and stays near its peak
(docs/benchmarks.md). Forked loader processes inherit the setting.

Huge pages are not requested: with kept memory they made no measurable difference (docs/benchmarks.md).
"""

import ctypes
import os

VARIABLE = "INCEPTIONNEXT_LIT_KEEP_MEMORY"
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_memory() -> bool:
    """Make the allocator keep freed memory, large buffers included; call it before the work begins.

    ``INCEPTIONNEXT_LIT_KEEP_MEMORY=0`` in the environment disables it. It does nothing without glibc.

    Returns:
        Whether the setting was applied.
    """
    if os.environ.get(VARIABLE) == "0":
        return False
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_MAX, 0) == 1 and library.mallopt(_M_TRIM_THRESHOLD, -1) == 1)
