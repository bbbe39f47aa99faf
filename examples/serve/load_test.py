"""Load a server on this machine with many clients, and check that each gets the answer to its own image.

Usage: python examples/serve/load_test.py IMAGE ... [--url http://127.0.0.1:8000] [--clients 200] [--seconds 30]

The label of each image is asked for first, alone. Then each client sends one image after the other over one connection.
A client that is told to come back later (503) does so. The exit code is 1 if an answer is lost or wrong.
"""

import argparse
import asyncio
import json
import re
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PATIENCE = 120  # seconds for an answer
_CHANGE = 0.01  # of a probability in another batch


@dataclass
class Tally:
    """What all clients have seen.

    Attributes:
        latencies: Seconds of each answer, with the time that the client was told to wait.
        lost: What went wrong instead of an answer.
        wrong: Number of answers that belong to another image.
        busy: Number of answers 503.
    """

    latencies: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: int = 0
    busy: int = 0


class Client:
    """A client with one connection.

    Args:
        url: Address of the server.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, image: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send an image, and return the status, the headers and the body of the answer."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        head = f"POST /predict HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/octet-stream\r\n"
        self._writer.write(f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image)
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(first.split()[1]), headers, body

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def ask(client: Client, image: bytes, tally: Tally) -> dict[str, float]:
    """Return the probabilities that an image gets; a busy server is asked again."""
    while True:
        status, headers, body = await client.post(image)
        if status == 200:
            [row] = json.loads(body)
            return row["top5"]
        if status != 503:
            raise RuntimeError(f"HTTP {status}: {body.decode()}")
        tally.busy += 1
        await asyncio.sleep(float(headers["retry-after"]))


async def visit(url: str, images: list[bytes], expected: list[dict[str, float]], end: float, tally: Tally) -> None:
    """Send images until the end of the test."""
    client = Client(url)
    number = 0
    while time.monotonic() < end:
        place = number % len(images)
        number += 1
        start = time.monotonic()
        try:
            found = await asyncio.wait_for(ask(client, images[place], tally), _PATIENCE)
        except (OSError, RuntimeError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
            tally.lost.append(f"{type(error).__name__} {error}")
            client.close()
            continue
        tally.latencies.append(time.monotonic() - start)
        best = next(iter(expected[place]))
        if abs(found.get(best, 0.0) - expected[place][best]) > _CHANGE:
            tally.wrong += 1
    client.close()


async def load(url: str, images: list[bytes], clients: int, seconds: float) -> tuple[Tally, float, float]:
    """Run the test, and return what the clients have seen, the seconds it took, and the model's largest memory."""
    tally, first = Tally(), Client(url)
    expected = [await ask(first, image, tally) for image in images]
    first.close()
    start = time.monotonic()
    visits = []
    for number in range(clients):
        turned = number % len(images)
        order = images[turned:] + images[:turned], expected[turned:] + expected[:turned]
        visits.append(asyncio.create_task(visit(url, *order, start + seconds, tally)))
    peak = 0.0
    while any(not task.done() for task in visits):
        peak = max(peak, sum((await asyncio.to_thread(memory, url)).values()))
        await asyncio.wait(visits, timeout=1)
    return tally, time.monotonic() - start, peak


def memory(url: str) -> dict[str, float]:
    """Return the resident megabytes of the server's processes."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=_PATIENCE) as answer:
        text = answer.read().decode()
    found = re.findall(r'^inceptionnext_resident_bytes\{process="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {name: float(value) / 2**20 for name, value in found}


def percentile(values: list[float], share: float) -> float:
    """Return a percentile by the nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    """Run the test; return 1 if an answer is lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=200, help="at most 1000")
    parser.add_argument("--seconds", type=float, default=30, help="at most 300")
    options = parser.parse_args()
    if urlsplit(options.url).hostname not in _LOOPBACK:
        parser.error("load only a server on this machine, such as http://127.0.0.1:8000")
    if not (1 <= options.clients <= 1000 and 0 < options.seconds <= 300):
        parser.error("--clients is at most 1000 and --seconds at most 300")
    url, images = options.url.rstrip("/"), [image.read_bytes() for image in options.images]
    try:
        before = memory(url)
    except OSError as error:
        print(f"{url} cannot be reached: {error}", file=sys.stderr)
        return 1
    tally, seconds, peak = asyncio.run(load(url, images, options.clients, options.seconds))
    after = memory(url)
    answers = len(tally.latencies)
    if answers:
        shares = ", ".join(f"p{share} {1000 * percentile(tally.latencies, share / 100):.0f}" for share in (50, 95, 99))
        print(f"{options.clients} clients, {seconds:.1f} s: {answers:,} answers, {answers / seconds:.1f} images/s")
        print(f"latency in ms: {shares}, most {1000 * max(tally.latencies):.0f}")
    print(f"lost: {len(tally.lost)}, wrong: {tally.wrong}, told to come back (503): {tally.busy:,}")
    for reason in tally.lost[:5]:
        print(f"  {reason}")
    told = ", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in after)
    print(f"memory in MiB: {told}; most together {peak:.0f}")
    return 1 if tally.lost or tally.wrong or not answers else 0


if __name__ == "__main__":
    sys.exit(main())
