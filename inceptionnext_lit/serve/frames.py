"""Messages between the server and the model's process: a JSON object and blocks of bytes."""

import asyncio
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

_HEAD = struct.Struct(">I")  # length of the JSON text
_BLOCKS = "_blocks"  # key of the blocks' lengths


@dataclass(frozen=True)
class Frame:
    """A message.

    Attributes:
        content: Plain data.
        blocks: Bytes, such as the content of files.
    """

    content: dict[str, Any]
    blocks: list[bytes] = field(default_factory=list)


def pack(content: dict[str, Any], blocks: Sequence[bytes] = ()) -> list[bytes]:
    """Return the parts of a message, to be written one after the other."""
    text = json.dumps(content | {_BLOCKS: [len(block) for block in blocks]}).encode()
    return [_HEAD.pack(len(text)), text, *blocks]


def read_frame(file: BinaryIO) -> Frame | None:
    """Read a message; None at the end of the file, also within a message."""
    if (head := _read(file, _HEAD.size)) is None or (text := _read(file, *_HEAD.unpack(head))) is None:
        return None
    content = json.loads(text)
    blocks = []
    for length in content.pop(_BLOCKS):
        if (block := _read(file, length)) is None:
            return None
        blocks.append(block)
    return Frame(content, blocks)


async def receive_frame(stream: asyncio.StreamReader) -> Frame | None:
    """Read a message; None at the end of the stream, also within a message."""
    try:
        [length] = _HEAD.unpack(await stream.readexactly(_HEAD.size))
        content = json.loads(await stream.readexactly(length))
        blocks = [await stream.readexactly(length) for length in content.pop(_BLOCKS)]
    except asyncio.IncompleteReadError:
        return None
    return Frame(content, blocks)


def _read(file: BinaryIO, length: int) -> bytes | None:
    content = file.read(length)
    return content if len(content) == length else None
