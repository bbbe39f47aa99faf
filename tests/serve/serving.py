"""A server in the event loop of a test, with a fake model in a process of its own, and simple clients."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from inceptionnext_lit.serve import running
from inceptionnext_lit.serve.app import Service
from inceptionnext_lit.serve.model_process import ModelProcess
from inceptionnext_lit.serve.options import ServeOptions
from tests.serve.fake_model import COMMAND


@dataclass
class Served:
    """A server that runs.

    Attributes:
        port: Its port.
        service: What its routes use.
        client: A client of it.
    """

    port: int
    service: Service
    server: Any
    client: httpx.AsyncClient

    async def post(self, content: bytes, path: str = "/predict", **options: Any) -> httpx.Response:
        """Send an image."""
        headers = {"Content-Type": "application/octet-stream", **options.pop("headers", {})}
        return await self.client.post(path, content=content, headers=headers, **options)

    async def send(self, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, and send bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        await writer.drain()
        return reader, writer


@contextlib.asynccontextmanager
async def served(model: str = "colors", **options: Any) -> AsyncIterator[Served]:
    """Run a server until the block ends.

    Args:
        model: See :func:`tests.serve.fake_model.make`.
        **options: The server's options.
    """
    settings = ServeOptions(model, port=0, **options)
    process = ModelProcess(settings, COMMAND)
    listener = running._bound("127.0.0.1", 0)
    try:
        await process.start()
        service = Service(settings, process)
        server = running._server(settings, service)
        tasks = [asyncio.create_task(service.batcher.run()), asyncio.create_task(server.serve([listener]))]
        port = listener.getsockname()[1]
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as client:
            await until(lambda: server.started)
            yield Served(port, service, server, client)
        server.should_exit = server.force_exit = True
        await asyncio.wait_for(tasks[1], 20)
        tasks[0].cancel()
    finally:
        await process.stop()
        listener.close()


def picture(color: str, size: tuple[int, int] = (8, 8), kind: str = "PNG", **options: Any) -> bytes:
    """The content of an image file of a color."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind, **options)
    return file.getvalue()


def half_a_picture() -> bytes:
    """The first bytes of an image file."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()[:500]


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a test in an event loop."""
    asyncio.run(scenario())  # type: ignore[arg-type]


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Read an answer with JSON from a connection: its status and its content."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length"))
    return int(head.split()[1]), json.loads(await reader.readexactly(length))
