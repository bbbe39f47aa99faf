"""Handle output streams without a reader, as after ``| head -1``, and characters that a terminal cannot encode."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

NO_READER = 141  # the shell's exit code for a program ended by SIGPIPE


class ReaderGone(SystemExit):
    """Ends a command whose output has lost its reader."""

    def __init__(self) -> None:
        super().__init__(NO_READER)


class Output:
    """A standard stream that survives the loss of its reader; later output is discarded.

    Args:
        stream: The stream.
        goes_on: Whether the command continues without its reader. Otherwise writing raises :class:`ReaderGone`.
    """

    def __init__(self, stream: TextIO, *, goes_on: bool) -> None:
        self._stream = stream
        self._goes_on = goes_on

    def write(self, text: str) -> int:
        """Write text, or discard it if the reader is gone."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream, unless the reader is gone."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.EIO):  # a pipe without a reader, a closed terminal
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not self._goes_on:
            raise ReaderGone from None


@contextmanager
def outliving_readers(*, goes_on: bool) -> Iterator[None]:
    """Make the standard streams survive the loss of their readers, and escape characters that they cannot encode.

    Args:
        goes_on: As for :class:`Output`.
    """
    before = sys.stdout, sys.stderr
    errors = [_set_errors(stream, "backslashreplace") for stream in before]
    sys.stdout, sys.stderr = (cast(TextIO, Output(stream, goes_on=goes_on)) for stream in before)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = before
            for stream, previous in zip(before, errors, strict=True):
                _set_errors(stream, previous)


def _set_errors(stream: TextIO, errors: str | None) -> str | None:
    """Set a stream's error handler for characters that it cannot encode, and return the previous one."""
    previous = stream.errors
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=errors)
    return previous
