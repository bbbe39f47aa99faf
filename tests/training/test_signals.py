"""Signals that stop a run: what is printed, and which are ignored."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inceptionnext_lit.training.callbacks.checkpoints import LastCheckpoint
from inceptionnext_lit.training.callbacks.signals import Interrupted, SaveOnSignal


def started(folder: Path) -> SaveOnSignal:
    """Return the callback of a run that has started training."""
    kept = LastCheckpoint()
    kept.dirpath = str(folder)
    callback, trainer = SaveOnSignal([signal.SIGINT, signal.SIGHUP]), SimpleNamespace(checkpoint_callbacks=[kept])
    callback.on_train_start(trainer, None)  # type: ignore[arg-type]
    return callback


def test_a_second_interrupt_names_the_last_checkpoint(tmp_path: Path) -> None:
    with started(tmp_path) as callback:
        os.kill(os.getpid(), signal.SIGINT)
        assert callback._received == signal.SIGINT
        with pytest.raises(Interrupted) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
        assert str(stopped.value) == "Stopped by SIGINT; there was nothing to save yet."
        (tmp_path / "last.ckpt").touch()
        with pytest.raises(Interrupted) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
    assert stopped.value.code == 130
    assert str(stopped.value) == (
        f"Stopped by SIGINT; the last save is {tmp_path}/last.ckpt. The same command with --ckpt_path last continues."
    )


def test_a_closed_terminal_saves_unless_sighup_is_ignored(tmp_path: Path) -> None:
    callback: Any
    with started(tmp_path) as callback:
        os.kill(os.getpid(), signal.SIGHUP)
        assert callback._received == signal.SIGHUP
    assert Interrupted(signal.SIGHUP, "last.ckpt").code == 129
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with started(tmp_path) as callback:
            os.kill(os.getpid(), signal.SIGHUP)
            assert callback._received == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
