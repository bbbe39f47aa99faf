"""Detect image formats from a file's first bytes."""

from typing import Final

SIGNATURE_LENGTH: Final = 32
"""Number of bytes needed for the detection."""

HEIF_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif"})

_JPEG = b"\xff\xd8\xff"
_FIXED = (
    _JPEG,
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",  # TIFF, and BigTIFF below
    b"MM\x00*",
    b"II+\x00\x08\x00",
    b"MM\x00+\x00\x08",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",  # JPEG 2000, and its bare code stream
    b"\xff\x4f\xff\x51",
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # lengths in bytes
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_jpeg_start(head: bytes) -> bool:
    """Return whether these are the first bytes of a JPEG file."""
    return head.startswith(_JPEG)


def is_image_start(head: bytes) -> bool:
    """Return whether these may be the first bytes of an image.

    Args:
        head: At least 32 bytes, unless the file is shorter.
    """
    return (
        head.startswith(_FIXED)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS)
        or (head[:4] == b"\x00\x00\x01\x00" and head[4:6] != b"\x00\x00" and head[9:10] == b"\x00")  # ICO
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() and head[3:4] in b"#0123456789")  # PNM
        or (head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS)
        or is_heif_start(head)
    )


def is_heif_start(head: bytes) -> bool:
    """Return whether these are the first bytes of a HEIC or HEIF picture (or of an AVIF one with a generic brand)."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS
