"""The C library's allocator, told to keep the memory that it has.

glibc gives a large buffer back to the kernel when it is freed, and every new activation is then faulted in again, page
by page, which can take longer than computing it. Kept, it is used again at once; a process then stays near its peak
(README, "Speed"). Loader processes that are forked inherit it.

Huge pages are not asked for: on top of kept memory they were measured to add nothing (README, "Speed").
"""

import ctypes
import os

VARIABLE = "INCEPTIONNEXT_LIT_KEEP_MEMORY"
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_memory() -> bool:
    """Let freed memory stay with this process, for its large buffers too; call it before the work begins.

    The variable ``INCEPTIONNEXT_LIT_KEEP_MEMORY=0`` switches it off. Elsewhere than on glibc nothing happens.

    Returns:
        Whether the allocator has been told.
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
