"""Ten thousand bad inputs: each is answered, none ends the model's process, and memory stays small."""

import asyncio
import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable

import pytest
from PIL import Image

from inceptionnext_lit.serve.metrics import _resident_bytes
from tests.serve.serving import Served, picture, run, served

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "ICO", "JPEG2000")
ANSWERS = {200, 400, 413, 415, 422}


def seeds() -> dict[str, bytes]:
    """A valid file of each format, and some of unusual kinds."""
    noise = Image.effect_noise((48, 40), 60).convert("RGB")
    found = {}
    for kind in KINDS:
        file = io.BytesIO()
        noise.save(file, kind)
        found[kind] = file.getvalue()
    for name, image, kind, options in (
        ("progressive", noise, "JPEG", {"progressive": True}),
        ("cmyk", noise.convert("CMYK"), "JPEG", {}),
        ("palette", noise.convert("P"), "PNG", {}),
        ("gray16", noise.convert("I;16"), "PNG", {}),
        ("deflate", noise, "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("lossless", noise, "WEBP", {"lossless": True}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **options)
        found[name] = file.getvalue()
    return found


def mutated(content: bytes, draw: random.Random, first: int) -> bytes:
    """Change some of the first bytes."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        changed[draw.randrange(min(first, len(changed)))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    """Cut the end off, or something out."""
    start = draw.randrange(len(content))
    return content[:start] if draw.random() < 0.5 else content[:start] + content[start + draw.randrange(1, 200) :]


def giant(draw: random.Random) -> bytes:
    """A small file whose header says that it is giant."""
    side = [draw.choice((0, 1, 65_000, 65_535, 2**31 - 1)) for _ in range(2)]
    short = [min(value, 65_535) for value in side]
    png = b"IHDR" + struct.pack(">IIBBBBB", *side, draw.choice((1, 8, 16)), draw.choice((0, 2, 3, 6)), 0, 0, 0)
    jpeg = bytearray(picture("red", (16, 16), "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", *short)
    files: list[bytes] = [
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + png + struct.pack(">I", zlib.crc32(png)) + picture("red")[33:],
        bytes(jpeg),
        b"GIF89a"
        + struct.pack("<HHBBB", *short, 0xF7, 0, 0)
        + bytes(768)
        + b","
        + struct.pack("<HHHHB", 0, 0, *short, 0),
        b"BM"
        + struct.pack("<IIIIiiHHIIIIII", 60, 0, 54, 40, *[value - 2**31 for value in side], 1, 24, 0, 0, 0, 0, 0, 0),
        b"P6 %d %d 255\n" % tuple(side) + bytes(100),
        b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + struct.pack("<I", 16_383)[:3] * 2 + bytes(40),
        b"II*\0\x08\0\0\0" + struct.pack("<HHHIIHHII", 2, 256, 4, 1, side[0], 257, 4, 1, side[1]) + bytes(8),
    ]
    return draw.choice(files)


def other(draw: random.Random) -> bytes:
    """Something that is not an image, perhaps behind the signature of one."""
    signatures = [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBP", b"BM"]
    signatures += [
        b"P6 ",
        b"\0\0\0\x1cftypavif",
        b"\0\0\0\x18ftypheic",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\0\0\x01\0\x01\0",
    ]
    signatures += [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
    signatures += [b"{}", b"PK\x03\x04"]
    return draw.choice(signatures) + draw.randbytes(draw.choice((0, 1, 10, 100, 5000)))


async def send(server: Served, content: bytes, draw: random.Random) -> int:
    """Send it as a body or in a form, which may be damaged too."""
    if draw.random() < 0.7:
        return (await server.post(content)).status_code
    form = b'--x\r\nContent-Disposition: form-data; name="i"; filename="f"\r\n\r\n' + content + b"\r\n--x--\r\n"
    if draw.random() < 0.5:
        form = mutated(form, draw, 90) if draw.random() < 0.5 else cut(form, draw)
    kind = draw.choice(("multipart/form-data; boundary=x", 'multipart/form-data; boundary="x"; charset=utf-8'))
    found = await server.client.post("/predict", content=form, headers={"Content-Type": kind})
    return found.status_code


@pytest.mark.slow
def test_ten_thousand_bad_inputs() -> None:
    draw = random.Random(0)
    valid = seeds()

    def of_a_seed(change: Callable[[bytes], bytes]) -> bytes:
        return change(valid[draw.choice((*valid, "JPEG", "PNG", "progressive"))])

    makers: list[Callable[[], bytes]] = [
        lambda: of_a_seed(lambda content: mutated(content, draw, 64)),
        lambda: of_a_seed(lambda content: mutated(content, draw, 700)),
        lambda: of_a_seed(lambda content: cut(content, draw)),
        lambda: giant(draw),
        lambda: other(draw),
    ]
    contents = [draw.choice(makers)() for _ in range(10_000)]
    found: Counter[int] = Counter()

    async def scenario() -> None:
        async with served(max_pixels=1_000_000, max_bytes=100_000) as server:
            before = _resident_bytes(server.service.process.pid)
            waiting = iter(enumerate(contents))

            async def visit() -> None:
                for number, content in waiting:
                    found[await send(server, content, random.Random(number))] += 1

            await asyncio.gather(*(visit() for _ in range(16)))
            health = (await server.client.get("/health")).json()
            assert (health["status"], health["restarts"], health["last_failure"]) == ("ok", 0, None)
            assert (await server.post(picture("blue"))).json()[0]["label"] == "blue"
            after = _resident_bytes(server.service.process.pid)
            assert before is not None
            assert after is not None
            print(found, f"model's process: {before / 2**20:.0f} -> {after / 2**20:.0f} MiB")
            assert after - before < 300 * 2**20
            assert server.service.bodies._room == 8 * 100_000

    run(scenario)
    assert found.total() == 10_000
    assert set(found) == ANSWERS
    assert min(found[status] for status in (413, 415, 422)) > 200
