"""Many strings, such as the paths of a data set, in a few arrays."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_CHUNK = 65536


class PackedStrings(Sequence[str]):
    """A sequence of strings in one buffer.

    A Python object per path would cost hundreds of bytes per image in each loader process, since reading an object
    writes its reference count and so copies the memory that the processes share.

    Args:
        buffer: The concatenated strings, encoded like file names.
        starts: Start of each string in the buffer, int64 (N,).
        lengths: Length of each string in bytes, int32 (N,).
        prefix: Common prefix of all strings, not in the buffer.
    """

    def __init__(self, buffer: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int32], prefix: str = "") -> None:
        self.buffer = buffer
        self.starts = starts
        self.lengths = lengths
        self.prefix = prefix

    @classmethod
    def of(cls, strings: Iterable[str], prefix: str = "") -> "PackedStrings":
        """Pack strings.

        Args:
            strings: The strings without the prefix.
            prefix: Common prefix of all strings.
        """
        buffer, lengths = bytearray(), array("i")
        for string in strings:
            encoded = os.fsencode(string)
            buffer += encoded
            lengths.append(len(encoded))
        sizes = np.array(lengths, dtype=np.int32)
        starts = np.cumsum(sizes, dtype=np.int64) - sizes
        return cls(bytes(buffer), starts, sizes, prefix)

    def __len__(self) -> int:
        """The number of strings."""
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "PackedStrings": ...

    def __getitem__(self, index: int | slice) -> "str | PackedStrings":
        """Return a string, or a part of the sequence, which shares the buffer."""
        if isinstance(index, slice):
            return self.take(index)
        start = self.starts[index]
        return self.prefix + os.fsdecode(self.buffer[start : start + self.lengths[index]])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the strings in order."""
        for first in range(0, len(self), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            for start, length in zip(self.starts[chunk].tolist(), self.lengths[chunk].tolist(), strict=True):
                yield self.prefix + os.fsdecode(self.buffer[start : start + length])

    def __eq__(self, other: object) -> bool:
        """Return whether another sequence has the same strings."""
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def take(self, which: slice | NDArray[Any]) -> "PackedStrings":
        """Select strings by a slice, by indices or by a mask; the buffer is shared."""
        return PackedStrings(self.buffer, self.starts[which], self.lengths[which], self.prefix)

    def __add__(self, other: "PackedStrings") -> "PackedStrings":
        """Concatenate with other strings."""
        lengths = np.concatenate([self.lengths, other.lengths])
        if self.prefix != other.prefix:
            return PackedStrings.of(string for part in (self, other) for string in part)
        if self.buffer is other.buffer:
            return PackedStrings(self.buffer, np.concatenate([self.starts, other.starts]), lengths, self.prefix)
        starts = np.concatenate([self.starts, other.starts + len(self.buffer)])
        return PackedStrings(self.buffer + other.buffer, starts, lengths, self.prefix)
