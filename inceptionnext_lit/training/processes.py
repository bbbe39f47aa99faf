"""Terminate ranks whose parent process has exited."""

import ctypes
import os
import signal
import sys
import threading
import time

PARENT = "INCEPTIONNEXT_LIT_PARENT"  # process that a run started by another command must not outlive
_FIRST = "INCEPTIONNEXT_LIT_FIRST_PROCESS"  # process of the first rank, which starts the others

# Ctrl-C; kill, schedulers and container runtimes; a closed terminal; SLURM's --signal before a preemption
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # Windows has only the first two

_PERIOD_S = 1.0
_SAVING_S = 60.0
_ORPHANED = 1
_PR_SET_PDEATHSIG = 1


def terminate_with_parent() -> None:
    """Terminate this process when its parent has exited, even while it waits for other ranks.

    The first rank starts the others and terminates them when one fails. If the first rank itself is killed, the others
    would wait for it for a long time; with this function they exit at once, on Linux even when stopped. A run started
    by another command, which sets ``INCEPTIONNEXT_LIT_PARENT``, saves a checkpoint first. Other processes are not
    affected.
    """
    told = os.environ.pop(PARENT, None)
    is_one_of_several = int(os.environ.get("LOCAL_RANK", 0)) > 0
    if is_one_of_several:
        told = str(os.getppid())
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # the parent may have exited before this line
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
    os._exit(_ORPHANED)  # the main thread may be blocked inside a library, where an exception would not reach it
