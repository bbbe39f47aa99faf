"""Progress of a scan of folders, and the files that it skips."""

import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Collection
from types import TracebackType

from inceptionnext_lit.data.decode.opening import HEIF_COMMAND
from inceptionnext_lit.data.decode.signatures import HEIF_SUFFIXES

_SILENT_S = 1.0  # faster scans do not report progress
_PERIOD_S = {True: 0.2, False: 10.0}  # between two reports, on a terminal and in a log
_EVERY = 4096  # files between two checks of the clock


class Scan:
    """Count files, report the progress of long scans on stderr, and record skipped files.

    Args:
        folder: Where the scan begins, for messages.

    Attributes:
        ignored: Skipped images, by the name of their folder (thumbnails, a recycle bin).
        unread: Pictures in an unsupported format.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = folder
        self.ignored: Counter[str] = Counter()
        self.unread: list[str] = []
        self._files = 0
        self._looked_at = 0
        self._next = 0.0
        self._spoke = False

    def __enter__(self) -> "Scan":
        """Start the clock."""
        self._next = time.monotonic() + _SILENT_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the progress line, and warn once about pictures in unsupported formats."""
        if self._spoke and sys.stderr.isatty():
            print(end="\r\x1b[K", file=sys.stderr, flush=True)
        if self.unread and error is None:
            number = len(self.unread)
            what = "1 picture" if number == 1 else f"{number:,} pictures"
            warnings.warn(
                f"{what} below {self.folder} {'is' if number == 1 else 'are'} in an unsupported format, such as "
                f"{self.unread[0]}, and {'was' if number == 1 else 'were'} skipped. {advise(self.unread)}",
                stacklevel=2,
            )

    def count(self, files: int) -> None:
        """Add a number of files, and report the total from time to time."""
        self._files += files
        if self._files - self._looked_at < _EVERY or not self._next:
            return
        self._looked_at = self._files
        now = time.monotonic()
        if now >= self._next and is_rank_zero():
            on_terminal = sys.stderr.isatty()
            self._next = now + _PERIOD_S[on_terminal]
            self._spoke = True
            text = f"Scanning … {self._files:,} files"
            print(f"\r{text}" if on_terminal else text, end="" if on_terminal else "\n", file=sys.stderr, flush=True)


def describe_ignored(ignored: Counter[str]) -> str | None:
    """Describe how many images were skipped, and where; None if there were none."""
    if not ignored:
        return None
    total = ignored.total()
    places = ", ".join(f"{name} ({number:,})" for name, number in ignored.most_common())
    return f"{total:,} {'image' if total == 1 else 'images'} in {places}"


def advise(unread: Collection[str]) -> str:
    """Return advice on pictures in unsupported formats, in sentences.

    Args:
        unread: Their paths.
    """
    suffixes = {os.path.splitext(path)[1].lower() for path in unread}
    advice = []
    if suffixes & HEIF_SUFFIXES:
        advice.append(f"HEIC and HEIF can be read after: {HEIF_COMMAND}.")
    if ".npy" in suffixes:
        advice.append("Arrays (.npy) are read if data.in_chans is not 3.")
    if suffixes - HEIF_SUFFIXES - {".npy"}:
        advice.append("Convert them to JPEG or PNG to use them.")
    return " ".join(advice)


def is_rank_zero() -> bool:
    """Return whether this process has rank 0, according to the environment."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)
