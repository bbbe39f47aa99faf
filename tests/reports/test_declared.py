"""The numbers declared in the table of models equal the models' counts."""

import pytest

from inceptionnext_lit.models import VARIANTS, Variant
from inceptionnext_lit.models.cost import count_model

SLOW = ("convnext_iso_large",)
ROWS = [pytest.param(row, id=row.name, marks=[pytest.mark.slow] * (row.name in SLOW)) for row in VARIANTS]


@pytest.mark.parametrize("row", ROWS)
def test_declared_numbers_are_the_count(row: Variant) -> None:
    found, size = count_model(row.name)
    assert size == (row.image_size, row.image_size)
    assert round(found.total.macs / 1e9, 4) == row.macs_g
    assert round(found.total.params / 1e6, 2) == row.params_m
    assert found.uncounted == {}
