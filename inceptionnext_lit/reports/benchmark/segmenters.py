"""Segmentation models in a benchmark: a backbone by name with a decoder, or a checkpoint."""

from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import format_of
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.cost import count_segmenter, image_macs
from inceptionnext_lit.models.pyramid import feature_maps
from inceptionnext_lit.models.segmenter import DecoderName, Segmenter, resized
from inceptionnext_lit.preprocessing import Size
from inceptionnext_lit.reports.benchmark.case import OWN, Case
from inceptionnext_lit.reports.benchmark.subjects import CHECKPOINTS, check_checkpoint
from inceptionnext_lit.reports.budget.report import PAPER_DECODERS, SEGMENTED
from inceptionnext_lit.tasks.loading import load_segmentation_task

SIZES: tuple[Size, ...] = ((512, 512), (512, 2048))
"""The sizes of the paper: of training crops, and of its counts of multiply-adds."""

_CLASSES = 150  # of ADE20K
_AUXILIARY = 0.4  # weight of the auxiliary head's loss


def check_segmenter(model: str, decoder: str | None) -> tuple[str, str]:
    """Check a model of the command line.

    Args:
        model: A timm model name, or a checkpoint of a segmentation model.
        decoder: The decoder of a model by name, if it was given.

    Returns:
        The model and its decoder, which is ``own`` for a checkpoint.

    Raises:
        UserError: If there is no such model, or the checkpoint is not one of a segmentation model.
    """
    path = Path(model).expanduser()
    if not path.is_file():
        if path.suffix in CHECKPOINTS:
            raise UserError(
                f"There is no file {model!r}; give a checkpoint of a segmentation model, or a model's name."
            )
        check_model_name(model)
        return model, decoder or "upernet"
    if format_of(path) is not None:
        raise UserError(f"{model} is an exported file, which is measured as it is; leave out --task segment.")
    check_checkpoint(path)
    load_segmentation_task(path)
    return str(path), OWN


def build_segmenter(case: Case) -> tuple[nn.Module, int]:
    """Return a case's model, and the number of channels of its images.

    Args:
        case: What is measured.

    Raises:
        UserError: If the model has no feature maps for a decoder.
    """
    if case.decoder == OWN:
        task = load_segmentation_task(Path(case.model))[0]
        return task.inference_model.requires_grad_(), 3 if task.preprocessing is None else len(
            task.preprocessing["mean"]
        )
    config = timm.get_pretrained_cfg(case.model)
    size = {"img_size": case.size} if config is not None and config.fixed_input_size else {}
    maps = feature_maps(timm.create_model(case.model, **size), case.model)
    return Segmenter(maps, _CLASSES, cast(DecoderName, case.decoder)), 3


def segmenter_macs(case: Case) -> int | None:
    """Return the multiply-adds for an image; None if they cannot be counted.

    Args:
        case: What is measured.
    """
    if case.decoder == OWN or any(side % SEGMENTED for side in case.size):
        model, channels = build_segmenter(case)
        return image_macs(model, (channels, *case.size))
    counted = count_segmenter(case.model, PAPER_DECODERS[cast(DecoderName, case.decoder)][0], case.size)
    return None if counted.uncounted else counted.total.macs


def pixel_loss(outputs: Tensor | tuple[Tensor, Tensor], classes: Tensor) -> Tensor:
    """Return the loss of a training step, that of the auxiliary head included.

    Args:
        outputs: Logits (N, K, h, w), or also auxiliary ones.
        classes: Class of each pixel, (N, H, W).
    """
    size = (classes.shape[1], classes.shape[2])
    if isinstance(outputs, Tensor):
        return functional.cross_entropy(resized(outputs, size), classes)
    main, auxiliary = (functional.cross_entropy(resized(logits, size), classes) for logits in outputs)
    return main + _AUXILIARY * auxiliary


def random_classes(case: Case, device: torch.device) -> Tensor:
    """Return a class, 0 or 1, for each pixel of a batch, (N, H, W).

    Args:
        case: What is measured.
        device: Where the classes are.
    """
    return torch.randint(2, (case.batch_size, *case.size), device=device)
