"""Focal Transformer against a plain reference with the names of its authors' files.

The reference collects the keys of each query one by one, those that the authors' code has twice also twice.
"""

from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.formats import describe_names, to_public
from inceptionnext_lit.models.weights import load_weights

WINDOW = 7
DEPTHS, DIMS, HEADS, REGIONS = (1, 1, 2, 1), (8, 16, 24, 32), (1, 2, 3, 4), (7, 5, 3, 1)
Names = dict[str, Tensor]


def file_of_the_authors(expands: tuple[int, ...], classes: int = 5) -> Names:
    """Random weights with the names and shapes of the authors' files, with their tables of indices."""
    torch.manual_seed(0)
    area, shapes = WINDOW**2, dict[str, tuple[int, ...]]()
    shapes |= {"patch_embed.proj.weight": (DIMS[0], 3, 4, 4)} | layer("patch_embed.norm", DIMS[0])
    for i, (depth, dim, heads, region, expand) in enumerate(zip(DEPTHS, DIMS, HEADS, REGIONS, expands, strict=True)):
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}."
            attn = block + "attn.relative_position_bias_table"
            shapes |= {f"{block}pool_layers.0.weight": (1, area), f"{block}pool_layers.0.bias": (1,)}
            shapes |= layer(block + "norm1", dim) | layer(block + "norm2", dim)
            shapes |= {attn: (169, heads), f"{attn}_to_windows.0": (heads, (WINDOW + region - 1) ** 2)}
            if expand:
                shapes[f"{attn}_to_neighbors"] = (1, heads, area, len(list(neighbors(expand))))
            shapes |= layer(block + "attn.qkv", dim, 3 * dim) | layer(block + "attn.proj", dim, dim)
            shapes |= layer(block + "mlp.fc1", dim, 4 * dim) | layer(block + "mlp.fc2", 4 * dim, dim)
        if i < 3:
            down = f"layers.{i}.downsample."
            shapes |= {f"{down}proj.weight": (DIMS[i + 1], dim, 2, 2)} | layer(down + "norm", DIMS[i + 1])
    for name in [name for name in shapes if name.endswith("proj.weight") and len(shapes[name]) == 4]:
        shapes[name.replace("weight", "bias")] = shapes[name][:1]
    shapes |= layer("norm", DIMS[-1]) | layer("head", DIMS[-1], classes)
    found = {name: torch.randn(shape) * 0.3 + ("norm" in name and "weight" in name) for name, shape in shapes.items()}
    indices = ("relative_position_index", "relative_position_index_0", "valid_ind_rolled")
    return found | {f"layers.0.blocks.0.attn.{name}": torch.zeros(3, dtype=torch.long) for name in indices}


