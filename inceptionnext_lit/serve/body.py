"""Read the images of a request into memory, within limits of bytes, images and time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from inceptionnext_lit.serve.options import ServeOptions

_IDLE_SECONDS = 10  # without a byte
_DRAIN_SECONDS = 5  # for unfinished requests when the server ends
_MOST_BOUNDARY = 256  # bytes; RFC 2046 allows 70
_BODIES_AT_ONCE = 8  # of the maximum size, in memory
_DISCARDED_SECONDS, _DISCARDED_BYTES = 3, 64 * 2**20
_RAW_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")  # the last is curl's default


class Refused(Exception):
    """A request that gets another answer than a row.

    Args:
        status: HTTP's code.
        reason: Why, as a sentence.
        retry_after: Seconds after which it may be repeated.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)


@dataclass
class Upload:
    """A file of a request.

    Attributes:
        name: Its name; None for a body without a form.
        content: Its bytes.
    """

    name: str | None
    content: bytearray


class BodyReader:
    """Read bodies, while the memory of all of them is limited.

    Args:
        options: The server's options.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._room = _BODIES_AT_ONCE * options.max_bytes
        self._timeouts: set[asyncio.Timeout] = set()
        self._draining = False

    def drain(self) -> None:
        """Give unfinished requests a few seconds, since the server ends."""
        self._draining = True
        soon = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        for timeout in self._timeouts:
            if (when := timeout.when()) is None or when > soon:
                timeout.reschedule(soon)

    @asynccontextmanager
    async def uploads(self, request: Request) -> AsyncIterator[list[Upload]]:
        """Read the files of a request, whose memory counts until the block ends.

        Args:
            request: The request; its body is a multipart form with files, or a file itself.

        Raises:
            Refused: If it exceeds a limit, is not complete in time, or has no files.
            ClientDisconnect: If the client leaves before it is complete.
        """
        kind, parameters = parse_options_header(request.headers.get("content-type"))
        is_form = kind == b"multipart/form-data"
        declared = kind.decode("latin-1")
        if not is_form and declared not in _RAW_TYPES and not declared.startswith("image/"):
            raise Refused(415, f"The type {declared!r} is not an image; send image files or a multipart form.")
        if (coding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
            raise Refused(415, f"The body is compressed (Content-Encoding: {coding}); send the files as they are.")
        body = Form(parameters.get(b"boundary", b""), self._options.max_queue) if is_form else RawBody()
        with self._memory() as take:
            await self._receive(request, take, body)
            yield body.finish()

    @contextmanager
    def _memory(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes memory for a body, which is given back when the block ends."""
        taken = 0

        def take(number: int) -> None:
            nonlocal taken
            if number > self._room:
                raise Refused(503, "The server holds too many images; try again later.", retry_after=1)
            self._room -= number
            taken += number

        try:
            yield take
        finally:
            self._room += taken

    async def _receive(self, request: Request, take: Callable[[int], None], body: "RawBody | Form") -> None:
        limit = self._options.max_bytes
        declared = request.headers.get("content-length", "")
        is_too_large = declared.isdecimal() and int(declared) > limit
        received = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS if self._draining else self._options.timeout_s) as whole:
                self._timeouts.add(whole)
                while not is_too_large:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        chunk, more = await _next(request)
                    received += len(chunk)
                    is_too_large = received > limit
                    if not is_too_large:
                        take(len(chunk))
                        body.write(chunk)
                        if not more:
                            return
        except TimeoutError:
            raise Refused(408, "The request was not complete in time; send it again.") from None
        finally:
            self._timeouts.discard(whole)
        if "expect" not in request.headers:  # else the client waits for the answer before it sends the body
            await _discard(request)
        raise Refused(413, f"The request has more than {limit:,} bytes (--max_bytes).")


class RawBody:
    """A body that is a file itself."""

    def __init__(self) -> None:
        self._content = bytearray()

    def write(self, chunk: bytes) -> None:
        """Add a part of the body."""
        self._content += chunk

    def finish(self) -> list[Upload]:
        """Return the file."""
        return [Upload(None, self._content)]


class Form:
    """A multipart form, whose fields without a file name are ignored.

    Args:
        boundary: The form's boundary.
        most: Maximum number of files.

    Raises:
        Refused: If there is no valid boundary.
    """

    def __init__(self, boundary: bytes, most: int) -> None:
        self._uploads: list[Upload] = []
        self._most = most
        self._current: Upload | None = None
        self._is_complete = False
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        if not 0 < len(boundary) <= _MOST_BOUNDARY:
            raise Refused(400, "The multipart form has no valid boundary.")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._add,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        """Add a part of the body.

        Raises:
            Refused: If it is not a valid form, or has too many files.
        """
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise Refused(400, "The multipart form is not valid.") from None

    def finish(self) -> list[Upload]:
        """Return the files.

        Raises:
            Refused: If the form is incomplete, or there are none.
        """
        if not self._is_complete:
            raise Refused(400, "The multipart form is not complete.")
        if not self._uploads:
            raise Refused(422, "The form has no files; send at least one image, as a part with a filename.")
        return self._uploads

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        self._current = None
        if (name := options.get(b"filename")) is not None:
            if len(self._uploads) == self._most:
                raise Refused(413, f"A request has at most {self._most:,} images (--max_queue).")
            self._current = Upload(name.decode("utf-8", "replace"), bytearray())
            self._uploads.append(self._current)

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._current is not None:
            self._current.content += data[start:end]

    def _end(self) -> None:
        self._is_complete = True


async def _next(request: Request) -> tuple[bytes, bool]:
    """Return the next part of a body, and whether there is more."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _discard(request: Request) -> None:
    """Read on for a moment: many clients read the answer only after they have sent everything."""
    received, more = 0, True
    try:
        async with asyncio.timeout(_DISCARDED_SECONDS):
            while more and received <= _DISCARDED_BYTES:
                chunk, more = await _next(request)
                received += len(chunk)
    except TimeoutError:
        return
