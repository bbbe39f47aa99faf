"""``serve``: label images over HTTP."""

import argparse
import importlib.util

from inceptionnext_lit.cli import TOOLS
from inceptionnext_lit.cli.tools import ToolParser, positive, sentence
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.serve.options import ServeOptions

EXAMPLES = """\
POST /predict takes an image as the body, or files of a multipart form, and returns rows like those of predict. / is a
page to drop images on, /docs describes the other addresses. Requests are labeled in batches; a full queue answers 503
with Retry-After. Images are held in memory only, and nothing of them is logged.

examples:
  python cli.py serve best.ckpt
  python cli.py serve best.ckpt --port 8080 --unsure_below 0.7
  python cli.py serve best.ckpt --host 0.0.0.0 --max_batch 32 --max_wait_ms 10
  curl --data-binary @photo.jpg http://127.0.0.1:8000/predict
  curl -F image=@one.jpg -F image=@two.png http://127.0.0.1:8000/predict
"""
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def run(words: list[str]) -> None:
    """Run the command.

    Args:
        words: Command-line arguments after ``serve``.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = ServeOptions(**vars(_parse(words)))
    if any(importlib.util.find_spec(name) is None for name in _PACKAGES):
        raise UserError("serve needs FastAPI and uvicorn; install them with pip install 'inceptionnext-lit[serve]'.")
    from inceptionnext_lit.serve.running import run_server

    run_server(options)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("serve", f"{sentence(TOOLS['serve'])}\n\n{EXAMPLES}")
    default = ServeOptions("")
    add = parser.add_argument
    model = add("model", metavar="FILE_OR_CKPT", help="a checkpoint of fit, an exported file, or the name of a model")
    add("--host", default=default.host, help="address to listen on; 0.0.0.0 for all (default: 127.0.0.1)")
    add("--port", type=int, default=default.port, metavar="N", help="port; 0 for any free one (default: 8000)")
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add("--max_batch", type=positive, default=default.max_batch, metavar="N", help="images per batch (default: 16)")
    add(
        "--max_wait_ms",
        type=float,
        default=default.max_wait_ms,
        metavar="MS",
        help="how long an image waits for others to fill a batch (default: 5)",
    )
    add(
        "--max_queue",
        type=positive,
        default=default.max_queue,
        metavar="N",
        help="images that wait, and of a request; more are answered 503 (default: 256)",
    )
    add(
        "--max_bytes",
        type=positive,
        default=default.max_bytes,
        metavar="N",
        help="bytes of a request; eight times as many are held at once (default: 33554432, 32 MiB)",
    )
    add(
        "--max_pixels",
        type=positive,
        default=default.max_pixels,
        metavar="N",
        help="pixels of an image; decoding takes about 14 bytes per pixel (default: 50000000)",
    )
    add(
        "--timeout_s",
        type=float,
        default=default.timeout_s,
        metavar="S",
        help="seconds that a client has to send its request, and the model to label a batch (default: 60)",
    )
    add(
        "--unsure_below",
        type=float,
        metavar="P",
        help="add a field unsure: whether the best probability is below this, such as 0.9",
    )
    model.required = False  # or argparse would report it as missing before a misspelled key
    options = parser.parse_args(words)
    if options.model is None:
        parser.error("the following arguments are required: FILE_OR_CKPT")
    return options
