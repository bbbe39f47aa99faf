"""Form batches of the images of all requests."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from inceptionnext_lit.serve.labeling import FAILED, Answer
from inceptionnext_lit.serve.metrics import Metrics
from inceptionnext_lit.serve.model_process import ModelFailedError, ModelProcess
from inceptionnext_lit.serve.options import ServeOptions

_AT_ONCE = 2  # batches: one is decoded while the model labels the other
_LONGEST_WAIT = 60  # seconds of Retry-After
_SMOOTHING = 0.8


class BusyError(Exception):
    """There is no room in the queue.

    Args:
        retry_after: Seconds after which there will be.
    """

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(retry_after)


@dataclass(frozen=True)
class _Waiting:
    content: bytes
    since: float
    answer: "asyncio.Future[Answer]"


class Batcher:
    """A bounded queue of images, of which batches are sent to the model.

    Args:
        process: The model's process.
        options: The server's options.
        metrics: Counts the images and the batches.
    """

    def __init__(self, process: ModelProcess, options: ServeOptions, metrics: Metrics) -> None:
        self._process = process
        self._options = options
        self._metrics = metrics
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._batches: set[asyncio.Task[None]] = set()
        self._seconds_per_image = 0.05  # until it is known

    def __len__(self) -> int:
        """The number of images that wait."""
        return len(self._queue)

    @property
    def retry_after(self) -> int:
        """Seconds until the images that wait are labeled."""
        return max(1, min(_LONGEST_WAIT, math.ceil(len(self._queue) * self._seconds_per_image)))

    async def submit(self, contents: Sequence[bytes]) -> list[Answer]:
        """Label images; cancel the call to give up on those that still wait.

        Args:
            contents: The content of image files.

        Raises:
            BusyError: If the queue has no room for them.
        """
        if len(self._queue) + len(contents) > self._options.max_queue:
            raise BusyError(self.retry_after)
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(content, loop.time(), loop.create_future()) for content in contents]
        self._queue.extend(waiting)
        self._metrics.waiting.set(len(self._queue))
        self._arrived.set()
        return list(await asyncio.gather(*(one.answer for one in waiting)))

    async def run(self) -> None:
        """Send batches to the model until the task is cancelled."""
        while True:
            await self._slots.acquire()
            batch = await self._next()
            await self._process.wait_ready()
            task = asyncio.create_task(self._label(batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _next(self) -> list[_Waiting]:
        """Return the next images: a full batch, or those there are when the first has waited long enough."""
        loop = asyncio.get_running_loop()
        while True:
            while self._queue and self._queue[0].answer.done():  # the client has left
                self._queue.popleft()
            self._arrived.clear()
            patience = None
            if self._queue:
                patience = self._queue[0].since + self._options.max_wait_ms / 1000 - loop.time()
                if len(self._queue) >= self._options.max_batch or patience <= 0:
                    break
            try:
                async with asyncio.timeout(patience):
                    await self._arrived.wait()
            except TimeoutError:
                pass
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self._options.max_batch:
            one = self._queue.popleft()
            if not one.answer.done():
                batch.append(one)
        self._metrics.waiting.set(len(self._queue))
        return batch

    async def _label(self, batch: list[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            frame = await self._process.ask("predict", [one.content for one in batch])
            answers = [Answer(**answer) for answer in frame.content["answers"]]
        except ModelFailedError as error:
            answers = [Answer(FAILED, str(error))] * len(batch)
        finally:
            self._slots.release()
        seconds = time.perf_counter() - start
        self._seconds_per_image *= _SMOOTHING
        self._seconds_per_image += (1 - _SMOOTHING) * seconds / len(batch)
        self._metrics.batch(len(batch), seconds)
        for one, answer in zip(batch, answers, strict=True):
            self._metrics.image(answer.status)
            if not one.answer.done():
                one.answer.set_result(answer)
