"""Load weights from files, ours or others', and save them, with a report of what was loaded."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.fitting import classifier_tensors, fit, listed, suggest
from inceptionnext_lit.models.formats import (
    Unwrapped,
    WeightSet,
    below_attribute,
    describe_names,
    rename,
    to_public,
    unwrap,
)
from inceptionnext_lit.models.published import auxiliary
from inceptionnext_lit.safe_load import check_finite, load_plain, read_metadata
from inceptionnext_lit.safe_save import replacing


@dataclass(frozen=True)
class LoadReport:
    """What happened to the tensors of a file and of a model.

    Attributes:
        path: The file.
        format: Description of the file's format.
        loaded: The model's tensors that were loaded.
        reinitialized: The model's tensors that keep their initial values, since the file has other classes.
        skipped: The file's tensors that the model has no use for.
        adapted: Loaded tensors that were adapted: a stem for other channels, a resampled position embedding.
        kept: The model's BatchNorm counters that the file lacks; inference does not use them.
        classes: The number of classes in the file, if it has others than the model; None if it has no classifier.
    """

    path: Path
    format: str
    loaded: tuple[str, ...]
    reinitialized: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    classes: int | None = None

    def __str__(self) -> str:
        tensors = "tensor" if len(self.loaded) == 1 else "tensors"
        parts = [f"{len(self.loaded)} {tensors} loaded" + _named(self.adapted, "adapted: ")]
        parts += [f"{len(self.reinitialized)} reinitialized" + _named(self.reinitialized)]
        parts += [f"{len(self.skipped)} skipped" + _named(self.skipped)]
        parts += [f"{len(self.kept)} kept" + _named(self.kept)] if self.kept else []
        return f"{self.path} ({self.format}): {', '.join(parts)}"

    def details(self) -> str:
        """List all tensors, one per line, with what happened to each."""
        fates = {name: "loaded" for name in self.loaded}
        fates |= {name: "loaded, adapted to the model's shape" for name in self.adapted}
        fates |= {name: "reinitialized: the model keeps its own initial values" for name in self.reinitialized}
        fates |= {name: "skipped: the model has no use for it" for name in self.skipped}
        fates |= {name: "kept: the file does not have it" for name in self.kept}
        return "\n".join(f"{name}: {fate}" for name, fate in fates.items())


def load_weights(model: nn.Module, path: str | Path, *, weights: WeightSet | None = None) -> LoadReport:
    """Load a file's weights into a model, completely or not at all.

    The file may be a torch or safetensors file of this family as published by its authors, ConvNeXt's authors or timm,
    one of any other timm model as published by timm, or a checkpoint of a training run. Only the classifier keeps the
    model's own values, if the number of classes differs; the stem is adapted to another number of channels.

    Args:
        model: The model, on any device and of any dtype.
        path: The file.
        weights: Averaged or raw weights; None for averaged ones if the file has both.

    Returns:
        What was loaded and what was not.

    Raises:
        UserError: If the file cannot be read, has no such weights, or does not fit the model, which is then unchanged.
    """
    path = Path(path).expanduser()
    model = getattr(model, "_orig_mod", model)  # unwrap a compiled model
    content = load_plain(path)
    renamed: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = rename if _is_ours(model) else dict
    found = below_attribute(unwrap(content, weights, source=str(path)), model.state_dict(), renamed, source=str(path))
    names = renamed(found.tensors)
    matched = fit(names if _is_ours(model) else _as_timm_reads(names, model), model)
    if matched.mismatches:
        name = _model_name(model)
        hint = suggest(found.tensors, name, _written_for(path, content))
        raise UserError(
            f"{path} does not fit {name}: {matched.complaint()}. {hint} "
            "Create the model that fits, or give another file."
        )
    own = model.state_dict()
    check_numbers(matched.copies, path)
    with torch.no_grad():
        for name, tensor in matched.copies.items():
            own[name].copy_(tensor)
    return LoadReport(
        path=path,
        format=_describe(content, found, weights),
        loaded=tuple(matched.copies),
        reinitialized=matched.reinitialized,
        skipped=matched.skipped + found.others + (auxiliary(found.tensors) if _is_ours(model) else ()),
        adapted=tuple(n for n, t in matched.copies.items() if n in names and t.numel() != names[n].numel()),
        kept=matched.kept,
        classes=next(
            (
                len(names[name])
                for name in matched.reinitialized
                if name in names and names[name].ndim and len(names[name]) != len(own[name])
            ),
            None,
        ),
    )


def check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that cannot be used.

    Args:
        tensors: The weights.
        path: The file that they come from.

    Raises:
        UserError: If a tensor is sparse, quantized, complex or without values, or contains NaN or infinite values.
    """
    odd = [n for n, t in tensors.items() if t.layout != torch.strided or t.is_quantized or t.is_meta or t.is_complex()]
    if odd:
        raise UserError(
            f"{path} contains tensors that are not plain numbers: {listed(odd)}. Save it again with dense real ones."
        )
    check_finite(tensors, path)


def save_weights(
    model: nn.Module,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    with_classifier: bool = True,
) -> None:
    """Save a model's weights under the names under which models of its kind are published.

    Args:
        model: The model.
        path: The file to write or replace, with the suffix ``.safetensors``.
        metadata: Metadata of the file; ``"model"`` is the name that error messages use.
        with_classifier: Whether to save the classifier; a model that loads the file keeps its own otherwise.

    Raises:
        UserError: If the file has another suffix or cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path} does not end in .safetensors, the only format that is written.")
    left_out = set() if with_classifier else classifier_tensors(model)
    tensors: Mapping[str, Tensor] = {name: one for name, one in model.state_dict().items() if name not in left_out}
    if _is_ours(model):
        tensors = to_public(tensors, model)
    # copies, since safetensors takes neither channels-last tensors nor two that share memory
    copies = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    try:
        with replacing(path) as partial:
            save_file(copies, partial, metadata={"format": "pt", **(metadata or {})})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error


def _is_ours(model: nn.Module) -> bool:
    return isinstance(model, Backbone)


def _as_timm_reads(tensors: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Apply timm's checkpoint filter for a model's architecture, if there is one."""
    filter_fn = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if filter_fn is None:
        return tensors
    try:
        filtered: Mapping[str, Tensor] = filter_fn(dict(tensors), model)
    except Exception:  # it supports only the architecture's own files; for others, the comparison says what is wrong
        return tensors
    return filtered


def _written_for(path: Path, content: Mapping[str, Any]) -> str | None:
    """Return the model that a file itself names, if any."""
    arguments = content.get("hyper_parameters")
    name = arguments.get("name") if isinstance(arguments, Mapping) else read_metadata(path).get("model")
    return name if isinstance(name, str) else None


def _describe(content: Mapping[str, Any], found: Unwrapped, weights: WeightSet | None) -> str:
    kind = "Lightning checkpoint" if "hyper_parameters" in content else describe_names(found.tensors)
    if found.averaged:
        return f"{kind}, averaged weights"
    return f"{kind}, raw weights" if weights == "raw" else kind


def _model_name(model: nn.Module) -> str:
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)


def _named(names: tuple[str, ...], before: str = "") -> str:
    return f" ({before}{listed(names)})" if names else ""
