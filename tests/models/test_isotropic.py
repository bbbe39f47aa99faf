import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import IsotropicMetaNeXt, MetaNeXt
from inceptionnext_lit.models.isotropic import resample_grid


def test_block_is_one_residual_around_mixer_norm_and_mlp() -> None:
    model = IsotropicMetaNeXt(dim=16, depth=1, patch_size=4, num_classes=3).eval()
    image = torch.randn(2, 3, 12, 12)
    (block,) = model.blocks
    x = model.stem(image)
    x = x + block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm(block.token_mixer(x)))))
    expected = model.head(model.norm(x.mean((2, 3))))
    torch.testing.assert_close(model(image), expected)


def test_there_is_no_layer_scale() -> None:
    assert not [key for key in IsotropicMetaNeXt(dim=16, depth=2).state_dict() if "gamma" in key]


def test_position_embedding_is_added_to_the_patches() -> None:
    model = IsotropicMetaNeXt(dim=16, depth=1, patch_size=4, img_size=(8, 12), pos_embed=True).eval()
    assert model.pos_embed.shape == (1, 16, 2, 3)
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.3)
    image = torch.randn(1, 3, 8, 12)
    expected = model.blocks(model.stem(image) + model.pos_embed)
    torch.testing.assert_close(model.forward_features(image), expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(7, 7), (3, 9), (14, 5), (1, 1)])
def test_resampling_a_grid_equals_timms(size: tuple[int, int]) -> None:
    grid = torch.randn(1, 6, 7, 7)
    theirs = resample_abs_pos_embed(grid.flatten(2).transpose(1, 2), list(size), num_prefix_tokens=0)
    torch.testing.assert_close(resample_grid(grid, *size), theirs.transpose(1, 2).reshape(1, 6, *size))


def test_a_grid_of_the_right_size_is_not_touched() -> None:
    grid = torch.randn(1, 4, 3, 5)
    assert resample_grid(grid, 3, 5) is grid


@pytest.mark.slow
@pytest.mark.parametrize("size", [28, 56])
def test_a_model_with_a_position_embedding_is_exported_for_any_size(size: int) -> None:
    model = timm.create_model("metanext_attn_nano", num_classes=3).eval()  # made for 28 pixels
    sides = {number: 4 * torch.export.Dim(name, min=4, max=64) for number, name in ((2, "h"), (3, "w"))}
    exported = torch.export.export(
        model, (torch.randn(2, 3, size, size),), dynamic_shapes={"x": sides}, strict=False
    ).module()
    for height, width in [(28, 28), (84, 40)]:
        images = torch.randn(2, 3, height, width)
        torch.testing.assert_close(exported(images), model(images))


def test_output_stride_must_be_one_that_dilation_can_reach() -> None:
    with pytest.raises(UserError, match="output_stride is 4, but it must be 8, 16 or 32"):
        MetaNeXt(output_stride=4)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_smaller_output_stride_takes_smaller_images(output_stride: int) -> None:
    model = MetaNeXt(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), output_stride=output_stride).eval()
    assert model.forward_features(torch.zeros(1, 3, output_stride, output_stride)).shape == (1, 8, 1, 1)
    with pytest.raises(UserError, match=f"needs at least {output_stride}×{output_stride}"):
        model(torch.zeros(1, 3, output_stride - 1, output_stride))


@pytest.mark.parametrize("size", [(14, 9), (7, 5), (20, 31), (3, 40)])
def test_position_embeddings_of_an_exported_model_are_resampled_by_products(size: tuple[int, int]) -> None:
    """Of any size, without torch's antialiased resize, which not all formats have."""

    class Resampled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + resample_grid(grid, x.shape[-2], x.shape[-1])

    grid = torch.randn(1, 3, 14, 9, generator=torch.Generator().manual_seed(0))
    height, width = (torch.export.Dim(name, min=2, max=64) for name in ("height", "width"))
    program = torch.export.export(
        Resampled(), (torch.zeros(1, 3, 8, 8),), dynamic_shapes={"x": {2: height, 3: width}}, strict=False
    )
    assert not any("upsample" in str(node.target) for node in program.graph.nodes)
    found = program.module()(torch.zeros(1, 3, *size))
    expected = nn.functional.interpolate(grid, size=size, mode="bicubic", antialias=True)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
