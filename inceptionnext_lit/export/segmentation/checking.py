"""The comparison of an exported segmentation model with the checkpoint that it comes from."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.scenes import SceneInput
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.data.sources.scenes import SCENES, unpack_scenes
from inceptionnext_lit.data.transforms.pipeline import reader
from inceptionnext_lit.data.transforms.resampling import as_array, as_tensor, size_of
from inceptionnext_lit.data.transforms.segmentation import TestScale
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import Format, Session
from inceptionnext_lit.export.segmentation.wrapper import SegmenterGraph
from inceptionnext_lit.tasks import SegmentationTask
from inceptionnext_lit.tasks.segmentation.inference import Inference, InferenceOptions
from inceptionnext_lit.wording import count, listed

IMAGES = 64
AGREEMENT = 0.995  # least share of pixels with the class that predict gives
SAME_PIXELS = 0.999  # least share of pixels with the checkpoint's class for the same bytes; ties may differ


@dataclass(frozen=True)
class SceneChecked:
    """How an exported file differs from the checkpoint.

    Attributes:
        images: Number of images.
        source: Which images.
        difference: Largest difference of a probability from the checkpoint's for the same pixels.
        same_pixels: Share of pixels with the same class as the checkpoint's for the same pixels.
        as_predicted: Share of pixels with the class that ``predict`` gives; None if the file does not take such images.
        others: The images with a lower share than :data:`AGREEMENT`: name and share.
    """

    images: int
    source: str
    difference: float
    same_pixels: float
    as_predicted: float | None
    others: tuple[tuple[str, float], ...]

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "images": self.images,
            "source": self.source,
            "max_probability_difference": self.difference,
            "same_pixels": self.same_pixels,
            "predict": {"same_pixels": self.as_predicted},
        }

    def lines(self) -> list[str]:
        """Describe it."""
        found = [
            f"Checked on {self.images} images ({self.source}): probabilities differ from the checkpoint's by at most "
            f"{self.difference:.1e}, and {100 * self.same_pixels:.3f}% of the pixels have the same class"
        ]
        if self.as_predicted is not None:
            share = f"{100 * self.as_predicted:.3f}%"
            found.append(f"As predict prepares the images: {share} of the pixels have the same class")
        return found + [f"  {name}: {100 * share:.2f}%" for name, share in self.others]

    def refuse(self, one: Format) -> None:
        """Refuse a file that differs too much.

        Args:
            one: Its format.

        Raises:
            UserError: If it does.
        """
        if not self.difference <= one.tolerance or self.same_pixels < SAME_PIXELS:  # also if it is NaN
            raise UserError(
                f"The {one.title} file differs from the checkpoint: its probabilities by {self.difference:.2g} on "
                f"{self.images} images, and {100 * self.same_pixels:.2f}% of the pixels have the same class; nothing "
                "was written. Choose another --format."
            )
        if self.as_predicted is not None and self.as_predicted < AGREEMENT:
            found = [f"{name} ({100 * share:.1f}%)" for name, share in self.others]
            raise UserError(
                f"The {one.title} file gives {100 * self.as_predicted:.2f}% of the pixels the class that predict "
                f"gives; nothing was written. Images with fewer than {100 * AGREEMENT:.1f}%: {listed(found)}. Prepare "
                "the images outside the file, with --input tensor."
            )


class SceneCheck:
    """Images and what the checkpoint says about their pixels, for comparison with files.

    Args:
        task: The segmentation model.
        graph: What is exported, before the norms are folded.
        folder: The images: a folder, a file, a pattern or a manifest; None for the embedded scenes, or random inputs if
            the model does not take pictures.
        sizes: Whether the file takes images of any size.

    Raises:
        UserError: If none can be read, or the checkpoint's outputs for one are NaN or infinite.
    """

    def __init__(self, task: SegmentationTask, graph: SegmenterGraph, folder: str | None, *, sizes: bool) -> None:
        self._graph = graph
        random = folder is None and graph.channels not in (1, 3, 4)
        self.source = "random" if random else (folder or "the embedded scenes")
        self._predicted: list[np.ndarray | None]
        if random:
            self._names = [f"image {number + 1}" for number in range(IMAGES)]
            self._inputs = list(graph.example(IMAGES).numpy())
            self._predicted = [None] * IMAGES
            return
        self._names, pictures = _pictures(folder, graph)
        if not sizes:
            height, width = graph.size
            pictures = [_resized(picture, height, width) for picture in pictures]
        scale, to_input = TestScale(graph.preprocessing), SceneInput(graph.preprocessing)
        whole = Inference(InferenceOptions(multiple=task.segmentation.inference.multiple), graph.size)
        self._inputs, self._predicted = [], []
        read, self._names = self._names, []
        reason: UserError | None = None
        for name, picture in zip(read, pictures, strict=True):
            prepared = to_input(scale.resize(picture) if sizes else _pixels(picture))
            try:
                with torch.inference_mode():
                    scores = whole.probabilities(task.inference_model, prepared, size_of(picture))
            except UserError as error:  # such as an image that is too small for the model
                reason = error
                continue
            if not scores.isfinite().all():
                raise UserError(
                    f"The checkpoint's outputs are NaN or infinite for {name}; export an earlier checkpoint."
                )
            takes_pixels = graph.takes == "pixels"
            self._names.append(name)
            self._inputs.append(np.array(picture) if takes_pixels else prepared.numpy())
            self._predicted.append(scores.argmax(dim=0).numpy() if sizes and takes_pixels else None)
        if reason is not None and not self._names:
            raise UserError(f"None of {count(len(read), 'image')} of --check can be used. {reason}") from reason

    def compare(self, session: Session, dynamic: Collection[str]) -> SceneChecked:
        """Compare a file with the checkpoint.

        Args:
            session: The file.
            dynamic: The dimensions of its input that may vary.
        """
        difference, same, pixels, as_predicted = 0.0, 0, 0, 0
        others = []
        compared = 0
        for place, (name, one, predicted) in enumerate(zip(self._names, self._inputs, self._predicted, strict=True)):
            batch = np.stack([one, one]) if "batch" in dynamic and place == 0 else one[None]
            with torch.inference_mode():
                expected = self._graph(torch.from_numpy(batch))
            found = [torch.from_numpy(np.asarray(output)) for output in session.run(batch)]
            ours = self._read(found)
            theirs = self._read(list(expected) if isinstance(expected, tuple) else [expected])
            difference = _larger(difference, float((ours[1] - theirs[1]).abs().max()))
            same += int((ours[0] == theirs[0]).sum())
            pixels += theirs[0].numel()
            if predicted is not None:
                agreeing = int((ours[0][-1].numpy() == predicted).sum())
                as_predicted += agreeing
                compared += predicted.size
                if agreeing < AGREEMENT * predicted.size:
                    others.append((name, agreeing / predicted.size))
        return SceneChecked(
            images=len(self._names),
            source=self.source,
            difference=difference,
            same_pixels=same / pixels,
            as_predicted=as_predicted / compared if compared else None,
            others=tuple(others),
        )

    def _read(self, outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the classes (N, H, W) and the probabilities that outputs contain."""
        if self._graph.outputs == ["classes", "confidence"]:
            return outputs[0], outputs[1]
        scores = outputs[0].softmax(dim=1) if self._graph.takes == "tensor" else outputs[0]
        return scores.argmax(dim=1), scores


