"""The processes of one run live and die together."""

import ctypes
import os
import signal
import sys
import threading
import time

PARENT = "INCEPTIONNEXT_LIT_PARENT"  # the process that a run ends with, for one that another command starts
_FIRST = "INCEPTIONNEXT_LIT_FIRST_PROCESS"  # the one that starts the others of a run on several devices

# Ctrl-C; what kill, schedulers and container runtimes send; a terminal that is closed; what SLURM's --signal sends
# ahead of a pre-emption
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # Windows has the first two

_PERIOD_S = 1.0
_SAVING_S = 60.0
_ORPHANED = 1
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """End this process when the one that started it has ended, even where it waits for others.

    The first process of a run on several devices starts the rest and ends them when one of them fails; when the first
    one itself is killed, nobody would end the rest, which may wait for it for a long time. They end at once; on Linux
    also one that is stopped. A run that another command has started, which is told by ``INCEPTIONNEXT_LIT_PARENT``,
    saves first. Nothing happens in a process that is neither.
    """
    told = os.environ.pop(PARENT, None)
    is_one_of_several = int(os.environ.get("LOCAL_RANK", 0)) > 0
    if is_one_of_several:
        told = str(os.getppid())
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # it may have ended before this line
            told = os.environ.get(_FIRST, told)
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        os.environ[_FIRST] = str(os.getpid())
    if told is not None:
        threading.Thread(
            target=_watch, args=(int(told), not is_one_of_several), name="parent-observer", daemon=True
        ).start()


def _watch(parent: int, saves: bool) -> None:
    while os.getppid() == parent:
        time.sleep(_PERIOD_S)
    if saves:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SAVING_S)
    os._exit(_ORPHANED)  # the main thread may be inside a library, from which no exception would free it
