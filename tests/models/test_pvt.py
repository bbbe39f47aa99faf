"""PVT: its class token, its authors' names, and the outputs of transformers' implementation with the same weights."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.formats import checkpoint_filter, describe_names, to_public
from inceptionnext_lit.models.weights import load_weights, save_weights

Randomise = Callable[[nn.Module], nn.Module]
SMALL: dict[str, Any] = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4), num_classes=5)
IMAGE = torch.linspace(-2, 2, 2 * 3 * 64 * 96).sin().reshape(2, 3, 64, 96)


def build(**kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("pvt_tiny", **{**SMALL, **kwargs}).eval()


def test_the_class_token_is_only_there_for_its_pooling() -> None:
    model = build()
    assert model.num_prefix_tokens == 1
    assert model.forward_features(IMAGE).shape == (2, 1 + 2 * 3, 32)
    assert model.no_weight_decay() == {"stages.3.cls_token"}
    torch.testing.assert_close(model.forward_head(model.forward_features(IMAGE)[:, :1]), model(IMAGE))
    model.reset_classifier(5, "avg")
    assert (model.num_prefix_tokens, model.no_weight_decay()) == (0, set())
    assert model.forward_features(IMAGE).shape == (2, 32, 2, 3)
    model.reset_classifier(5, "token")
    assert model.get_parameter("stages.3.cls_token").std().item() == pytest.approx(0.02, rel=0.4)


def test_features_are_those_of_a_model_without_class_token(randomise: Randomise) -> None:
    body = randomise(build(features_only=True))
    assert not [name for name in body.state_dict() if "cls_token" in name]
    whole = build(global_pool="avg")
    whole.load_state_dict({k.removeprefix("model."): v for k, v in body.state_dict().items()}, strict=False)
    expected = whole.forward_intermediates(IMAGE, intermediates_only=True)
    for a, b in zip(body(IMAGE), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_class_token_changes_the_last_map_alone(randomise: Randomise) -> None:
    model = randomise(build())
    with_token = model.forward_intermediates(IMAGE, intermediates_only=True)
    model.reset_classifier(5, "avg")
    without = model.forward_intermediates(IMAGE, intermediates_only=True)
    for a, b in zip(with_token[:3], without[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.allclose(with_token[3], without[3])


def test_position_embeddings_are_those_of_224_pixels() -> None:
    grids = [p.shape for name, p in build().named_parameters() if name.endswith("pos_embed")]
    assert grids == [(1, 8, 56, 56), (1, 16, 28, 28), (1, 24, 14, 14), (1, 32, 7, 7)]


def official_names(depths: tuple[int, ...]) -> set[str]:
    """The names in the authors' code (classification/pvt.py)."""
    both = ("weight", "bias")
    names = {"cls_token", *(f"{layer}.{kind}" for layer in ("norm", "head") for kind in both)}
    for i, depth in enumerate(depths, start=1):
        names |= {f"pos_embed{i}", *(f"patch_embed{i}.{layer}.{kind}" for layer in ("proj", "norm") for kind in both)}
        layers = ["norm1", "norm2", "attn.q", "attn.kv", "attn.proj", "mlp.fc1", "mlp.fc2"]
        layers += ["attn.sr", "attn.norm"] if i < len(depths) else []
        names |= {f"block{i}.{j}.{layer}.{kind}" for j in range(depth) for layer in layers for kind in both}
    return names


def test_the_authors_names(randomise: Randomise) -> None:
    model = randomise(build())
    public = to_public(model.state_dict(), model)
    assert set(public) == official_names(SMALL["depths"])
    assert [public[f"pos_embed{i}"].shape for i in (1, 2, 3, 4)] == [
        (1, 56 * 56, 8), (1, 28 * 28, 16), (1, 14 * 14, 24), (1, 1 + 7 * 7, 32),
    ]  # fmt: skip
    assert describe_names(public) == "official PVT"
    back = checkpoint_filter({"model": public}, model)
    assert set(back) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=0)


def test_the_class_tokens_position_is_added_to_it() -> None:
    model = build()
    public = to_public(model.state_dict(), model)
    public["pos_embed4"][:, 0] = 0.5
    back = checkpoint_filter(public, model)
    token = model.get_parameter("stages.3.cls_token")
    torch.testing.assert_close(back["stages.3.cls_token"], token + 0.5, rtol=0, atol=0)


def test_a_saved_file_is_loaded_completely(tmp_path: Path, randomise: Randomise) -> None:
    for pool in ("token", "avg"):
        model = randomise(build(global_pool=pool))
        save_weights(model, tmp_path / "pvt.safetensors")
        other = build(global_pool=pool)
        report = load_weights(other, tmp_path / "pvt.safetensors")
        assert (set(report.loaded), report.format) == (set(model.state_dict()), "official PVT")
        assert (report.skipped, report.adapted) == ((), ())
        torch.testing.assert_close(other(IMAGE), model(IMAGE), rtol=0, atol=0)


