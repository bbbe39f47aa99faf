"""T2T-ViT: its Performer, its authors' names, and the outputs of their formulas with the same weights."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.tokens_to_token import TokenPerformer, performer_attention
from inceptionnext_lit.models.fitting import fit
from inceptionnext_lit.models.formats import checkpoint_filter, describe_names, rename, to_public
from inceptionnext_lit.models.positions import sinusoid
from inceptionnext_lit.models.weights import load_weights, save_weights

Randomise = Callable[[nn.Module], nn.Module]
SMALL: dict[str, Any] = dict(depth=2, dim=48, num_heads=4, token_dim=16, num_classes=5)
IMAGE = torch.linspace(-2, 2, 2 * 3 * 64 * 96).sin().reshape(2, 3, 64, 96)


class Performer(nn.Module):
    """The authors' token performer (models/token_performer.py), with their names, in evaluation."""

    def __init__(self, dim: int, emb: int) -> None:
        super().__init__()
        self.kqv, self.proj = nn.Linear(dim, 3 * emb), nn.Linear(emb, emb)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(emb)
        self.mlp = nn.Sequential(nn.Linear(emb, emb), nn.GELU(), nn.Linear(emb, emb))
        self.m = emb // 2
        self.w = nn.Parameter(nn.init.orthogonal_(torch.randn(self.m, emb)) * math.sqrt(self.m), requires_grad=False)

    def kernel(self, x: Tensor) -> Tensor:
        norm = (x * x).sum(-1, keepdim=True) / 2
        return torch.exp(torch.einsum("bti,mi->btm", x, self.w) - norm) / math.sqrt(self.m)

    def forward(self, x: Tensor) -> Tensor:
        k, q, v = self.kqv(self.norm1(x)).chunk(3, -1)
        kp, qp = self.kernel(k), self.kernel(q)
        d = torch.einsum("bti,bi->bt", qp, kp.sum(1)).unsqueeze(2)
        y = torch.einsum("bti,bni->btn", qp, torch.einsum("bin,bim->bnm", v, kp)) / (d + 1e-8)
        x = v + self.proj(y)
        return x + self.mlp(self.norm2(x))


