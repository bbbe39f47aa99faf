"""Rows of the table of models for tests that take long for each."""

import pytest

from inceptionnext_lit.models import VARIANTS

MIXERS = ("inceptionnext_nano", "inceptionnext_tiny_no_hband", "inceptionnext_tiny_sequential",
          "inceptionnext_iso_micro", "metanext_attn_nano", "convnext_tiny_k3_par1_2",
          "inceptionnext_tiny_convglu", "inceptionnext_tiny_grn")  # fmt: skip


def only(*names: str) -> pytest.MarkDecorator:
    """Run a test only for these rows."""
    rows = [pytest.param(row, id=row.name) for row in VARIANTS if row.name in names]
    return pytest.mark.parametrize("row", rows, indirect=True)


def each_mixer() -> pytest.MarkDecorator:
    """Run a test for a row of each kind of mixer; for the others it is slow."""
    rows = [pytest.param(row, id=row.name, marks=[pytest.mark.slow] * (row.name not in MIXERS)) for row in VARIANTS]
    return pytest.mark.parametrize("row", rows, indirect=True)
