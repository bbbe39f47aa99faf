"""The numbers declared in the table of models equal the models' counts."""

import pytest

from inceptionnext_lit.models import BASELINES, HYBRIDS, VARIANTS, Variant
from inceptionnext_lit.models.cost import count_model

# of each kind of mixer, the small ones; reports/test_budget.py counts two larger ones
FAST = {
    "inceptionnext_atto", "inceptionnext_nano", "inceptionnext_tiny", "inceptionnext_iso_small",
    "inceptionnext_iso_nano", "inceptionnext_iso_micro", "inceptionnext_tiny_no_hband", "inceptionnext_tiny_sequential",
    "inceptionnext_tiny_ratio1_4", "convnext_iso_nano", "convnext_tiny_k5", "convnext_tiny_k3_par1_2",
    "metanext_attn_nano", "metanext_attn_small", "inceptionnext_tiny_convglu", "inceptionnext_iso_small_convglu",
    "swin_tiny_inception_stages12",
}  # fmt: skip
ROWS = [
    pytest.param(row, id=row.name, marks=[pytest.mark.slow] * (row.name not in FAST))
    for row in (*VARIANTS, *BASELINES, *HYBRIDS)
]


@pytest.mark.parametrize("row", ROWS)
def test_declared_numbers_are_the_count(row: Variant) -> None:
    found, size = count_model(row.name)
    assert size == (row.image_size, row.image_size)
    assert round(found.total.macs / 1e9, 4) == row.macs_g
    assert round(found.total.params / 1e6, 2) == row.params_m
    assert found.uncounted == {}