def _larger(one: float, other: float) -> float:
    """Return the larger number; NaN if one is."""
    return float(np.maximum(one, other))


def _pictures(folder: str | None, graph: SegmenterGraph) -> tuple[list[str], list[Any]]:
    """Return the names of the images, and what the reader makes of them; those that cannot be read are left out."""
    root = str(unpack_scenes() / "images" / "val") if folder in (None, SCENES) else str(folder)
    paths = resolve_inputs([root], image_suffixes(graph.channels))
    number = min(IMAGES, len(paths))
    load = reader(graph.preprocessing)
    names: list[str] = []
    pictures: list[Any] = []
    reason: UserError | None = None
    for path in (paths[place * len(paths) // number] for place in range(number)):
        try:
            pictures.append(load(path))
            names.append(path)
        except UserError as error:
            reason = error
    if not names:
        raise UserError(f"None of {count(number, 'image')} of --check could be read. {reason}") from reason
    return names, pictures


def _resized(picture: Any, height: int, width: int) -> Any:
    if isinstance(picture, Image.Image):
        return picture.resize((width, height), Image.Resampling.BILINEAR)
    return torch.nn.functional.interpolate(picture[None], (height, width), mode="bilinear", align_corners=False)[0]


def _pixels(picture: Any) -> Tensor:
    return as_tensor(as_array(picture))
