"""The systems of the paper's tables that timm does not have, as rows of the same registry."""

from inceptionnext_lit.models.baselines import pvt
from inceptionnext_lit.models.registry import Variant, register

BASELINES: tuple[Variant, ...] = pvt.ROWS
register(BASELINES)
