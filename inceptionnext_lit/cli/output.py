"""Output that nobody reads any more, after ``| head -1`` or when the terminal is closed."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

NO_READER = 141  # a shell's own code for a program that SIGPIPE has ended


class ReaderGone(SystemExit):
    """Ends a command whose output nobody reads any more."""

    def __init__(self) -> None:
        super().__init__(NO_READER)


class Output:
    """A standard stream that outlives its reader: what is written after that goes nowhere.

    Args:
        stream: The stream.
        goes_on: Whether the command goes on without its reader. Otherwise writing raises :class:`ReaderGone`.
    """

    def __init__(self, stream: TextIO, *, goes_on: bool) -> None:
        self._stream = stream
        self._goes_on = goes_on

    def write(self, text: str) -> int:
        """Write; see above."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Hand what was written to the system; see above."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.EIO):  # a pipe that nobody reads; a terminal that is gone
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not self._goes_on:
            raise ReaderGone from None


@contextmanager
def outliving_readers(*, goes_on: bool) -> Iterator[None]:
    """Let the standard streams outlive their readers while the block lasts.

    Args:
        goes_on: As for :class:`Output`.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Output(stream, goes_on=goes_on)) for stream in before)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = before
