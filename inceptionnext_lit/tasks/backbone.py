"""Create a task's model, with or without weights, and report invalid arguments in one sentence."""

from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
from lightning.pytorch.utilities import rank_zero_warn
from timm.models import PretrainedCfg
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name, model_names
from inceptionnext_lit.models.hub import Overlay, build_pretrained
from inceptionnext_lit.models.pretrained_input import pretrained_input
from inceptionnext_lit.models.weights import LoadReport, load_weights
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width, size_text
from inceptionnext_lit.wording import first_line

# arguments with which timm downloads or reads weights; a checkpoint's weights replace them
WEIGHT_SOURCES = ("pretrained", "checkpoint_path")
_CLOSE = 0.05  # tolerance for means and standard deviations of pixels in [0, 1]; common data sets differ by less


def create_backbone(
    name: str,
    num_classes: int,
    kwargs: dict[str, Any],
    *,
    pretrained: bool | str = False,
    preprocessing: Preprocessing | None = None,
) -> tuple[nn.Module, LoadReport | None]:
    """Create a model for given input images.

    Args:
        name: Any timm model name, including this family's.
        num_classes: Number of classes.
        kwargs: The model's own arguments, as for ``timm.create_model``; ``pretrained`` in them overrides the argument
            of that name.
        pretrained: Whether to download published weights, or a file with weights.
        preprocessing: Preprocessing of the images, including the number of channels; the model is tried on a blank
            image.

    Returns:
        The model, and what was loaded from the file; None without a file.

    Raises:
        UserError: If the model is unknown, or cannot be built with these arguments, weights and images.
    """
    check_model_name(name)
    config = timm.get_pretrained_cfg(name)
    pretrained = kwargs.get("pretrained", pretrained)
    arguments: dict[str, Any] = {"num_classes": num_classes}
    if preprocessing is not None and config is not None and config.fixed_input_size:
        arguments["img_size"] = preprocessing["image_size"]
    if preprocessing is not None and (channels := len(preprocessing["mean"])) != 3:
        arguments["in_chans"] = channels
    arguments |= {key: value for key, value in kwargs.items() if key != "pretrained"}
    try:
        model = _fetch(name, config, arguments) if pretrained is True else timm.create_model(name, **arguments)
    except TypeError as error:
        if "'drop_path_rate'" in str(error):
            raise UserError(f"The model {name!r} has no stochastic depth; set --model.drop_path to 0.") from error
        raise UserError(f"The model {name!r} does not take these arguments: {error}. Check model.kwargs.") from error
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"The model {name!r} cannot be built with {arguments}: {first_line(error)}. "
            "Check --data.image_size and --model.kwargs."
        ) from error
    if pretrained == "":
        raise UserError("model.pretrained is empty; give true, false or the path of a file.")
    report = load_weights(model, pretrained) if isinstance(pretrained, str) else None
    if preprocessing is not None:
        _try_image(model, name, preprocessing)
        _compare_input(name, pretrained, kwargs.get("pretrained_cfg_overlay"), preprocessing)
    return model, report


def has_weight_source(kwargs: dict[str, Any], pretrained: bool | str) -> bool:
    """Return whether :func:`create_backbone` loads weights with these arguments."""
    return bool(kwargs.get("pretrained", pretrained) or kwargs.get("checkpoint_path"))


def _fetch(name: str, config: PretrainedCfg | None, arguments: dict[str, Any]) -> nn.Module:
    def build(overlay: Overlay) -> nn.Module:
        return cast(
            nn.Module, timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay or None, **arguments)
        )

    if config is None or name.partition(".")[0] in model_names():
        return build({})  # the family's builders try all sources themselves
    return build_pretrained(build, name, config, overlay=None)


def _try_image(model: nn.Module, name: str, preprocessing: Preprocessing) -> None:
    """Try one blank image, so that an unsupported size is an error before anything is written."""
    height, width = height_and_width(preprocessing)
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, len(preprocessing["mean"]), height, width))
    except (UserError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"The model {name!r} cannot process images of {size_text(preprocessing)} pixels ({first_line(error)}); "
            "set another --data.image_size."
        ) from error
    model.train()


def _compare_input(
    name: str, pretrained: bool | str, overlay: Mapping[str, Any] | None, preprocessing: Preprocessing
) -> None:
    """Warn if the images are not normalized like those that the pretrained weights were trained on."""
    found = pretrained_input(name, pretrained, overlay)
    if found is None:
        return
    found = found.for_channels(len(preprocessing["mean"]))
    pairs = zip(found.mean + found.std, preprocessing["mean"] + preprocessing["std"], strict=True)
    if any(abs(wanted - given) > _CLOSE for wanted, given in pairs):
        if found.assumed:
            known = f"{pretrained} does not say what its own had, and {found.origin} has {found.mean} and {found.std}"
        else:
            known = f"the pretrained weights were trained with {found.mean} and {found.std} ({found.origin})"
        rank_zero_warn(
            f"The images are normalized with mean {preprocessing['mean']} and std {preprocessing['std']}, but {known}. "
            "Leave data.input.mean and data.input.std out to use those.",
            stacklevel=3,
        )
