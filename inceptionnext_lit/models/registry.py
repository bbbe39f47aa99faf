"""The registry: the rows of all tables of models, each of which timm can build by its name."""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    DefaultCfg,
    FeatureDictNet,
    FeatureGraphNet,
    FeatureHookNet,
    FeatureListNet,
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.formats import checkpoint_filter
from inceptionnext_lit.models.hub import Overlay, build_pretrained
from inceptionnext_lit.wording import starting_with

OURS = "this project"
STAGES = range(4)  # of models whose arguments do not say otherwise
# values of timm's feature_cls: those that rebuild the model, and those that take the outputs of its modules
_REBUILDING = ("list", "dict", FeatureListNet, FeatureDictNet)
_TAPPING = ("hook", "fx", FeatureHookNet, FeatureGraphNet)

default_cfgs: dict[str, DefaultCfg] = {}  # timm finds it in this module by its name


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: The model's name in timm's registry.
        form: Its class.
        args: Arguments of the class for this model.
        params_m: Parameters in millions, with 1000 classes.
        macs_g: Multiply-adds in units of 10⁹ for one image of ``image_size``, as counted by ``models.cost``.
        top1: Published ImageNet-1K validation accuracy in percent, if any.
        source: Source of the architecture and the accuracy.
        image_size: Side of the square input in pixels.
        crop_pct: Fraction of the resized image's shorter side that evaluation keeps.
        interpolation: Resampling filter of the resize.
        mean: Mean of each channel that the weights were trained with, for pixels in [0, 1].
        std: Standard deviation of each channel that the weights were trained with.
        tag: timm's tag for the origin of the weights; empty if there are none.
        hub_id: Hugging Face repository of the weights, if any.
        url: URL of the weights published by their authors, if any.
        license: License of the published weights, as its SPDX identifier in lower case.
        counted_merged: Whether the cost is that of the inference form (``models.deploy``), as in the model's paper.
    """

    name: str
    form: type[Backbone]
    args: dict[str, Any]
    params_m: float
    macs_g: float
    top1: float | None = None
    source: str = OURS
    image_size: int = 224
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD
    tag: str = ""
    hub_id: str | None = None
    url: str | None = None
    license: str = "apache-2.0"
    counted_merged: bool = False


ROWS: dict[str, Variant] = {}  # of all tables, by name


def register(rows: Sequence[Variant]) -> None:
    """Register rows with timm.

    Args:
        rows: Rows of a table.
    """
    ROWS.update({row.name: row for row in rows})
    default_cfgs.update(generate_default_cfgs({_tagged_name(row): _default_cfg(row) for row in rows}))
    for row in rows:
        register_model(_entrypoint(row))


def is_model(name: str) -> bool:
    """Return whether timm can create a model of this name, ours or its own, with or without ``.tag``."""
    return bool(timm.is_model(name.partition(".")[0]))


def check_model_name(name: str) -> None:
    """Check that timm can create a model of this name, ours or its own, with or without ``.tag``.

    Args:
        name: For example ``"inceptionnext_iso_small"``, ``"resnet50"`` or ``"resnet50.a1_in1k"``.

    Raises:
        UserError: If the model is unknown, with the nearest names, or it has no weights with that tag.
    """
    if not isinstance(cast(object, name), str):
        raise UserError(f"A model is given by its name, such as inceptionnext_tiny, not as a {type(name).__name__}.")
    architecture, _, tag = name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    is_known = is_model(architecture)
    if os.path.isfile(name) and not (is_known and tag in {"", *tags}):  # also resnet50.pth, whose tag is none
        raise UserError(f"{name} is a file; give the name of its model instead, such as resnet50.")
    if not is_known:
        ours, others = list(ROWS), sorted(set(timm.list_models()) - ROWS.keys())
        near = get_close_matches(architecture, ours, n=3) + get_close_matches(architecture, others, n=3)
        nearest = ", ".join(starting_with(architecture, [*ours, *others]) or near)
        hint = f"The nearest names are: {nearest}." if nearest else "timm.list_models() lists all names."
        raise UserError(f"Unknown model {name!r}. {hint}")
    if tag and tag not in tags:
        known = f"it has {', '.join(tags)}" if tags else "it has none"
        raise UserError(f"{architecture} has no weights tagged {tag!r}; {known}.")


def _default_cfg(row: Variant) -> dict[str, Any]:
    """Return timm's configuration of a row: input, normalization, weights and layer names."""
    side = row.image_size // row.args.get("patch_size", row.form.stride)  # of the last map
    return {
        "hf_hub_id": row.hub_id,
        "url": row.url,
        "input_size": (3, row.image_size, row.image_size),
        "pool_size": (side, side),
        "fixed_input_size": row.args.get("pos_embed", False),  # makes timm's builders pass img_size
        "num_classes": 1000,
        "crop_pct": row.crop_pct,
        "interpolation": row.interpolation,
        "mean": row.mean,
        "std": row.std,
        "first_conv": row.form.first_conv,
        "classifier": row.form.classifier_name,
        "license": row.license,
    }


