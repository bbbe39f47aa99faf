"""The names under which the authors of other systems publish their weights, and ours, in both directions.

* PVT (github.com/whai362/PVT): position embeddings are sequences; the last one begins with the class token's, which
  our class token includes.
* T2T-ViT (github.com/yitu-opensource/T2T-ViT): the file has the sinusoids, which we compute.
* Focal Transformer (github.com/microsoft/Focal-Transformer): patch embeddings end the stage before; the file has tables
  of indices, which follow from the sizes.
* RepLKNet (github.com/DingXiaoH/RepLKNet-pytorch): RepLK and ConvFFN blocks are numbered together.
* iFormer (github.com/sail-sg/iFormer): stages are not modules of their own; MLPs are Linear layers.
* GoogLeNet (torchvision): modules have the paper's names; two auxiliary classifiers, which our model does not have.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from inceptionnext_lit.models.positions import sinusoid

Rules = tuple[tuple[str, str], ...]  # name prefixes, theirs and ours; each # is a number shared by both
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """The form in which a system's weights are published.

    Attributes:
        label: Its description.
        marker: Name that only its files contain.
        own_marker: Name that only our models of this system contain.
        rules: Prefixes of names, theirs and ours.
        read: Converts a file's tensors, with our names, to our model's.
        write: Converts our model's tensors to a file's, still with our names.
    """

    label: str
    marker: str
    own_marker: str
    rules: Rules
    read: Callable[[Tensors], Tensors]
    write: Callable[[Tensors], Tensors]


def published_form(tensors: Mapping[str, Tensor]) -> Published | None:
    """Return the form of a file, by its names; None if it is none of these."""
    return next((form for form in _FORMS if form.marker in tensors), None)


def public_form(own: Mapping[str, Tensor]) -> Published | None:
    """Return the form in which a model's weights are published, by its own names; None if it is none of these."""
    return next((form for form in _FORMS if form.own_marker in own), None)


def _read_pvt(tensors: Tensors) -> Tensors:
    """Turn sequences of positions ``(1, L, C)`` into grids ``(1, C, h, w)``."""
    out = dict(tensors)
    for name in [name for name in tensors if name.endswith(".pos_embed") and tensors[name].ndim == 3]:
        positions = tensors[name]
        side = isqrt(positions.shape[1])
        first, grid = positions[:, : -(side**2)], positions[:, -(side**2) :]
        out[name] = grid.transpose(1, 2).reshape(len(grid), -1, side, side)
        if _TOKEN in out and name == _LAST and first.shape[1] == 1:
            out[_TOKEN] = out[_TOKEN] + first
    return out


def _write_pvt(tensors: Tensors) -> Tensors:
    """Turn grids of positions into sequences; the class token, if any, gets the position 0."""
    out = dict(tensors)
    for name in [name for name in tensors if name.endswith(".pos_embed")]:
        positions = tensors[name].flatten(2).transpose(1, 2)
        if name == _LAST and _TOKEN in tensors:
            positions = torch.cat((torch.zeros_like(tensors[_TOKEN]), positions), dim=1)
        out[name] = positions
    return out


def _read_t2t(tensors: Tensors) -> Tensors:
    """Leave out the sinusoids; any other position embedding is kept, so that the file does not fit."""
    positions = tensors.get(_SINUSOID)
    if positions is None or positions.ndim != 3:
        return tensors
    expected = sinusoid(positions.shape[1], positions.shape[2], positions.device)
    same = torch.allclose(positions[0].float(), expected, atol=1e-2)  # half precision, at most
    return {name: tensor for name, tensor in tensors.items() if not (same and name == _SINUSOID)}


