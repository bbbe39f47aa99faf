"""Each row becomes one graph: torch.compile without breaks, and torch.export."""

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from torch import nn

from inceptionnext_lit.models import MetaNeXt, Variant
from tests.models.rows import each_mixer

Build = Callable[..., nn.Module]


@pytest.fixture
def short(row: Variant, shrunk: Build) -> Build:
    """Builds the row with one layer of each kind, since tracing takes time for each."""
    ratios = row.args.get("mlp_ratios", (4, 3))[-2:]
    size = {"depths": (1, 1), "dims": (24, 32), "mlp_ratios": ratios} if row.form is MetaNeXt else {"depth": 1}
    return partial(shrunk, num_classes=4, **size)


@each_mixer()
def test_compiles_without_graph_breaks(short: Build) -> None:
    torch.compiler.reset()
    model = short().eval()
    image = torch.randn(1, 3, 48, 40)  # not the size that a position embedding is stored for
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), model(image))


@each_mixer()
def test_a_training_step_compiles_without_graph_breaks(short: Build) -> None:
    torch.compiler.reset()
    model, image = short(drop_path_rate=0.1).train(), torch.randn(2, 3, 64, 64)
    torch.compile(model, backend="eager", fullgraph=True)(image).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@each_mixer()
def test_exports(short: Build) -> None:
    model, image = short().eval(), torch.randn(1, 3, 48, 40)
    exported = torch.export.export(model, (image,)).module()
    torch.testing.assert_close(exported(image), model(image))


@pytest.mark.slow
def test_exports_at_full_size(row: Variant) -> None:
    with torch.device("meta"):
        model = timm.create_model(row.name).eval()
        image = torch.zeros(1, 3, row.image_size, row.image_size)
    program = torch.export.export(model, (image,))
    (output,) = program.graph_signature.user_outputs
    node = next(node for node in program.graph.nodes if node.name == output)
    assert node.meta["val"].shape == (1, 1000)
