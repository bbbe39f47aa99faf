"""Cost of GoogLeNet's Inception modules with and without reductions, and of InceptionNeXt's mixer of the same width."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from inceptionnext_lit.models import InceptionDWConv2d
from inceptionnext_lit.models.baselines.googlenet import MODULES, Inception, NaiveInception
from inceptionnext_lit.models.cost import Cost, build_model, count

TABLE = "Inception modules"
NETWORK = "network"
KINDS = ("naive", "reduced", "3×3 for 5×5", "InceptionDWConv2d")
"""The paper's module without and with reductions (arXiv 1409.4842, Figure 2), torchvision's, and InceptionNeXt's."""

_NETWORKS: dict[str, dict[str, Any]] = {
    KINDS[0]: dict(naive=True, large_kernel=5),
    KINDS[1]: dict(naive=False, large_kernel=5),
    KINDS[2]: dict(naive=False, large_kernel=3),
}
_STEM = 192  # channels of the first module's input
_SIDES = {"3": 28, "4": 14, "5": 7}  # of the maps of a stage, for images of 224 pixels


@dataclass(frozen=True)
class ModuleCost:
    """Cost of one form of an Inception module, or of the whole network.

    Attributes:
        module: The module's name in the paper's Table 1, or ``NETWORK``.
        kind: Its form, one of ``KINDS``.
        side: Height and width of its input, in positions.
        in_dim: Input channels.
        out_dim: Output channels.
        cost: Its cost, with BatchNorms.
    """

    module: str
    kind: str
    side: int
    in_dim: int
    out_dim: int
    cost: Cost

    def record(self) -> dict[str, Any]:
        """Return the cost as plain values under the report's stable names; the size is that of the input."""
        return {
            "model": f"googlenet {self.module}: {self.kind}",
            "image_size": self.side,
            "params": self.cost.params,
            "macs": self.cost.macs,
            "activations": self.cost.activations,
            "paper_params_m": None,
            "paper_macs_g": None,
            "paper_top1": None,
            "table": TABLE,
            "verdict": "no paper figure",
        }


def module_costs() -> list[ModuleCost]:
    """Count all forms of each module of GoogLeNet at 224 pixels, and the networks that are made of them.

    All forms get the input of the reduced network's module, and InceptionDWConv2d has as many channels as its output.
    In the naive network, unlike here, inputs become wider from module to module.
    """
    costs = []
    in_dim = _STEM
    for name in MODULES:
        side = _SIDES[name[0]]
        for kind, module, dim in _forms(name, in_dim):
            channels = dim if kind == KINDS[-1] else in_dim
            costs.append(ModuleCost(name, kind, side, channels, dim, _cost(module, channels, side)))
        in_dim = dim  # of all forms but the naive one
    for kind, arguments in _NETWORKS.items():
        network, (side, _) = build_model("googlenet", **arguments)
        costs.append(ModuleCost(NETWORK, kind, side, 3, int(cast(Any, network).num_features), _cost(network, 3, side)))
    return costs


def _forms(name: str, in_dim: int) -> Iterator[tuple[str, nn.Module, int]]:
    """Create a module's forms, each with its output channels."""
    widths = MODULES[name]
    naive, reduced = NaiveInception(in_dim, widths), Inception(in_dim, widths)
    modules = (naive, reduced, Inception(in_dim, widths, large_kernel=3), InceptionDWConv2d(reduced.dim))
    return zip(KINDS, modules, (naive.dim, *(reduced.dim,) * 3), strict=True)


def _cost(module: nn.Module, channels: int, side: int) -> Cost:
    return count(module.eval(), torch.zeros(1, channels, side, side)).total
