"""Very many texts, such as the paths of a data set, in a few arrays."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_CHUNK = 65536


class PackedStrings(Sequence[str]):
    """A sequence of texts in one buffer.

    A Python object for each path would cost a process hundreds of bytes an image, and every loader process again, since
    reading an object writes its reference count and so copies the memory that the processes share.

    Args:
        buffer: The texts, one after another, as file names are encoded.
        starts: Where each text begins in the buffer, int64 (N,).
        lengths: How many bytes it has, int32 (N,).
        prefix: What stands before each text.
    """

    def __init__(self, buffer: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int32], prefix: str = "") -> None:
        self.buffer = buffer
        self.starts = starts
        self.lengths = lengths
        self.prefix = prefix

    @classmethod
    def of(cls, texts: Iterable[str], prefix: str = "") -> "PackedStrings":
        """Pack texts.

        Args:
            texts: What comes after the prefix.
            prefix: What all of them begin with.
        """
        buffer, lengths = bytearray(), array("i")
        for text in texts:
            encoded = os.fsencode(text)
            buffer += encoded
            lengths.append(len(encoded))
        sizes = np.array(lengths, dtype=np.int32)
        starts = np.cumsum(sizes, dtype=np.int64) - sizes
        return cls(bytes(buffer), starts, sizes, prefix)

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "PackedStrings": ...

    def __getitem__(self, index: int | slice) -> "str | PackedStrings":
        """A text, or a part of the sequence, which shares the buffer."""
        if isinstance(index, slice):
            return self.take(index)
        start = self.starts[index]
        return self.prefix + os.fsdecode(self.buffer[start : start + self.lengths[index]])

    def __iter__(self) -> Iterator[str]:
        """The texts, in order."""
        for first in range(0, len(self), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            for start, length in zip(self.starts[chunk].tolist(), self.lengths[chunk].tolist(), strict=True):
                yield self.prefix + os.fsdecode(self.buffer[start : start + length])

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has the same texts."""
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def take(self, which: slice | NDArray[Any]) -> "PackedStrings":
        """Some of the texts, by a slice, by indices or by a mask; the buffer is shared."""
        return PackedStrings(self.buffer, self.starts[which], self.lengths[which], self.prefix)

    def __add__(self, other: "PackedStrings") -> "PackedStrings":
        """These texts and then others."""
        lengths = np.concatenate([self.lengths, other.lengths])
        if self.prefix != other.prefix:
            return PackedStrings.of(text for part in (self, other) for text in part)
        if self.buffer is other.buffer:
            return PackedStrings(self.buffer, np.concatenate([self.starts, other.starts]), lengths, self.prefix)
        starts = np.concatenate([self.starts, other.starts + len(self.buffer)])
        return PackedStrings(self.buffer + other.buffer, starts, lengths, self.prefix)
