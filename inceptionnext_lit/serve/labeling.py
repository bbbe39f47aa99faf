"""Label the images of a batch, each with its own answer: one bad image does not spoil the others."""

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from typing_extensions import TypeIs

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.serve.decoding import BROKEN, Opened, Rejected, open_image_bytes
from inceptionnext_lit.serve.heat_map import heat_map
from inceptionnext_lit.serve.rows import Labeled, MaskRowMaker, RowMaker, Segmented

FAILED = 500  # HTTP's code
_THREADS = 4  # that decode, at most


class Segments(Protocol):
    """What ``load_segmenter`` returns."""

    class_names: list[str]
    palette: list[list[int]]
    preprocessing: Any

    def predict(self, images: Any) -> Sequence[Segmented]:
        """Segment images."""


class Classifies(Protocol):
    """What ``load_classifier`` returns."""

    class_names: list[str]
    preprocessing: Any
    multi_label: bool

    def predict(self, images: Any, batch_size: int = 32) -> Sequence[Labeled]:
        """Label images."""


@dataclass(frozen=True)
class Answer:
    """The answer for an image.

    Attributes:
        status: HTTP's code.
        reason: Why there is no row, as a sentence.
        row: The row of the prediction.
    """

    status: int = 200
    reason: str = ""
    row: dict[str, Any] | None = None


Read = Opened | Answer
"""A decoded image, or the reason why it cannot be labeled."""


class Labeler:
    """Label images, given as the bytes of files.

    Args:
        model: The classifier or segmenter.
        max_pixels: Maximum number of pixels of an image, and of the decoded images of a group.
        unsure_below: If set, rows have ``unsure``.
    """

    def __init__(self, model: Classifies | Segments, max_pixels: int, unsure_below: float | None = None) -> None:
        self.model = model
        self._channels = len(model.preprocessing["mean"])
        self._max_pixels = max_pixels
        self._rows = rows_of(model, unsure_below)
        self._decoders = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "decode")  # Pillow releases the GIL

    def groups(self, contents: Iterable[bytes]) -> Iterator[tuple[list[Read], bool]]:
        """Decode images in groups, so that only ``max_pixels`` pixels are decoded at once.

        Args:
            contents: The files.

        Yields:
            The images of a group, and whether it is the last one.
        """
        groups: list[list[Read]] = [[]]
        pixels = 0
        for content in contents:
            image = self._open(content)
            more = image.pixels if isinstance(image, Opened) else 0
            if groups[-1] and pixels + more > self._max_pixels:
                groups.append([])
                pixels = 0
            groups[-1].append(image)
            pixels += more
        for number in range(len(groups)):
            group, groups[number] = groups[number], []
            yield list(self._decoders.map(_decode, group)), number == len(groups) - 1

    def label(self, images: Sequence[Read]) -> list[Answer]:
        """Return the answers for decoded images.

        If the model fails on them together, each gets a try of its own.
        """
        places = [place for place, image in enumerate(images) if isinstance(image, Opened)]
        answers = [image if isinstance(image, Answer) else Answer(FAILED) for image in images]
        readable = [image.image for image in images if isinstance(image, Opened)]
        if readable:
            for place, answer in zip(places, self._predict(readable), strict=True):
                answers[place] = answer
        return answers

    def explain(self, image: Read, target: str | None) -> tuple[Answer, bytes]:
        """Return the heat map of a decoded image as a PNG file; the row of the answer says whether it is empty."""
        if isinstance(image, Answer):
            return image, b""
        try:
            picture, is_empty = heat_map(self.model, image.image, target)  # type: ignore[arg-type]
        except UserError as error:
            return Answer(BROKEN, str(error)), b""
        except Exception as error:
            return _failure(error), b""
        return Answer(row={"empty": is_empty}), picture

    def _open(self, content: bytes) -> Read:
        try:
            return open_image_bytes(content, self._channels, self._max_pixels)
        except Rejected as error:
            return Answer(error.status, error.reason)

    def _predict(self, images: list[Any]) -> list[Answer]:
        try:
            return [Answer(row=row) for row in self._rows(images)]
        except Exception as error:
            if len(images) > 1:
                return [answer for image in images for answer in self._predict([image])]
            return [Answer(BROKEN, str(error)) if isinstance(error, UserError) else _failure(error)]


def rows_of(model: Classifies | Segments, unsure_below: float | None) -> Callable[[list[Any]], list[dict[str, Any]]]:
    """Return a function from images to their rows.

    Args:
        model: The classifier or segmenter.
        unsure_below: If set, rows have ``unsure``.
    """
    if is_segmenter(model):
        masks = MaskRowMaker(unsure_below)
        return lambda images: [masks.row(one) for one in model.predict(images)]
    labels = RowMaker(model.class_names, unsure_below)
    return lambda images: [labels.row(one) for one in model.predict(images, batch_size=len(images))]


def is_segmenter(model: Classifies | Segments) -> TypeIs[Segments]:
    """Return whether a model segments images.

    Args:
        model: The model.
    """
    return hasattr(model, "palette")


def _decode(image: Read) -> Read:
    if isinstance(image, Opened):
        try:
            image.decode()
        except Rejected as error:
            return Answer(error.status, error.reason)
    return image


def _failure(error: Exception) -> Answer:
    report_failure(error)
    name = type(error).__name__
    return Answer(FAILED, f"The model failed on this image ({name}); the server's log says where.")


def report_failure(error: BaseException) -> None:
    """Print where an error was raised, without its message, which might tell something of an image."""
    print_error(f"The model failed with {type(error).__name__}:")
    print("".join(traceback.format_tb(error.__traceback__)), end="", file=sys.stderr, flush=True)
