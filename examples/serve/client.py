"""Label images with a running server, using only the standard library.

Usage: python examples/serve/client.py IMAGE ... [--url http://127.0.0.1:8000]
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def label(image: Path, url: str, tries: int = 10) -> dict[str, Any]:
    """Return the row of an image; while the server is busy, wait as long as it says.

    Args:
        image: The image file.
        url: Address of the server.
        tries: How often to ask a busy server.

    Raises:
        urllib.error.HTTPError: If the image has no label; its body says why.
        urllib.error.URLError: If the server cannot be reached.
    """
    headers = {"Content-Type": "application/octet-stream"}
    for remaining in reversed(range(tries)):
        request = urllib.request.Request(f"{url}/predict", image.read_bytes(), headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                [row] = json.load(answer)
                return {**row, "path": str(image)}
        except urllib.error.HTTPError as error:
            if error.code != 503 or not remaining:
                raise
            time.sleep(float(error.headers.get("Retry-After", 1)))
    raise AssertionError


def main() -> int:
    """Print a line for each image; return 1 if one has no label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    options = parser.parse_args()
    failed = 0
    for image in options.images:
        try:
            row = label(image, options.url.rstrip("/"))
        except urllib.error.HTTPError as error:
            failed += 1
            print(f"{image}: {json.load(error)['detail']}", file=sys.stderr)
            continue
        except (OSError, urllib.error.URLError) as error:
            print(f"{image}: {error}", file=sys.stderr)
            return 1
        print(f"{row['path']}: {row['label']}, probability {row['probability']:.4f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