_THEIRS = (
    (r"^pvt\.encoder\.patch_embeddings\.(\d)\.position_embeddings", r"pos_embed\1"),
    (r"^pvt\.encoder\.patch_embeddings\.(\d)\.cls_token", r"cls_token"),
    (r"^pvt\.encoder\.patch_embeddings\.(\d)\.projection\.", r"patch_embed\1.proj."),
    (r"^pvt\.encoder\.patch_embeddings\.(\d)\.layer_norm\.", r"patch_embed\1.norm."),
    (r"^pvt\.encoder\.block\.(\d)\.", r"block\1."),
    (r"^pvt\.encoder\.layer_norm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"\.layer_norm_(\d)\.", r".norm\1."),
    (r"\.attention\.self\.query\.", ".attn.q."),
    (r"\.attention\.self\.key\.", ".attn.k."),
    (r"\.attention\.self\.value\.", ".attn.v."),
    (r"\.attention\.self\.sequence_reduction\.", ".attn.sr."),
    (r"\.attention\.self\.layer_norm\.", ".attn.norm."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.mlp\.dense(\d)\.", r".mlp.fc\1."),
)


def to_official(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename transformers' tensors to the authors' names; keys and values are one layer there."""
    out = {}
    for name, tensor in theirs.items():
        for pattern, replacement in _THEIRS:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"^(patch_embed|pos_embed|block)(\d)", lambda m: f"{m[1]}{int(m[2]) + 1}", name)
        out[name] = tensor
    for name in [name for name in out if ".attn.k." in name]:
        joined = [out.pop(name), out.pop(name.replace(".k.", ".v."))]
        out[name.replace(".k.", ".kv.")] = torch.cat(joined)
    return out


def reference(size: int) -> nn.Module:
    """transformers' PVT-Tiny for images of one size, with the norms of the authors' code."""
    from transformers import PvtConfig, PvtForImageClassification

    # its own other sizes reshape the position embedding instead of resampling it
    config = PvtConfig(image_size=size, depths=[2, 2, 2, 2], num_labels=10, drop_path_rate=0.0)
    model = PvtForImageClassification(config).eval()
    encoder = model.pvt.encoder
    for embed in encoder.patch_embeddings:
        embed.layer_norm.eps = 1e-5
    for block in (block for stage in encoder.block for block in stage):
        if hasattr(block.attention.self, "layer_norm"):
            block.attention.self.layer_norm.eps = 1e-5
    return model


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("size", [224, 160])
def test_outputs_are_those_of_transformers(size: int, randomise: Randomise) -> None:
    torch.manual_seed(0)
    source = randomise(reference(224))
    model = timm.create_model("pvt_tiny", num_classes=10).eval()
    official = to_official(source.state_dict())
    assert set(official) == official_names((2, 2, 2, 2))
    model.load_state_dict(checkpoint_filter(official, model))
    theirs = reference(size)
    theirs.load_state_dict({name: _resized(name, tensor, size) for name, tensor in source.state_dict().items()})
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = theirs(images).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parity
def test_the_last_map_is_that_of_transformers_blocks_without_class_token(randomise: Randomise) -> None:
    torch.manual_seed(0)
    theirs = randomise(reference(224))
    body = timm.create_model("pvt_tiny", num_classes=10)
    body.load_state_dict(checkpoint_filter(to_official(theirs.state_dict()), body))
    body.prune_intermediate_layers([0, 1, 2, 3], prune_norm=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        maps = body.eval().forward_intermediates(images, intermediates_only=True)
        tokens, height, width = theirs.pvt.encoder.patch_embeddings[3](maps[2])
        tokens = tokens[:, 1:]
        for block in theirs.pvt.encoder.block[3]:
            tokens = block(tokens, height, width)[0]
    expected = tokens.transpose(1, 2).reshape(maps[3].shape)
    torch.testing.assert_close(maps[3], expected, rtol=1e-4, atol=1e-5)


def _resized(name: str, tensor: Tensor, size: int) -> Tensor:
    if "position_embeddings" not in name:
        return tensor
    stage = int(re.findall(r"\d", name)[0])
    old, new = (side // 4 // 2**stage for side in (224, size))
    first, rest = tensor[:, : -(old**2)], tensor[:, -(old**2) :]
    grid = rest.transpose(1, 2).reshape(1, -1, old, old)
    grid = functional.interpolate(grid, size=(new, new), mode="bilinear")
    return torch.cat((first, grid.flatten(2).transpose(1, 2)), dim=1)
