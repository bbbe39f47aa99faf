"""Run the server until a signal ends it."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Sequence

import uvicorn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.serve.app import Service, create_app
from inceptionnext_lit.serve.http_protocol import TimedProtocol
from inceptionnext_lit.serve.model_process import WORKER, ModelProcess
from inceptionnext_lit.serve.options import LOOPBACK, ServeOptions
from inceptionnext_lit.wording import count, printable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 1024  # connections that wait to be accepted
_GRACE_SECONDS = 5  # after the time that a batch may take


class _Server(uvicorn.Server):
    """Uvicorn's server, which leaves signals to this program."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


def run_server(options: ServeOptions, command: Sequence[str] = WORKER) -> None:
    """Run the server until SIGTERM or Ctrl-C; what was begun is finished.

    Args:
        options: The server's options.
        command: The command that starts the model's process.

    Raises:
        UserError: If the model cannot be loaded, or the address cannot be used.
        KeyboardInterrupt: At the end, after Ctrl-C.
    """
    with _bound(options.host, options.port) as listener:
        if asyncio.run(_run(options, listener, command)) == signal.SIGINT:
            raise KeyboardInterrupt


async def _run(options: ServeOptions, listener: socket.socket, command: Sequence[str]) -> signal.Signals | None:
    """Serve, and return the signal that ended it."""
    ended: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, ended.put_nowait, number)
    process = ModelProcess(options, command)
    first = asyncio.create_task(ended.get())
    starting = asyncio.create_task(process.start())
    try:
        await asyncio.wait({first, starting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # a signal came while the model was loaded
            return first.result()
        starting.result()
        await _serve(options, listener, process, first, ended)
        return first.result()
    finally:
        starting.cancel()
        first.cancel()
        await process.stop()


async def _serve(
    options: ServeOptions,
    listener: socket.socket,
    process: ModelProcess,
    first: "asyncio.Task[signal.Signals]",
    ended: "asyncio.Queue[signal.Signals]",
) -> None:
    service = Service(options, process)
    server = _server(options, service)
    batches = asyncio.create_task(service.batcher.run())
    serving = asyncio.create_task(server.serve([listener]))
    listener.listen(_BACKLOG)  # from here on, clients may connect
    print(_greeting(options, listener, process), flush=True)
    try:
        await asyncio.wait({first, serving, batches}, return_when=asyncio.FIRST_COMPLETED)
        if batches.done():
            batches.result()  # it ends with an error only
        print("Finishing the requests that were begun; a second signal ends at once.", flush=True)
        service.drain()
        server.should_exit = True
        second = asyncio.create_task(ended.get())
        await asyncio.wait({serving, second}, return_when=asyncio.FIRST_COMPLETED)
        second.cancel()
        server.force_exit = not serving.done()
        if not serving.done():
            serving.cancel()
            await asyncio.wait({serving})
    finally:
        batches.cancel()


def _server(options: ServeOptions, service: Service) -> _Server:
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)  # their warnings are about what clients send
    config = uvicorn.Config(
        create_app(service),
        http=TimedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=round(2 * options.timeout_s) + _GRACE_SECONDS,
    )
    return _Server(config)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that has an address, but does not listen yet: the model is loaded first.

    Raises:
        UserError: If the address cannot be used.
    """
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"Port {port} of {host} is already in use; give another --port.") from error
        raise UserError(f"The address {host}, port {port} cannot be used: {error.strerror}.") from error
    return listener


def _greeting(options: ServeOptions, listener: socket.socket, process: ModelProcess) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    name, classes = printable(process.metadata["model"]), count(process.metadata["num_classes"], "class", "classes")
    lines = [f"Serving {name} ({classes}) at http://{shown}:{port}/; Ctrl-C ends it."]
    if options.host not in LOOPBACK:
        lines.append("Anyone who can reach this address can use it; there is no login and no encryption.")
    if process.hint is not None:
        lines.append(printable(process.hint))
    return "\n".join(lines)
