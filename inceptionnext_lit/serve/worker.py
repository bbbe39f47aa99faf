"""The model's process: it decodes and labels what the server sends, so that a crash does not end the server.

It reads messages from its standard input and writes the answers to its standard output, until the input ends. What
libraries print while the model is loaded goes to the standard error.
"""

import gc
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.serve.frames import Frame, pack, read_frame
from inceptionnext_lit.serve.heat_map import missing_for_heat_maps
from inceptionnext_lit.serve.labeling import Answer, Classifies, Labeler, Read, Segments, is_segmenter, report_failure
from inceptionnext_lit.wording import first_line

Options = dict[str, Any]


def load(options: Options) -> Classifies | Segments:
    """Load the model that the options name, and try it on a gray image.

    Raises:
        UserError: If it cannot be loaded.
    """
    from inceptionnext_lit.allocator import keep_memory

    keep_memory()
    gc.disable()  # imports create many objects that stay; scanning them takes a quarter of the time
    from inceptionnext_lit.predict.loading import load_model

    gc.freeze()
    gc.enable()
    further = {} if options["device"] is None else {"device": options["device"]}
    return load_model(options["model"], max_pixels=options["max_pixels"], **further)


def main(make: Callable[[Options], Classifies | Segments] = load) -> None:
    """Run the process.

    Args:
        make: Loads the model; the default is :func:`load`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the server decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    for name in ("PIL", "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # their messages are about what clients send
    output = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(2, 1)
    options: Options = json.loads(sys.argv[1])
    try:
        labeler = Labeler(make(options), options["max_pixels"], options["unsure_below"])
        try_out(labeler)
    except UserError as error:
        _send(output, {"error": str(error)})
        return
    except Exception as error:
        traceback.print_exc()
        _send(output, {"error": f"The model cannot be loaded: {type(error).__name__}: {first_line(error)}."})
        return
    try:
        _send(output, {"metadata": metadata(labeler.model, options), "hint": hint(labeler.model, options)})
        _silence_decoders(nowhere)
        answer_jobs(sys.stdin.buffer, output, labeler)
    except BrokenPipeError:  # the server has ended
        os._exit(1)


def _silence_decoders(nowhere: int) -> None:
    """Drop what libraries in C print, such as libtiff about the content of images; Python's errors are still printed.

    Args:
        nowhere: A file descriptor of the null device.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def metadata(model: Classifies | Segments, options: Options) -> dict[str, Any]:
    """Return what ``/metadata`` says of the model."""
    from inceptionnext_lit.data.class_words import class_words

    words = {name: found for name in model.class_names if (found := class_words(name)) is not None}
    reason = missing_for_heat_maps(model)
    return {
        "model": Path(options["model"]).name,
        "task": "segmentation" if is_segmenter(model) else "classification",
        "num_classes": len(model.class_names),
        "class_names": list(model.class_names),
        "class_words": words,
        "palette": model.palette if is_segmenter(model) else None,
        "multi_label": False if is_segmenter(model) else model.multi_label,
        "preprocessing": dict(model.preprocessing),
        "unsure_below": options["unsure_below"],
        "heat_map": reason is None,
        "heat_map_note": reason or "",
    }


def hint(classifier: Any, options: Options) -> str | None:
    """Return a sentence on which exported form would be faster on this CPU; None if nothing is known to.

    Args:
        classifier: The model.
        options: What it was loaded from.
    """
    checkpoint = Path(options["model"]).expanduser()
    is_plain = getattr(classifier, "task", None) is not None and checkpoint.is_file()
    if not is_plain or classifier.device.type != "cpu":
        return None
    from inceptionnext_lit.predict.speed_hint import speed_hint

    # this process was started as a module of its own, which is not the program
    return speed_hint(classifier.task.model, checkpoint, options["program"])


def try_out(labeler: Labeler) -> None:
    """Label a gray image, so that a model that cannot run is found at once, and the first request is fast.

    Raises:
        Exception: Whatever the model raises.
    """
    import numpy as np

    channels = len(labeler.model.preprocessing["mean"])
    shape = (64, 64) if channels == 1 else (64, 64, channels)
    labeler.model.predict([np.full(shape, 128, np.uint8)])


def answer_jobs(source: BinaryIO, target: BinaryIO, labeler: Labeler) -> None:
    """Answer messages until the source ends.

    The images of one message are decoded while the model labels those of the one before.

    Args:
        source: Where messages are read from.
        target: Where answers are written to.
        labeler: The model.
    """
    waiting: queue.Queue[tuple[Frame, list[Read], bool] | None] = queue.Queue(maxsize=1)
    model = threading.Thread(target=_run_model, args=(waiting, target, labeler), name="model")
    model.start()
    while model.is_alive() and (job := read_frame(source)) is not None:
        for images, is_last in labeler.groups(job.blocks):
            waiting.put((job, images, is_last))
    waiting.put(None)
    model.join()


def _run_model(waiting: "queue.Queue[Any]", target: BinaryIO, labeler: Labeler) -> None:
    answers: list[Answer] = []
    try:
        while (item := waiting.get()) is not None:
            job, images, is_last = item
            del item
            number = job.content["id"]
            if job.content["kind"] == "explain":
                answer, picture = labeler.explain(images[0], job.content["target"])
                _send(target, {"id": number, "answers": [asdict(answer)]}, picture)
                continue
            answers += labeler.label(images)
            del images
            if is_last:
                _send(target, {"id": number, "answers": [asdict(answer) for answer in answers]})
                answers = []
    except BaseException as error:  # the other thread may wait for messages, so the process ends as a whole
        if not isinstance(error, BrokenPipeError):
            report_failure(error)
        os._exit(1)


def _send(target: BinaryIO, content: dict[str, Any], *blocks: bytes) -> None:
    target.writelines(pack(content, blocks))
    target.flush()


if __name__ == "__main__":
    main()