def _entrypoint(row: Variant) -> Callable[..., nn.Module]:
    """Create the function with which timm builds a row; it takes timm's and the class's arguments."""

    def build(
        pretrained: bool = False,
        pretrained_cfg: str | dict[str, Any] | None = None,
        pretrained_cfg_overlay: Overlay | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> nn.Module:
        args = row.args | kwargs
        levels = args["depth"] if "depth" in args else len(args.get("depths", STAGES))
        rebuilds = kwargs.get("features_only", False) and kwargs.get("feature_cls") in _REBUILDING
        if kwargs.get("features_only", False):
            _check_features(row, kwargs.get("feature_cls"), has_position=bool(args.get("pos_embed")))

        def make(overlay: Overlay | None) -> nn.Module:
            features: dict[str, Any] = {"feature_cls": "getter", "out_indices": evenly_spaced(levels)}
            if rebuilds:
                features["flatten_sequential"] = True  # stages and blocks are one level down
            sources = {"pretrained_cfg": pretrained_cfg, "pretrained_cfg_overlay": overlay}
            with nullcontext() if device is None else torch.device(device):
                model: nn.Module = build_model_with_cfg(
                    row.form, row.name, pretrained, feature_cfg=features, pretrained_filter_fn=checkpoint_filter,
                    **sources, **args,
                )  # fmt: skip
            return model.to(dtype=dtype)

        if not pretrained:
            return make(pretrained_cfg_overlay)
        config = resolve_pretrained_cfg(row.name, pretrained_cfg, pretrained_cfg_overlay)
        return build_pretrained(make, row.name, config, pretrained_cfg_overlay, kwargs.get("cache_dir"))

    build.__name__ = row.name
    return build


def _check_features(row: Variant, feature_cls: Any, has_position: bool) -> None:
    if feature_cls in _REBUILDING and has_position:
        raise UserError(
            "feature_cls 'list' and 'dict' rebuild the model from its layers and would lose its position embedding; "
            "use 'getter', 'hook' or 'fx'."
        )
    if feature_cls in _REBUILDING and not row.form.is_sequential:
        raise UserError(
            f"feature_cls 'list' and 'dict' rebuild the model from its layers, but {row.name} does more than run them "
            "in sequence; use 'getter'."
        )
    if feature_cls in _TAPPING and not row.form.returns_maps:
        raise UserError(
            f"feature_cls 'hook' and 'fx' take the outputs of the model's modules, which are not all feature maps "
            f"(N, C, H, W) in {row.name}; use 'getter'."
        )


def evenly_spaced(count: int, wanted: int = 4) -> tuple[int, ...]:
    """Return the indices of at most ``wanted`` of ``count`` levels, evenly spaced and ending with the last."""
    wanted = min(wanted, count)
    return tuple((i + 1) * count // wanted - 1 for i in range(wanted))


def _tagged_name(row: Variant) -> str:
    """Return a row's name with timm's tag of its weights."""
    return f"{row.name}.{row.tag}" if row.tag else row.name
