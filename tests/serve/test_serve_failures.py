"""Crashes, slow clients, full queues and the end: every request gets an answer."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.serve import body, http_protocol, model_process, running
from inceptionnext_lit.serve.model_process import ModelProcess
from inceptionnext_lit.serve.options import ServeOptions
from tests.serve.fake_model import COMMAND, DIES, ENDS, HANGS
from tests.serve.serving import answer, half_a_picture, picture, run, served, until

RED, HALF = picture("red"), half_a_picture()


def head(length: int) -> bytes:
    return f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode()


async def is_closed(reader: asyncio.StreamReader) -> None:
    """Wait until the server closes a connection, without an answer."""
    with suppress(ConnectionResetError):
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        (DIES, "The model's process was ended by signal 9 (SIGKILL); 1 batch had no answer ("),
        pytest.param(
            ENDS, "The model's process ended with exit code 3; 1 batch had no answer (", marks=pytest.mark.slow
        ),
        pytest.param(
            HANGS,
            "The model's process did not answer within 4.5 seconds; 1 batch had no answer (",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_crash_is_answered_and_the_model_starts_again(
    width: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        async with served(max_batch=1, timeout_s=4.5 if width == HANGS else 60) as server:
            first = server.service.process.pid
            lost = await server.post(picture("red", (width, 8)))
            assert lost.status_code == 500
            assert lost.json()["detail"].startswith(reason)
            health = await server.client.get("/health")
            assert (health.status_code, health.json()["status"]) == (503, "restarting")
            assert health.json()["last_failure"].startswith(reason)
            waits = await server.post(RED)  # until the model runs again
            assert waits.json()[0]["label"] == "red"
            health = await server.client.get("/health")
            assert (health.status_code, health.json()["status"], health.json()["restarts"]) == (200, "ok", 1)
            assert health.json()["last_failure"].startswith(reason)
            assert server.service.process.pid != first
            assert "\ninceptionnext_model_restarts 1.0\n" in server.service.metrics.text().decode()

    run(scenario)
    error = capfd.readouterr().err
    assert f"error: {reason}" in error
    assert "\nThe model's process runs again.\n" in error


@pytest.mark.slow
def test_only_the_current_batches_are_lost_with_the_process() -> None:
    async def scenario() -> None:
        async with served("colors:0.1", max_batch=1) as server:
            requests = [
                asyncio.create_task(server.post(content)) for content in [picture("red", (DIES, 8)), *[RED] * 6]
            ]
            statuses = [(await request).status_code for request in requests]
            assert statuses[0] == 500
            assert sum(status == 500 for status in statuses) <= 2
            assert statuses.count(200) + statuses.count(500) == 7

    run(scenario)


@pytest.mark.slow
def test_a_model_that_cannot_start_again_is_tried_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "_PAUSES", (0.0, 0.1))
    file = tmp_path / "model"
    file.touch()

    async def scenario() -> None:
        async with served(f"once:{file}") as server:
            file.unlink()
            await server.post(picture("red", (DIES, 8)))
            missing = f"The model could not be started again: {file} does not exist; give a checkpoint ("
            await until(lambda: (server.service.process.last_failure or "").startswith(missing))
            assert (await server.client.get("/health")).json()["status"] == "restarting"
            file.touch()
            await until(lambda: server.service.process.state == "ok")
            assert (await server.post(RED)).status_code == 200

    run(scenario)


def test_requests_do_not_wait_for_a_model_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "_PAUSES", (0.0, 7.0))
    file = tmp_path / "model"
    file.touch()

    async def scenario() -> None:
        async with served(f"once:{file}") as server:
            file.unlink()
            await server.post(picture("red", (DIES, 8)))
            await until(lambda: server.service.process.retry_after)
            server.service.process.metadata["heat_map"] = True
            for path in ("/predict", "/explain"):
                found = await server.post(RED, path)
                assert (found.status_code, found.headers["retry-after"]) == (503, "7")
                assert found.json()["detail"].startswith(
                    "No images are labeled now; try again later. The model could not be started again: "
                    f"{file} does not exist; give a checkpoint ("
                )

    run(scenario)


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_model_of_another_file_is_not_started_silently(
    is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "colors").write_text("old")
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        async with served() as server:
            if is_replaced:
                (tmp_path / "colors").write_text("newer")
            await server.post(picture("red", (DIES, 8)))
            await until(lambda: server.service.process.restarts)
            changed = "colors has changed since the server was started, and is served as it is now."
            failure = (await server.client.get("/health")).json()["last_failure"]
            assert failure.endswith(f"). {changed}" if is_replaced else ").")
            error = capfd.readouterr().err
            assert f"\nThe model's process runs again.{f' {changed}' if is_replaced else ''}\n" in error

    run(scenario)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("once:/nowhere", "/nowhere does not exist; give a checkpoint."),
        ("broken", "The model cannot be loaded: ValueError: something is wrong."),
        ("crash", "The model could not be loaded: ended with exit code 7."),
    ],
)
def test_a_model_that_cannot_be_loaded(model: str, message: str) -> None:
    async def scenario() -> None:
        process = ModelProcess(ServeOptions(model), COMMAND)
        with pytest.raises(UserError) as caught:
            await process.start()
        assert str(caught.value) == message
        await process.stop()

    run(scenario)


def test_a_full_queue_says_when_to_come_back() -> None:
    async def scenario() -> None:
        async with served("colors:0.2", max_batch=2, max_queue=4) as server:
            await server.post(RED)  # now the time of an image is known
            found = await asyncio.gather(*(server.post(RED) for _ in range(20)))
            busy = [one for one in found if one.status_code == 503]
            assert len(busy) >= 8  # two batches are with the model, and four images wait
            for one in busy:
                assert one.json()["detail"] == "The queue is full; try again later."
                assert 1 <= int(one.headers["retry-after"]) <= 60
            assert sum(one.status_code == 200 for one in found) == 20 - len(busy)
            assert (await server.post(RED)).status_code == 200

    run(scenario)


def test_memory_of_bodies_is_limited() -> None:
    async def scenario() -> None:
        async with served(max_bytes=1000) as server:
            open_ones = [await server.send(head(1000) + bytes(999)) for _ in range(8)]
            await until(lambda: server.service.bodies._room == 8)
            found = await server.post(RED)
            assert (found.status_code, found.headers["retry-after"]) == (503, "1")
            assert found.json()["detail"] == "The server holds too many images; try again later."
            for _, writer in open_ones:
                writer.close()
            await until(lambda: server.service.bodies._room == 8000)
            assert (await server.post(RED)).status_code == 200

    run(scenario)


def test_slow_clients_do_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_IDLE_SECONDS", 1.0)
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.0)

    async def scenario() -> None:
        async with served() as server:
            silent = [await server.send(b"") for _ in range(40)]
            heads = [await server.send(b"POST /predict HT") for _ in range(40)]
            bodies = [await server.send(head(len(RED)) + RED[:-1]) for _ in range(40)]
            loop = asyncio.get_running_loop()
            start = loop.time()
            assert [(await server.post(RED)).status_code for _ in range(5)] == [200] * 5
            assert loop.time() - start < 0.9
            for reader, _ in bodies:
                assert await answer(reader) == (
                    408, {"detail": "The request was not complete in time; send it again.", "errors": []},
                )  # fmt: skip
            for reader, _ in [*silent, *heads]:
                await is_closed(reader)
            await until(lambda: len(server.server.server_state.connections) <= 1)
            for _, writer in [*silent, *heads, *bodies]:
                writer.close()

    run(scenario)


@pytest.mark.slow
def test_a_second_head_has_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)

    async def scenario() -> None:
        async with served() as server:
            reader, writer = await server.send(head(len(RED)) + RED)
            assert (await answer(reader))[0] == 200
            writer.write(b"GET /hea")
            await writer.drain()
            async with asyncio.timeout(3):  # less than uvicorn's time between requests
                await is_closed(reader)
            writer.close()

    run(scenario)


@pytest.mark.slow
def test_a_request_as_a_whole_has_a_limit() -> None:
    async def scenario() -> None:
        async with served(timeout_s=0.5) as server:
            reader, writer = await server.send(head(100))

            async def drip() -> None:
                for _ in range(100):
                    writer.write(b"x")
                    await asyncio.sleep(0.02)

            task = asyncio.create_task(drip())
            assert (await answer(reader))[0] == 408
            task.cancel()
            writer.close()

    run(scenario)


def test_the_end_finishes_what_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_DRAIN_SECONDS", 0.3)

    async def scenario() -> None:
        async with served("colors:0.1", max_batch=1) as server:
            begun = [await server.send(head(len(RED)) + RED) for _ in range(6)]
            half = await server.send(head(len(RED)) + RED[:-1])
            idle = await server.send(b"")
            await until(lambda: len(server.service.batcher) == 4)
            server.service.drain()
            server.server.should_exit = True
            assert [(await answer(reader))[0] for reader, _ in begun] == [200] * 6
            assert (await answer(half[0]))[0] == 408
            assert await idle[0].read() == b""
            with pytest.raises(OSError, match="Connect call failed"):
                await server.send(b"")
            assert server.service.health().status == "stopping"
            for _, writer in [*begun, half, idle]:
                writer.close()

    run(scenario)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signals_end_the_server(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole program in this process: it must leave the loop by itself."""

    async def send_signal_once_it_serves() -> None:
        await until(lambda: "Serving" in "".join(printed))
        signal.raise_signal(number)

    printed: list[str] = []
    serve = running._serve

    async def serve_and_signal(*arguments: object) -> None:
        task = asyncio.create_task(send_signal_once_it_serves())
        await serve(*arguments)  # type: ignore[arg-type]
        await task

    greet = running._greeting
    monkeypatch.setattr(running, "_greeting", lambda *a: printed.append(greet(*a)) or printed[-1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(running, "_serve", serve_and_signal)
    options = ServeOptions("colors", host="127.0.0.1", port=0)
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            running.run_server(options, COMMAND)
    else:
        running.run_server(options, COMMAND)
    out = capsys.readouterr().out
    assert out.startswith("Serving colors (3 classes) at http://127.0.0.1:")
    assert "Finishing the requests that were begun; a second signal ends at once.\n" in out


def test_a_signal_while_the_model_is_loaded_ends_at_once() -> None:
    async def scenario() -> None:
        command = ["python3", "-c", "import time; time.sleep(100)"]
        listener = running._bound("127.0.0.1", 0)
        task = asyncio.create_task(running._run(ServeOptions("colors"), listener, command))
        await asyncio.sleep(0.2)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(2):
            assert await task == signal.SIGTERM
        listener.close()

    run(scenario)


def test_addresses_that_cannot_be_used() -> None:
    taken = running._bound("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(UserError, match=rf"^Port {port} of 127\.0\.0\.1 is already in use; give another --port\.$"):
        running._bound("127.0.0.1", port)
    taken.close()
    with pytest.raises(UserError, match=r"^The address 198\.51\.100\.1, port 80 cannot be used: "):
        running._bound("198.51.100.1", 80)
    with pytest.raises(UserError, match=r"^The address no such host, port 80 cannot be used: "):
        running._bound("no such host", 80)
