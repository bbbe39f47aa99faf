"""Find out which rank does not respond: each rank reports its progress to the others from a separate thread."""

import os
import socket
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch._C._distributed_c10d import TCPStore
from torch.distributed.constants import default_pg_timeout
from torch.distributed.distributed_c10d import Store

from inceptionnext_lit.lightning_compat import set_timeout_of, timeout_of
from inceptionnext_lit.training.clock import format_seconds

TIMEOUT_S = 600.0
TIMEOUT_HELP = (
    "Seconds that the ranks of a run on several devices wait for each other before the run ends. A timeout set in "
    "trainer.strategy takes precedence."
)
_PERIODS = 20  # reports within the timeout
_LONGEST_PERIOD_S = 10.0
_ABORTED = 1


@dataclass
class _Peer:
    """State of another rank: its name, its last report, and when it last reported and last made progress."""

    name: str
    report: bytes = b""
    reported_at: float = 0.0
    moves: int = 0
    place: str = "the start"
    moved_at: float = 0.0


class Peers(Callback):
    """Report which rank the others are waiting for when a distributed run hangs.

    All ranks use a store on the first rank. Every few seconds a thread of each rank writes there that it is running and
    which batch it is at, and reads the reports of the others.
    """

    def __init__(self) -> None:
        self._store: Store | None = None
        self._peers: dict[int, _Peer] = {}
        self._rank = 0
        self._timeout_s = TIMEOUT_S
        self._period_s = _LONGEST_PERIOD_S
        self._moves = 0
        self._place = "the start"
        self._last_read = 0.0
        self._stopped = threading.Event()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connect to the other ranks; does nothing on a single rank."""
        if trainer.world_size == 1 or self._store is not None:
            return
        timeout: timedelta = timeout_of(trainer.strategy) or timedelta(seconds=TIMEOUT_S)
        self.connect(trainer.strategy, trainer.global_rank, trainer.world_size, timeout.total_seconds())

    def connect(self, strategy: Any, rank: int, count: int, timeout_s: float) -> None:
        """Create or connect to the store, and start the thread.

        Args:
            strategy: An object that can ``broadcast`` objects.
            rank: This rank.
            count: Number of ranks.
            timeout_s: Seconds that a rank waits for another in the training's own communication.
        """
        self._rank, self._timeout_s = rank, timeout_s
        self._period_s = min(_LONGEST_PERIOD_S, timeout_s / _PERIODS)
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        patience = timedelta(seconds=max(timeout_s, 5.0))
        own = TCPStore(host, 0, None, True, patience, wait_for_workers=False) if rank == 0 else None
        port = strategy.broadcast(None if own is None else own.port)
        self._store = own or TCPStore(host, port, None, False, patience)
        self._store.set(f"name{rank}", f"rank {rank} of {count} (pid {os.getpid()} on {socket.gethostname()})")
        self._store.set(f"report{rank}", self._own_report(0))
        others = [other for other in range(count) if other != rank]
        names = self._store.multi_get([f"name{other}" for other in others])
        now = time.monotonic()
        self._peers = {
            other: _Peer(name.decode(), reported_at=now, moved_at=now)
            for other, name in zip(others, names, strict=True)
        }
        self._read_reports(self._store, now)
        threading.Thread(target=self._report_loop, name="peers", daemon=True).start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the position."""
        self._move(f"batch {batch_idx + 1} of epoch {trainer.current_epoch + 1}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the position."""
        self._move(f"the end of batch {batch_idx + 1} of epoch {trainer.current_epoch + 1}")

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Record the position."""
        self._move(f"validation batch {batch_idx + 1} of epoch {trainer.current_epoch + 1}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop reporting."""
        self._stopped.set()

    def silent(self) -> str | None:
        """Describe which ranks do not respond, and for how long; None if all do."""
        now = time.monotonic()
        limit = max(3 * self._period_s, self._timeout_s / 2)
        if not self._peers:
            return None
        if self._rank != 0 and now - self._last_read > limit:  # the store is on the first rank
            return f"{_capital(self._peers[0].name)} has not answered for {format_seconds(now - self._last_read)}"
        quiet = [peer for peer in self._peers.values() if now - peer.reported_at > limit]
        if quiet:
            longest = format_seconds(now - min(peer.reported_at for peer in quiet))
            have = "has" if len(quiet) == 1 else "have"
            return f"{_capital(', '.join(peer.name for peer in quiet))} {have} not answered for {longest}"
        behind = [peer for peer in self._peers.values() if peer.moves < self._moves and now - peer.moved_at > limit]
        if behind:
            peer = min(behind, key=lambda peer: peer.moves)
            stuck = format_seconds(now - peer.moved_at)
            return f"{_capital(peer.name)} is running but has been at {peer.place} for {stuck}"
        return None

    def _move(self, place: str) -> None:
        self._moves += 1
        self._place = place

    def _own_report(self, beat: int) -> str:
        return f"{beat} {self._moves} {self._place}"

    def _report_loop(self) -> None:
        beat = 0
        store = self._store
        assert store is not None
        while not self._stopped.wait(self._period_s):
            beat += 1
            try:
                store.set(f"report{self._rank}", self._own_report(beat))
                self._read_reports(store, time.monotonic())
            except RuntimeError:  # the first rank is gone, which the training's own communication also notices
                return

    def _read_reports(self, store: Store, now: float) -> None:
        for peer, report in zip(
            self._peers.values(), store.multi_get([f"report{other}" for other in self._peers]), strict=True
        ):
            if report == peer.report:
                continue
            _, moves, place = report.decode().split(" ", 2)
            if int(moves) != peer.moves or not peer.report:
                peer.moves, peer.place, peer.moved_at = int(moves), place, now
            peer.report, peer.reported_at = report, now
        self._last_read = now


def set_timeout(strategy: Any, seconds: float) -> float:
    """Set how long a strategy's ranks wait for each other, unless it has its own timeout.

    Args:
        strategy: Lightning's strategy; those for a single rank have no timeout.
        seconds: The timeout.

    Returns:
        The timeout in effect, in seconds.
    """
    given = timeout_of(strategy)
    if given is not None and given != default_pg_timeout:
        return given.total_seconds()
    set_timeout_of(strategy, timedelta(seconds=seconds))
    return seconds


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
