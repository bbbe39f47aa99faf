"""Start the model's process, talk to it, and start it again when it ends."""

import asyncio
import itertools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import inceptionnext_lit
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.program import exact_name
from inceptionnext_lit.serve.frames import Frame, pack, receive_frame
from inceptionnext_lit.serve.options import ServeOptions
from inceptionnext_lit.wording import count, printable

WORKER = [sys.executable, "-P", "-m", "inceptionnext_lit.serve.worker"]
_PAUSES = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)  # seconds before the tries to start again
_STOP_SECONDS = 5
State = Literal["starting", "ok", "restarting", "stopped"]


class ModelFailedError(Exception):
    """The model's process has ended without an answer."""


class ModelProcess:
    """The model's process.

    Attributes:
        state: ``ok`` if it takes images.
        metadata: What it says of the model.
        hint: How the model would be faster, as a sentence; None if nothing is known to.
        restarts: How often it was started again.
        last_failure: Why it ended the last time, and whether its file has changed since; None if it has not ended.
        pid: Its number; None if it does not run.

    Args:
        options: The server's options.
        command: The command that starts it.
    """

    def __init__(self, options: ServeOptions, command: Sequence[str] = WORKER) -> None:
        self.state: State = "starting"
        self.metadata: dict[str, Any] = {}
        self.hint: str | None = None
        self.restarts = 0
        self.last_failure: str | None = None
        self._command = command
        self._options = {key: getattr(options, key) for key in ("model", "device", "max_pixels", "unsure_below")}
        self._options["program"] = exact_name()  # for the sentences that the process writes
        self._timeout = options.timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._jobs: dict[int, asyncio.Future[Frame]] = {}
        self._numbers = itertools.count()
        self._ready = asyncio.Event()
        self._watch: asyncio.TimerHandle | None = None
        self._too_slow = False
        self._reader: asyncio.Task[None] | None = None
        self._first_file = self._file()
        self._next_try: float | None = None  # the loop's time; None unless it could not be started again

    @property
    def pid(self) -> int | None:
        """Its number; None if it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def retry_after(self) -> int | None:
        """Seconds until the next try, if the last try to start it again has failed; otherwise None."""
        if self._next_try is None:
            return None
        return max(1, math.ceil(self._next_try - asyncio.get_running_loop().time()))

    async def start(self) -> None:
        """Start the process, and wait until the model is loaded.

        Raises:
            UserError: If it cannot be loaded.
        """
        await self._launch()
        self._reader = asyncio.create_task(self._read())

    async def wait_ready(self) -> None:
        """Wait until the model takes images."""
        await self._ready.wait()

    async def ask(self, kind: str, blocks: Sequence[bytes], **content: Any) -> Frame:
        """Send a message, and return the answer.

        Args:
            kind: ``predict`` or ``explain``.
            blocks: The images.
            **content: Further content of the message.

        Raises:
            ModelFailedError: If the process ends before.
        """
        if self.state != "ok" or self._process is None or self._process.stdin is None:
            raise ModelFailedError(self.last_failure or "The model is not loaded.")
        number = next(self._numbers)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._jobs[number] = answer
        if self._watch is None:
            self._set_watch()
        try:
            self._process.stdin.writelines(pack({"id": number, "kind": kind, **content}, blocks))
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the task that reads finds out why
        try:
            return await answer
        finally:
            self._jobs.pop(number, None)

    async def stop(self) -> None:
        """End the process."""
        was_ready, self.state = self._ready.is_set(), "stopped"
        if self._reader is not None:
            self._reader.cancel()
        if (process := self._process) is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()  # which ends it, unless it loads the model
        if not was_ready:
            process.kill()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _launch(self) -> None:
        home = str(Path(inceptionnext_lit.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            json.dumps(self._options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C in a terminal reaches only the server
        )
        assert self._process.stdout is not None
        first = await receive_frame(self._process.stdout)
        if first is None:
            raise UserError(f"The model could not be loaded: {await self._ending()}.")
        if "error" in first.content:
            await self._process.wait()
            raise UserError(first.content["error"])
        self.metadata, self.hint = first.content["metadata"], first.content["hint"]
        self.state = "ok"
        self._ready.set()

    async def _read(self) -> None:
        """Pass answers on; start the process again whenever it ends."""
        while True:
            assert self._process is not None
            assert self._process.stdout is not None
            while (frame := await receive_frame(self._process.stdout)) is not None:
                self._set_watch()
                job = self._jobs.pop(frame.content["id"], None)
                if job is not None and not job.done():
                    job.set_result(frame)
                if not self._jobs:
                    self._clear_watch()
            await self._start_again()

    async def _start_again(self) -> None:
        self.state = "restarting"
        self._ready.clear()
        self._clear_watch()
        how = f"did not answer within {self._timeout:g} seconds" if self._too_slow else await self._ending()
        self._too_slow = False
        jobs, self._jobs = self._jobs, {}
        self._note(f"The model's process {how}; {count(len(jobs), 'batch', 'batches')} had no answer")
        for job in jobs.values():
            if not job.done():
                job.set_exception(ModelFailedError(self.last_failure))
        for attempt in itertools.count():
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            if attempt:
                self._next_try = asyncio.get_running_loop().time() + pause
            await asyncio.sleep(pause)
            file = self._file()
            try:
                await self._launch()
            except (UserError, OSError) as error:
                self._note(f"The model could not be started again: {str(error).rstrip('.')}")
            else:
                self._runs_again(file)
                return

    def _runs_again(self, file: tuple[int, ...] | None) -> None:
        self._next_try = None
        self.restarts += 1
        message = "The model's process runs again."
        if file != self._first_file:  # another model, whose labels must not pass for those of the first
            changed = f"{self.metadata['model']} has changed since the server was started, and is served as it is now."
            self.last_failure = f"{self.last_failure} {changed}"
            message = f"{message} {changed}"
        print(printable(message), file=sys.stderr)

    def _file(self) -> tuple[int, ...] | None:
        """Return what tells versions of the model's file apart; None for a name."""
        try:
            found = Path(self._options["model"]).expanduser().stat()
        except (OSError, ValueError, RuntimeError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _note(self, failure: str) -> None:
        self.last_failure = f"{failure} ({time.strftime('%Y-%m-%d %H:%M:%S')})."
        print_error(self.last_failure)

    async def _ending(self) -> str:
        """Wait for the process to end, and return how it did."""
        assert self._process is not None
        code = await self._process.wait()
        if code < 0:
            return f"was ended by signal {-code} ({signal.Signals(-code).name})"
        return f"ended with exit code {code}"

    def _set_watch(self) -> None:
        self._clear_watch()
        self._watch = asyncio.get_running_loop().call_later(self._timeout, self._kill)

    def _clear_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _kill(self) -> None:
        """End a process that does not answer, such as one that is busy with a malicious image."""
        if self._process is not None and self._process.returncode is None:
            self._too_slow = True
            self._process.kill()
