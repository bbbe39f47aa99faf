"""Systems that the paper compares with or builds on and that timm does not have, as rows of the same registry."""

from inceptionnext_lit.models.baselines import focal, googlenet, iformer, pvt, replknet, t2t_vit
from inceptionnext_lit.models.registry import Variant, register

BASELINES: tuple[Variant, ...] = (
    *pvt.ROWS,
    *t2t_vit.ROWS,
    *focal.ROWS,
    *replknet.ROWS,
    *iformer.ROWS,
    *googlenet.ROWS,
)
register(BASELINES)