def layer(name: str, *sizes: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": sizes[::-1], f"{name}.bias": sizes[-1:]}


def neighbors(expand: int) -> Iterator[tuple[int, int]]:
    """What is outside a window in the map shifted up and left, up and right, down and left, down and right."""
    for down, right in ((expand, expand), (expand, -expand), (-expand, expand), (-expand, -expand)):
        for row in range(WINDOW):
            for column in range(WINDOW):
                y, x = row + down, column + right
                if not (0 <= y < WINDOW and 0 <= x < WINDOW):
                    yield y, x


def attend(x: Tensor, block: Names, heads: int, region: int, expand: int) -> Tensor:
    """Focal attention of a normalized map (H, W, C), one query at a time."""
    height, width, dim = x.shape
    rows, columns = ceil(height / WINDOW), ceil(width / WINDOW)
    padded = torch.zeros(rows * WINDOW, columns * WINDOW, dim)
    padded[:height, :width] = x
    summaries = torch.zeros(rows, columns, dim)
    for row in range(rows):
        for column in range(columns):
            window = padded[WINDOW * row : WINDOW * (row + 1), WINDOW * column : WINDOW * (column + 1)]
            summaries[row, column] = block["pool_layers.0.weight"][0] @ window.reshape(-1, dim)
    summaries += block["pool_layers.0.bias"]
    fine, coarse = (functional.linear(t, block["attn.qkv.weight"], block["attn.qkv.bias"]) for t in (padded, summaries))
    coarse = functional.pad(coarse, (0, 0, *[region // 2] * 4))  # the zeros are outside the map
    outside = functional.pad(torch.zeros(rows, columns), [region // 2] * 4, value=-100.0)
    out = torch.zeros_like(padded)
    for row in range(rows * WINDOW):
        for column in range(columns * WINDOW):
            near, far = near_keys(row, column, expand, block), far_keys(row, column, region, block)
            places = torch.tensor([(y % (rows * WINDOW), x % (columns * WINDOW)) for y, x, _ in near])
            squares = torch.tensor([(y, x) for y, x, _ in far])
            pairs = torch.cat([fine[places[:, 0], places[:, 1], dim:], coarse[squares[:, 0], squares[:, 1], dim:]])
            keys, values = pairs.unflatten(1, (2, heads, -1)).unbind(1)  # (K, heads, d)
            bias = torch.stack([bias for *_, bias in near + far])  # (K, heads)
            bias[len(near) :] += outside[squares[:, 0], squares[:, 1], None]
            query = fine[row, column, :dim].unflatten(0, (heads, -1))
            scores = (keys * query).sum(2) * (dim // heads) ** -0.5 + bias
            out[row, column] = (scores.softmax(0)[..., None] * values).sum(0).flatten()
    return functional.linear(out, block["attn.proj.weight"], block["attn.proj.bias"])[:height, :width]


def near_keys(row: int, column: int, expand: int, block: Names) -> list[tuple[int, int, Tensor]]:
    """Row, column and biases of the positions of the query's window and around it."""
    (top, i), (left, j) = divmod(row, WINDOW), divmod(column, WINDOW)
    top, left = WINDOW * top, WINDOW * left
    table = block["attn.relative_position_bias_table"]
    inside = [(y, x) for y in range(WINDOW) for x in range(WINDOW)]
    own = [(top + y, left + x, table[13 * (i - y + 6) + j - x + 6]) for y, x in inside]
    if expand == 0:
        return own
    biases = block["attn.relative_position_bias_table_to_neighbors"][0, :, WINDOW * i + j].T
    return own + [(top + y, left + x, bias) for (y, x), bias in zip(neighbors(expand), biases, strict=True)]


def far_keys(row: int, column: int, region: int, block: Names) -> list[tuple[int, int, Tensor]]:
    """Row and column, in the padded grid, and biases of the summaries around the query's window."""
    (top, i), (left, j) = divmod(row, WINDOW), divmod(column, WINDOW)
    table, span = block["attn.relative_position_bias_table_to_windows.0"], WINDOW + region - 1
    squares = [(y, x) for y in range(region) for x in range(region)]
    return [(top + y, left + x, table[:, span * (i - y + region - 1) + j - x + region - 1]) for y, x in squares]


def run(image: Tensor, file: Names, expands: tuple[int, ...]) -> Tensor:
    """The logits of one image (C, H, W)."""
    x, place, stride = image[None], "patch_embed.", 4
    for i, depth in enumerate(DEPTHS):
        x = functional.conv2d(x, file[place + "proj.weight"], file[place + "proj.bias"], stride=stride)
        x = norm(x[0].permute(1, 2, 0), file, place + "norm")
        for j in range(depth):
            start = f"layers.{i}.blocks.{j}."
            block = {name.removeprefix(start): tensor for name, tensor in file.items() if name.startswith(start)}
            x = x + attend(norm(x, block, "norm1"), block, HEADS[i], REGIONS[i], expands[i])
            hidden = functional.linear(norm(x, block, "norm2"), block["mlp.fc1.weight"], block["mlp.fc1.bias"])
            x = x + functional.linear(functional.gelu(hidden), block["mlp.fc2.weight"], block["mlp.fc2.bias"])
        if i < 3:
            x, place, stride = x.permute(2, 0, 1)[None], f"layers.{i}.downsample.", 2
    return functional.linear(norm(x, file, "norm").mean((0, 1)), file["head.weight"], file["head.bias"])


def norm(x: Tensor, file: Names, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], file[name + ".weight"], file[name + ".bias"])


def small(expands: tuple[int, ...]) -> nn.Module:
    args = dict(depths=DEPTHS, dims=DIMS, num_heads=HEADS, expand_sizes=expands)
    return timm.create_model("focal_tiny", num_classes=5, **args).eval()


@pytest.mark.parametrize(
    ("height", "width", "expands"),
    [
        (32, 40, (3, 3, 3, 0)),  # maps of 8×10, 4×5, 2×2 and 1×1, in windows of 7
        pytest.param(96, 65, (3, 3, 3, 0), marks=pytest.mark.slow),
        pytest.param(64, 132, (2, 3, 1, 3), marks=pytest.mark.slow),
    ],
)
def test_the_authors_weights_give_the_references_logits(
    height: int, width: int, expands: tuple[int, ...], tmp_path: Path
) -> None:
    file, model = file_of_the_authors(expands), small(expands)
    torch.save({"model": file}, tmp_path / "focal.pth")
    report = load_weights(model, tmp_path / "focal.pth")
    assert report.format == "official Focal Transformer"
    assert (set(report.loaded), report.skipped, report.kept) == (set(model.state_dict()), (), ())
    image = torch.randn(3, height, width)
    with torch.no_grad():
        expected = run(image, file, expands)
        assert expected.abs().max() > 0.5
        torch.testing.assert_close(model(image[None])[0], expected, rtol=1e-4, atol=1e-5)


def test_saved_weights_have_the_authors_names() -> None:
    file, model = file_of_the_authors((3, 3, 3, 0)), small((3, 3, 3, 0))
    public = to_public(model.state_dict(), model)
    expected = {name: tensor.shape for name, tensor in file.items() if tensor.is_floating_point()}
    assert {name: tensor.shape for name, tensor in public.items()} == expected
    assert describe_names(public) == "official Focal Transformer"


def test_full_size_tables_have_the_authors_shapes() -> None:
    with torch.device("meta"):
        attn = timm.create_model("focal_tiny").stages[1].blocks[0].attn
    assert attn.near_bias.shape == (1, 6, 49, 132)
    assert attn.pooled_bias.shape == (6, 121)
    assert attn.window_bias.shape == (169, 6)


def test_two_biases_of_a_position_both_get_gradients() -> None:
    model = small((3, 3, 3, 0))
    model(torch.randn(1, 3, 64, 64)).sum().backward()
    grad = model.stages[0].blocks[0].attn.near_bias.grad
    assert grad.isfinite().all()
    assert (grad.abs().amax((0, 1, 2)) > 0).all()
