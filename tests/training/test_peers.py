"""Which rank does not respond, as seen by the others."""

import os
import re
import signal
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

from inceptionnext_lit.cli.errors import explain_failure
from inceptionnext_lit.training.callbacks import peers
from inceptionnext_lit.training.callbacks.peers import Peers, _Peer, set_timeout
from tests.forked import forked
from tests.ranks import free_port

TIMEOUT_S = 4.0


def take_part(rank: int, port: int, stopped: int) -> None:
    """Run one of two ranks; one is stopped, the other prints what it reports."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    timeout = timedelta(seconds=TIMEOUT_S)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timeout)

    def broadcast(value: object) -> object:
        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]

    seen = Peers()
    seen.connect(SimpleNamespace(broadcast=broadcast), rank, 2, TIMEOUT_S)
    torch.distributed.barrier()
    if rank == stopped:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        torch.distributed.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        print(explain_failure(error, None, silent=seen.silent(), timeout_s=TIMEOUT_S), flush=True)
    os._exit(0)


@pytest.mark.parametrize("stopped", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_stopped_rank_is_named(stopped: int, tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        ranks = [stack.enter_context(forked(take_part, rank, port, stopped, cwd=tmp_path)) for rank in (0, 1)]
        printed = ranks[1 - stopped].wait(240).stdout
    pid, host = ranks[stopped].pid, re.escape(os.uname().nodename)
    assert re.fullmatch(
        rf"Rank {stopped} of 2 \(pid {pid} on {host}\) has not answered for 0:0[3-9], so this run ends\. Check "
        r"whether it was stopped or its machine is down\. The run continues with --ckpt_path last; --strategy_timeout "
        r"sets how many seconds ranks wait for each other\.\n",
        printed,
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Peers:
    """What rank 1 of 4 knows 100 s after the start, if ranks wait for each other for 60 s."""
    monkeypatch.setattr(peers.time, "monotonic", lambda: 100.0)
    seen = Peers()
    seen._rank, seen._timeout_s, seen._period_s, seen._last_read, seen._moves = 1, 60.0, 3.0, 99.0, 7
    seen._peers = {rank: _Peer(f"rank {rank}", b"x", 99.0, 7, "batch 4", 99.0) for rank in (0, 2, 3)}
    return seen


def test_who_is_silent_or_behind(seen: Peers) -> None:
    assert seen.silent() is None
    seen._peers[3].moves, seen._peers[3].place, seen._peers[3].moved_at = 6, "batch 3", 35.0
    assert seen.silent() == "Rank 3 is running but has been at batch 3 for 1:05"
    seen._peers[2].reported_at = 40.0
    assert seen.silent() == "Rank 2 has not answered for 1:00"
    seen._peers[3].reported_at = 38.0
    assert seen.silent() == "Rank 2, rank 3 have not answered for 1:02"
    seen._last_read = 30.0
    assert seen.silent() == "Rank 0 has not answered for 1:10"


def test_messages_of_a_timeout_and_a_lost_connection() -> None:
    timeout = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 600000ms for recv operation")
    closed = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234")
    assert str(explain_failure(timeout, None, timeout_s=600.0)).startswith(
        "A rank of this run did not respond within 10:00. "
    )
    assert str(explain_failure(closed, None, timeout_s=600.0)).startswith("Another rank of this run has ended")
    absent = torch.distributed.DistStoreError("Timed out after 6 seconds waiting for clients. 1/2 clients joined.")
    assert str(explain_failure(absent, None, timeout_s=6.0)).startswith(
        "Only 1 of 2 ranks of this run joined within 0:06. Check why the others did not start."
    )
    for error in (timeout, closed):
        message = str(explain_failure(error, None, silent="Rank 2 has not answered for 10:00", timeout_s=600.0))
        assert message.startswith("Rank 2 has not answered for 10:00, so this run ends.")


def test_how_long_ranks_wait() -> None:
    for strategy, seconds in (
        (DDPStrategy(), 45.0),
        (ModelParallelStrategy(), 45.0),
        (DDPStrategy(timeout=timedelta(minutes=3)), 180.0),
        (SingleDeviceStrategy(), 45.0),
    ):
        assert set_timeout(strategy, 45.0) == seconds
        assert getattr(strategy, "_timeout", timedelta(seconds=seconds)).total_seconds() == seconds
    assert peers.TIMEOUT_S == 600.0


def test_a_single_rank_has_no_peers() -> None:
    seen = Peers()
    seen.setup(SimpleNamespace(world_size=1), None, "fit")  # type: ignore[arg-type]
    assert seen.silent() is None