class Block(nn.Module):
    """The authors' transformer block, without drop path."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim, bias=False), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 3 * dim), "fc2": nn.Linear(3 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + self.attn["proj"]((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class Reference(nn.Module):
    """The authors' T2T-ViT with Performers (models/t2t_vit.py), also for images that are not square."""

    def __init__(self, dim: int, depth: int, num_heads: int, token_dim: int, num_classes: int) -> None:
        super().__init__()
        self.tokens_to_token = nn.ModuleDict(
            {
                "attention1": Performer(3 * 49, token_dim),
                "attention2": Performer(9 * token_dim, token_dim),
                "project": nn.Linear(9 * token_dim, dim),
            }
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(self.positions(197, dim), requires_grad=False)
        self.blocks = nn.ModuleList(Block(dim, num_heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, num_classes)

    @staticmethod
    def positions(count: int, dim: int) -> Tensor:
        table = np.array([[p / np.power(10000, 2 * (j // 2) / dim) for j in range(dim)] for p in range(count)])
        table[:, 0::2], table[:, 1::2] = np.sin(table[:, 0::2]), np.cos(table[:, 1::2])
        return torch.tensor(table, dtype=torch.float32).unsqueeze(0)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        for layer, kernel, stride in zip(self.tokens_to_token.values(), (7, 3, 3), (4, 2, 2), strict=True):
            x = layer(functional.unfold(x, kernel, stride=stride, padding=kernel // 3).transpose(1, 2))
            height, width = height // stride, width // stride
            x = x.transpose(1, 2).unflatten(2, (height, width))
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)), 1)
        x = x + self.positions(x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


def build(**kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("t2t_vit_14", **{**SMALL, **kwargs}).eval()


@pytest.mark.parametrize("size", [(64, 96), (224, 224)])
def test_outputs_are_those_of_the_authors_formulas(size: tuple[int, int], randomise: Randomise) -> None:
    torch.manual_seed(0)
    theirs, model = randomise(Reference(**SMALL)), build()
    model.load_state_dict(checkpoint_filter({"state_dict_ema": theirs.state_dict()}, model))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (160, 256)])
def test_outputs_of_the_full_model(size: tuple[int, int], randomise: Randomise) -> None:
    torch.manual_seed(0)
    theirs = randomise(Reference(dim=384, depth=14, num_heads=6, token_dim=64, num_classes=10))
    model = timm.create_model("t2t_vit_14", num_classes=10).eval()
    model.load_state_dict(checkpoint_filter(theirs.state_dict(), model))
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images), rtol=1e-4, atol=2e-5)


def test_names_are_the_authors(randomise: Randomise, tmp_path: Path) -> None:
    model = randomise(build())
    public, theirs = to_public(model.state_dict(), model), Reference(**SMALL).state_dict()
    assert {name: one.shape for name, one in public.items()} == {name: one.shape for name, one in theirs.items()}
    assert describe_names(public) == "official T2T-ViT"
    torch.testing.assert_close(public["pos_embed"], theirs["pos_embed"], rtol=0, atol=5e-5)
    save_weights(model, tmp_path / "t2t.safetensors")
    other = build()
    report = load_weights(other, tmp_path / "t2t.safetensors")
    assert set(report.loaded) == set(model.state_dict())
    torch.testing.assert_close(other(IMAGE), model(IMAGE), rtol=0, atol=0)


def test_a_file_with_another_position_embedding_does_not_fit() -> None:
    weights = Reference(**SMALL).state_dict()
    assert fit(rename(weights), build()).mismatches == 0
    weights["pos_embed"] = weights["pos_embed"] + 0.1
    assert fit(rename(weights), build()).complaint() == "unexpected: pos_embed (1×197×48)"


def test_sinusoids_are_those_of_double_precision() -> None:
    torch.testing.assert_close(sinusoid(197, 384), Reference.positions(197, 384)[0], rtol=0, atol=5e-5)


def test_positions_are_numbered_from_the_class_token() -> None:
    with_token, without = build(), build(global_pool="avg")
    weights = {name: tensor for name, tensor in with_token.state_dict().items() if name != "cls_token"}
    without.load_state_dict(weights)
    tokens, height, width = with_token._embed(IMAGE)
    assert (tokens.shape, height, width) == ((2, 1 + 24, 48), 4, 6)
    torch.testing.assert_close(without._embed(IMAGE)[0], tokens[:, 1:], rtol=0, atol=0)
    torch.testing.assert_close(tokens[0, 0], with_token.cls_token[0, 0] + sinusoid(1, 48)[0], rtol=0, atol=0)


def test_the_class_token_is_only_there_for_its_pooling() -> None:
    model = build()
    assert (model.num_prefix_tokens, model.no_weight_decay()) == (1, {"cls_token"})
    assert model.forward_features(IMAGE).shape == (2, 1 + 4 * 6, 48)
    model.reset_classifier(5, "avg")
    assert (model.num_prefix_tokens, model.no_weight_decay()) == (0, set())
    assert model.forward_features(IMAGE).shape == (2, 48, 4, 6)


def test_random_features_are_constant_and_orthogonal() -> None:
    torch.manual_seed(0)
    performer = TokenPerformer(12, 16)
    assert "w" not in dict(performer.named_parameters())
    torch.testing.assert_close(performer.w @ performer.w.T, 8 * torch.eye(8), rtol=0, atol=1e-4)


def test_the_performer_does_not_overflow_in_half_precision() -> None:
    torch.manual_seed(0)
    w = TokenPerformer(12, 64).w
    assert w.square().sum(1).min() / 2 > math.log(65504)  # the largest feature of a query equal to w
    query, key, value = w.unsqueeze(0), w.unsqueeze(0), torch.randn(1, 32, 64)
    expected = performer_attention(query, key, value, w)
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(performer_attention(query, key, value, w), expected, rtol=0, atol=0)
    half = performer_attention(query.half(), key.half(), value.half(), w)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), expected, rtol=1e-2, atol=1e-2)
