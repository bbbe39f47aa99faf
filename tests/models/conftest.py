from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from inceptionnext_lit.models import VARIANTS, IsotropicMetaNeXt, MetaNeXt, Variant

SHRUNK: dict[type, dict[str, Any]] = {
    MetaNeXt: {"depths": (1, 1, 2, 1), "dims": (24, 32, 40, 48)},
    IsotropicMetaNeXt: {"depth": 3, "dim": 48, "patch_size": 8, "img_size": 32},
}
# These differ from an earlier row only in sizes that the shrunk models do not have, or combine two rows' differences.
REPEATED = {
    "inceptionnext_small", "inceptionnext_base", "inceptionnext_base_384", "inceptionnext_iso_base",
    "convnext_iso_base", "convnext_iso_large", "inceptionnext_tiny_no_vband", "inceptionnext_tiny_no_square",
    "inceptionnext_tiny_band9", "inceptionnext_tiny_band13", "inceptionnext_tiny_ratio1_16", "convnext_tiny_k3",
    "convnext_tiny_k3_par3_8", "convnext_tiny_k3_par1_4", "convnext_tiny_k3_par1_8", "convnext_tiny_k3_par1_16",
    "inceptionnext_iso_small_swiglu", "inceptionnext_iso_small_grn", "inceptionnext_iso_small_starrelu",
}  # fmt: skip
ROWS = [pytest.param(row, marks=[pytest.mark.slow] * (row.name in REPEATED), id=row.name) for row in VARIANTS]


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> Variant:
    """Each model of the table."""
    return request.param


@pytest.fixture
def shrunk(row: Variant) -> Callable[..., nn.Module]:
    """Build the row's model with timm, seeded, with few channels and blocks."""

    def build(**kwargs: Any) -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model(row.name, **{**SHRUNK[row.form], **kwargs})

    return build


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Set weights and norm statistics such that no layer is close to the identity."""

    def apply(model: nn.Module) -> nn.Module:
        torch.manual_seed(1)
        with torch.no_grad():
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                    tensor.uniform_(0.5, 1.5)
                elif tensor.is_floating_point() and tensor.ndim == 1:
                    tensor.normal_(0, 0.3)
        return model

    return apply
