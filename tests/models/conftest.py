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


@pytest.fixture(params=VARIANTS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Variant:
    """Every model of the table in turn."""
    return request.param


@pytest.fixture
def shrunk(row: Variant) -> Callable[..., nn.Module]:
    """Builds the row through timm, narrow and shallow but otherwise itself; seeded."""

    def build(**kwargs: Any) -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model(row.name, **{**SHRUNK[row.form], **kwargs})

    return build


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Gives a model weights and norm statistics at which no layer is close to the identity."""

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
