"""Write a prepared data set: arrays as PNG files in class folders, files as rows of a manifest."""

import csv
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from io import BytesIO
from multiprocessing.connection import wait as wait_for
from pathlib import Path

from PIL import Image

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.samples import Arrays, Files, Pixels
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.wording import printable

Tick = Callable[[int], object]
_CHUNK = 256  # images per task
_AHEAD = 3  # tasks per process that are queued or running
_ALONE = 1000  # fewer images are written by this process
_FORBIDDEN = str.maketrans(dict.fromkeys('/\\:*?"<>|', "-"))  # in names of files, on some system


def write_images(output: Path, splits: Mapping[str, Arrays], workers: int, tick: Tick) -> None:
    """Write images as PNG files, ``SPLIT/CLASS/INDEX.png``; files that exist are complete and are kept.

    Args:
        output: The folder.
        splits: The images.
        workers: Number of processes.
        tick: Called with the number of images written, or found, since the last call.

    Raises:
        UserError: If a process was killed.
    """
    tasks = itertools.chain.from_iterable(_tasks(output / split, images, tick) for split, images in splits.items())
    if workers == 1 or sum(map(len, splits.values())) < _ALONE:
        for paths, pixels in tasks:
            _write_pngs(paths, pixels)
            tick(len(paths))
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_process)
    running: dict[Future[None], int] = {}
    try:
        for paths, pixels in tasks:
            running[pool.submit(_write_pngs, paths, pixels)] = len(paths)
            if len(running) >= workers * _AHEAD:
                _collect(running, tick)
        while running:
            _collect(running, tick)
    except BrokenProcessPool as error:
        raise UserError(
            "A process that writes images was killed, most likely for lack of memory. What is finished is kept; give "
            "the same command again with --num_workers 1."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def class_folders(classes: Sequence[str]) -> list[str]:
    """Return the names of the class folders: the class names without characters that paths cannot have.

    Raises:
        UserError: If two classes would share a folder.
    """
    folders = [name.translate(_FORBIDDEN).strip(" .") or "_" for name in classes]
    for name, folder in zip(classes, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"The class {name!r} cannot have a folder of its own: another one is {folder!r} too.")
    return folders


def write_manifest(path: Path, splits: Mapping[str, Files]) -> None:
    """Write a manifest; the paths are relative to it where the files are below its folder, and absolute otherwise.

    Args:
        path: The manifest; it is replaced when it is complete.
        splits: The images.
    """
    has_groups = all(files.groups is not None for files in splits.values())
    below = os.path.join(path.parent.absolute(), "")
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "split", *(["group"] if has_groups else [])])
        for split, files in splits.items():
            groups = files.groups if has_groups and files.groups is not None else None
            extra = itertools.repeat(()) if groups is None else ((group,) for group in groups)
            for image, label, group in zip(files.paths, files.labels, extra, strict=False):
                absolute = os.path.abspath(image)
                if not _is_utf_8(absolute):
                    raise UserError(f"The path {printable(absolute)} is not UTF-8, which a manifest is; rename it.")
                writer.writerow([absolute.removeprefix(below), label, split, *group])


def write_bytes(path: str, content: bytes) -> None:
    """Write a file unless it exists; a file with the final name is complete."""
    if os.path.exists(path):
        return
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".{name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except OSError as error:
        error.filename = path
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def _tasks(folder: Path, images: Arrays, tick: Tick) -> Iterator[tuple[list[str], Pixels]]:
    """Yield the paths and pixels of the images that do not exist yet."""
    folders = [folder / name for name in class_folders(images.classes)]
    done: set[str] = set()
    for place in folders:
        place.mkdir(parents=True, exist_ok=True)
        done.update(entry.path for entry in os.scandir(place))
    for start in range(0, len(images), _CHUNK):
        labels = images.labels[start : start + _CHUNK]
        paths = [str(folders[label] / f"{start + place:06}.png") for place, label in enumerate(labels)]
        missing = [place for place, path in enumerate(paths) if path not in done]
        tick(len(paths) - len(missing))
        if missing:
            yield [paths[place] for place in missing], images.chunk(start, start + len(paths))[missing]


def _write_pngs(paths: Sequence[str], pixels: Pixels) -> None:
    for path, image in zip(paths, pixels, strict=True):
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        write_bytes(path, buffer.getvalue())


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _collect(running: dict[Future[None], int], tick: Tick) -> None:
    for done in wait(running, return_when=FIRST_COMPLETED).done:
        done.result()
        tick(running.pop(done))


def _prepare_process() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
