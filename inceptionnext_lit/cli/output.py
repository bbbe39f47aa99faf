"""Output that nobody reads any more, after ``| head -1`` or when the terminal is closed, or that a terminal lacks."""

import errno
import io
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
    """Let the standard streams outlive their readers while the block lasts; what an encoding lacks comes as escapes.

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
            for stream, former in zip(before, errors, strict=True):
                _set_errors(stream, former)


def _set_errors(stream: TextIO, errors: str | None) -> str | None:
    """Say what a stream does with signs that its encoding lacks; returns what it did before."""
    former = stream.errors
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=errors)
    return former
