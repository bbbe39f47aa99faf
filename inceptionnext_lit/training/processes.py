"""The processes of one run live and die together."""

import os
import threading
import time

_PERIOD_S = 1.0
_ORPHANED = 1


def end_with_parent() -> None:
    """End this process when the one that started it has ended, even where it waits for the others.

    The first process of a run on several devices starts the rest and ends them when one of them fails; when the first
    one itself is killed, nobody would end the rest, which may wait for it for half an hour. Nothing happens in a
    process that is not one of those.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:
        threading.Thread(target=_watch, args=(os.getppid(),), name="parent-observer", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PERIOD_S)
    os._exit(_ORPHANED)  # the main thread may be inside a library, from which no exception would free it