def _write_t2t(tensors: Tensors) -> Tensors:
    """Add the sinusoids of images of 224 pixels."""
    like = tensors["tokens_to_token.project.weight"]
    positions = sinusoid(1 + (224 // 16) ** 2, len(like), like.device)
    return tensors | {_SINUSOID: positions.unsqueeze(0).to(like.dtype)}


_LAST, _TOKEN, _SINUSOID = "stages.3.embed.pos_embed", "stages.3.cls_token", "pos_embed"

_PVT = Published(
    "official PVT",
    marker="block4.0.attn.q.weight",
    own_marker=_LAST,
    rules=(
        ("cls_token", _TOKEN),
        *((f"pos_embed{i + 1}", f"stages.{i}.embed.pos_embed") for i in range(4)),
        *((f"patch_embed{i + 1}.", f"stages.{i}.embed.") for i in range(4)),
        *((f"block{i + 1}.#.", f"stages.{i}.blocks.#.") for i in range(4)),
    ),
    read=_read_pvt,
    write=_write_pvt,
)
_T2T = Published(
    "official T2T-ViT",
    marker="tokens_to_token.attention1.mlp.0.weight",
    own_marker="tokens_to_token.attention1.mlp.fc1.weight",
    rules=(
        ("tokens_to_token.attention#.mlp.0.", "tokens_to_token.attention#.mlp.fc1."),
        ("tokens_to_token.attention#.mlp.2.", "tokens_to_token.attention#.mlp.fc2."),
    ),
    read=_read_t2t,
    write=_write_t2t,
)


def _unchanged(tensors: Tensors) -> Tensors:
    return tensors


def auxiliary(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of a file's auxiliary classifiers, which no model here has."""
    if published_form(tensors) is not _GOOGLENET:
        return ()
    return tuple(name for name in tensors if name.startswith(_AUXILIARY))


def _write_iformer(tensors: Tensors) -> Tensors:
    """Turn the 1×1 convolutions of the MLPs into Linear layers."""
    return {name: one.flatten(1) if ".mlp." in name and one.ndim > 1 else one for name, one in tensors.items()}


def _read_googlenet(tensors: Tensors) -> Tensors:
    """Leave out the auxiliary classifiers."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_AUXILIARY)}


_AUXILIARY = ("aux1.", "aux2.")
_IFORMER = Published(
    "official iFormer",
    marker="blocks1.0.attn.high_mixer.conv1.weight",
    own_marker="stages.0.blocks.0.attn.high_mixer.conv1.weight",
    rules=(
        *((f"patch_embed.{theirs}.", f"stages.0.embed.{ours}.") for theirs, ours in
          {"proj1": "0.0", "norm1": "0.1", "proj2": "2.0", "norm2": "2.1"}.items()),
        *((f"patch_embed{i + 1}.{theirs}.", f"stages.{i}.embed.{ours}.") for i in (1, 2, 3)
          for theirs, ours in {"proj": "0", "norm": "1"}.items()),
        *((f"pos_embed{i + 1}", f"stages.{i}.pos_embed") for i in range(4)),
        *((f"blocks{i + 1}.#.", f"stages.{i}.blocks.#.") for i in range(4)),
    ),
    read=_unchanged,
    write=_write_iformer,
)  # fmt: skip
_GOOGLENET = Published(
    "torchvision's GoogLeNet",
    marker="inception3a.branch1.conv.weight",
    own_marker="stages.1.blocks.0.branch1.conv.weight",
    rules=(
        ("conv1.", "stages.0.embed.0."),
        ("conv2.", "stages.0.blocks.0."),
        ("conv3.", "stages.0.blocks.1."),
        *(
            (f"inception{stage + 2}{letter}.", f"stages.{stage}.blocks.{i}.")
            for stage in (1, 2, 3)
            for i, letter in enumerate("abcde")
        ),
        ("fc.", "head."),
    ),
    read=_read_googlenet,
    write=_unchanged,
)


def _read_focal(tensors: Tensors) -> Tensors:
    """Leave out the tables of indices."""
    return {name: tensor for name, tensor in tensors.items() if not _FOCAL_INDEX.search(name)}


_FOCAL_INDEX = re.compile(r"\.attn\.(relative_position_index|valid_ind_)")
_THEIR_ATTN, _OUR_ATTN = "layers.#.blocks.#.attn.relative_position_bias_table", "stages.#.blocks.#.attn."
_FOCAL = Published(
    "official Focal Transformer",
    marker="layers.0.blocks.0.attn.relative_position_bias_table_to_windows.0",
    own_marker="stages.0.blocks.0.attn.pooled_bias",
    rules=(
        ("patch_embed.", "stages.0.embed."),
        *((f"layers.{i}.downsample.", f"stages.{i + 1}.embed.") for i in range(3)),
        ("layers.#.blocks.#.pool_layers.0.", _OUR_ATTN + "pool."),
        (_THEIR_ATTN + "_to_neighbors", _OUR_ATTN + "near_bias"),
        (_THEIR_ATTN + "_to_windows.0", _OUR_ATTN + "pooled_bias"),
        (_THEIR_ATTN, _OUR_ATTN + "window_bias"),
        ("layers.#.", "stages.#."),
    ),
    read=_read_focal,
    write=_unchanged,
)


def _branch(index: int, block: int, branch: str, **names: str) -> Rules:
    """Return the rules of a branch of RepLKNet, which is a block of its own in the file."""
    theirs, ours = f"stages.#.blocks.{index}.", f"stages.#.blocks.{block}.{branch}."
    return (*((f"{theirs}{old}.", f"{ours}{new}.") for old, new in names.items()), (theirs, ours))


_REPLKNET = Published(
    "official RepLKNet",
    marker="stages.0.blocks.0.prelkb_bn.weight",
    own_marker="stages.0.blocks.0.mixer.norm.weight",
    rules=(
        ("stem.", "stages.0.embed."),
        *((f"transitions.{i}.", f"stages.{i + 1}.embed.") for i in range(3)),
        *(
            rule
            for i in range(18)  # blocks of the longest stage
            for rule in (
                *_branch(2 * i, i, "mixer", prelkb_bn="norm", large_kernel="inner.0"),
                *_branch(2 * i + 1, i, "ffn", preffn_bn="norm"),
            )
        ),
    ),
    read=_unchanged,
    write=_unchanged,
)
_FORMS = (_PVT, _T2T, _FOCAL, _REPLKNET, _IFORMER, _GOOGLENET)
