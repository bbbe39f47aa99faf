"""The paper's tables agree with our models, and the reasons in their notes are true."""

from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from inceptionnext_lit.models import VARIANTS, Variant, model_names
from inceptionnext_lit.models.decoders import SemanticFPN
from inceptionnext_lit.models.registry import OURS
from inceptionnext_lit.models.variants import CONVNEXT
from inceptionnext_lit.reports.budget.paper import TABLES, PaperRow

ROWS = [row for table in TABLES for row in table.rows]
PUBLISHED = [row for row in VARIANTS if row.source not in (OURS, CONVNEXT)]  # by the paper or its authors' README


def on_paper(name: str, **kwargs: Any) -> nn.Module:
    """Create a model on the meta device, in evaluation mode."""
    with torch.device("meta"):
        return timm.create_model(name, **kwargs).eval()


def params_m(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


def products(model: nn.Module, side: int) -> int:
    """Multiply-adds of the matrix products and convolutions alone, by torch's counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side, device="meta"))
    return counter.get_total_flops() // 2  # torch counts a multiply-add as two


def normed(model: nn.Module, side: int) -> int:
    """Elements that pass through a LayerNorm."""
    sizes = []
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].numel()))
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side, device="meta"))
    return sum(sizes)


def giga(macs: int, digits: int = 1) -> str:
    return f"{macs / 1e9:.{digits}f}"


def of(label: str, size: int) -> PaperRow:
    """The line of Table 1."""
    [row] = [row for row in TABLES[0].rows if row.label == label and row.image_size == (size, size)]
    return row


def test_the_tables_in_their_order() -> None:
    assert {table.name: len(table.rows) for table in TABLES} == {
        "Table 1: ImageNet-1K": 34,
        "Table 3: isotropic": 7,
        "Ablations of InceptionNeXt-T": 10,
        "Table 10: ConvNeXt-T, kernel size and convolution ratio": 8,
        "ADE20K: UperNet": 9,
        "ADE20K: Semantic FPN": 14,
    }


def test_the_number_of_published_rows() -> None:
    assert len(PUBLISHED) == 26


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.name)
def test_every_published_model_is_in_a_table_with_its_accuracy(row: Variant) -> None:
    lines = [line for line in ROWS if line.model == row.name and line.decoder is None]
    assert {line.top1 for line in lines} == {row.top1}
    assert {line.image_size for line in lines} == {(row.image_size, row.image_size)}
    assert all(line.params and line.macs for line in lines)


def test_our_rows_need_no_note() -> None:
    ours = [row for row in ROWS if row.model in model_names()]
    assert len(ours) == 5 + 5 + 10 + 7 + 3 + 3
    assert [row.note for row in ours if row.note] == []


def test_timm_knows_every_model() -> None:
    assert [row.model for row in ROWS if row.model and not timm.is_model(row.model)] == []


def test_every_row_has_the_score_of_its_table() -> None:
    for table in TABLES:
        scored = [row for row in table.rows if row.params]
        segments = table.name.startswith("ADE20K")
        assert all((row.miou is not None, row.top1 is not None) == (segments, not segments) for row in scored)
        assert all((row.decoder is not None) == segments for row in table.rows)


@pytest.mark.parametrize(
    ("label", "model", "size", "convolutions"),
    [
        ("RSB-ResNet-101", "resnet101", 224, "7.80"),
        ("RegNetY-16G", "regnety_160", 224, "15.9"),
        ("ConvNeXt-B", "convnext_base", 384, "45.1"),
    ],
)
def test_convolutions_alone_are_what_the_note_says(label: str, model: str, size: int, convolutions: str) -> None:
    row = of(label, size)
    assert row.model == model
    assert row.note is not None
    assert convolutions in row.note
    assert giga(products(on_paper(model), size), len(convolutions.partition(".")[2])) == convolutions


@pytest.mark.parametrize(
    ("label", "model", "size", "alone", "printed"),
    [
        ("Swin-S", "swin_small_patch4_window7_224", 224, "8.74", "8.7"),
        pytest.param("Swin-B", "swin_base_patch4_window12_384", 384, "47.08", "47.1", marks=pytest.mark.slow),
    ],
)
def test_swin_with_a_cheap_layer_norm_rounds_to_the_printed_value(
    label: str, model: str, size: int, alone: str, printed: str, unfused: None
) -> None:
    row, net = of(label, size), on_paper(model)
    assert (row.model, row.macs) == (model, printed)
    assert row.note == "the Swin paper counts a LayerNorm as 1 operation per element, fvcore as 5"
    macs, elements = products(net, size), normed(net, size)
    assert giga(macs, 2) == alone
    assert giga(macs + elements) == printed
    assert giga(macs + 5 * elements) != printed


@pytest.mark.slow
def test_focal_s_without_the_surroundings_of_stage_3_rounds_to_the_printed_value() -> None:
    row = of("Focal-S", 224)
    assert (row.model, row.macs) == ("focal_small", "9.1")
    assert row.note == "9.1 is the count without the surroundings of windows in stage 3; the authors' code counts 9.4"
    macs = products(on_paper("focal_small"), 224)
    near = (7 + 2 * 3) ** 2 - 7**2  # surroundings of a window, each with a product for scores and one with values
    assert (giga(macs), giga(macs - 18 * 2 * 14**2 * near * 384)) == ("9.4", "9.1")


def vit_base_macs(tokens: int, patches: int) -> int:
    """ViT-B/16's products: embedding, 12 blocks of four projections, attention and an MLP, and the head."""
    dim = 768
    block = tokens * (4 + 8) * dim**2 + 2 * tokens**2 * dim
    return patches * 3 * 16**2 * dim + 12 * block + dim * 1000


@pytest.mark.parametrize(
    ("label", "model"), [("ViT-B/16", "vit_base_patch16_384"), ("DeiT-B", "deit_base_patch16_384")]
)
def test_vit_without_its_class_token_rounds_to_the_printed_value(label: str, model: str, unfused: None) -> None:
    row, patches = of(label, 384), (384 // 16) ** 2
    assert (row.model, row.macs) == (model, "55.4")
    assert row.note is not None
    assert row.note.endswith("55.4 is the count without the class token")
    with_token, without = vit_base_macs(patches + 1, patches), vit_base_macs(patches, patches)
    assert products(on_paper(model), 384) == with_token
    norms = 25 * 5 * 768  # per token
    assert (giga(with_token), giga(with_token + norms * (patches + 1))) == ("55.5", "55.5")
    assert (giga(without), giga(without + norms * patches)) == ("55.4", "55.4")


def test_parameters_mentioned_in_notes() -> None:
    assert f"{params_m(on_paper('deit_base_patch16_224')):.2f}" == "86.57"  # printed as 86, cut off, and as 87
    assert (of("DeiT-B", 384).params, TABLES[1].rows[4].params) == ("86", "87")
    assert f"{params_m(on_paper('swin_tiny_patch4_window7_224')):.2f}" == "28.29"
    assert of("Swin-T", 224).params == "29"
    backbone: Any = on_paper("poolformer_s24", features_only=True)
    with torch.device("meta"):
        decoder = SemanticFPN(backbone.feature_info.channels())
    assert f"{params_m(backbone) + params_m(decoder):.2f}" == "25.14"
    assert (TABLES[5].rows[2].model, TABLES[5].rows[2].params) == ("poolformer_s24", "23")
