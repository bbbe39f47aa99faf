"""Signals are forwarded to a child command."""

import signal
import sys

from inceptionnext_lit.cli.relay import Relay

PASSED_ON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
"""


def test_a_signal_is_passed_on() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Relay() as passing:
        assert passing.run([sys.executable, "-c", PASSED_ON], {}) == 7
        assert passing.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_killed_child_has_a_shell_exit_code_and_its_own_process_group() -> None:
    script = "import os, signal; assert os.getpgrp() == os.getpid(); os.kill(os.getpid(), signal.SIGKILL)"
    with Relay() as passing:
        assert passing.run([sys.executable, "-c", script], {}) == 137
        assert passing.received is None


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Relay():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
