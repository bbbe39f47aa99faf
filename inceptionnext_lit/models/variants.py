"""The family as one table, with one row per model.

Sources: the architectures and accuracies of InceptionNeXt (arXiv 2303.16900: Tables 1, 3 and 10 and the ablations), of
    its authors' README (atto) and of ConvNeXt's README (large isotropic form, arXiv 2201.03545). Rows marked "this
    project" have no published accuracy. Parameters and MACs are our own counts, with 1000 classes; ``cli.py budget``
    compares them with the paper's.
"""

from functools import partial
from typing import Any

from timm.layers import LayerNorm2d

from inceptionnext_lit.models.isotropic import IsotropicMetaNeXt
from inceptionnext_lit.models.metanext import MetaNeXt
from inceptionnext_lit.models.mixers import DepthwiseConv2d, InceptionDWConv2d, SelfAttention2d
from inceptionnext_lit.models.mlps import ConvGluMlp, GrnMlp, StarReluMlp, SwiGluMlp
from inceptionnext_lit.models.registry import Variant, register

PAPER = "arXiv 2303.16900"
CONVNEXT = "arXiv 2201.03545"
RELEASE = "https://github.com/sail-sg/inceptionnext/releases/download/model/"

_ATTO = dict(
    depths=(2, 2, 6, 2),
    dims=(40, 80, 160, 320),
    token_mixer=partial(InceptionDWConv2d, band_kernel_size=9, branch_ratio=0.25),
)
_TINY = dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768))
_SMALL = dict(depths=(3, 3, 27, 3), dims=(96, 192, 384, 768))
_BASE = dict(depths=(3, 3, 27, 3), dims=(128, 256, 512, 1024))
_NANO = dict(depths=(1, 1, 3, 1), dims=(32, 64, 128, 256))

_ISO_SMALL = dict(patch_size=16, dim=384, depth=18)
_ISO_BASE = dict(patch_size=16, dim=768, depth=18)
_ISO_LARGE = dict(patch_size=16, dim=1024, depth=36)
_ISO_NANO = dict(img_size=28, patch_size=4, dim=96, depth=6)
_ISO_MICRO = dict(img_size=28, patch_size=4, dim=48, depth=3)
_CONVNEXT = dict(token_mixer=DepthwiseConv2d, norm_layer=LayerNorm2d)
_ATTN = dict(norm_layer=LayerNorm2d, pos_embed=True)
_ATTN_SMALL = dict(patch_size=16, dim=384, depth=12, token_mixer=partial(SelfAttention2d, num_heads=6), **_ATTN)
_ATTN_NANO = dict(_ISO_NANO, token_mixer=partial(SelfAttention2d, num_heads=3), **_ATTN)

# A gated MLP costs as much as an ungated one with two thirds of its hidden width, and as many channels less as its
# depthwise convolution costs: 8 at 8/3 of the block's channels.
_SWIGLU = dict(mlp_layer=SwiGluMlp, mlp_ratios=(8 / 3, 8 / 3, 8 / 3, 2))
_CONVGLU = dict(mlp_layer=ConvGluMlp, mlp_ratios=(248 / 96, 504 / 192, 1016 / 384, 1530 / 768))
_ISO_SWIGLU = dict(mlp_layer=SwiGluMlp, mlp_ratio=8 / 3)
_ISO_CONVGLU = dict(mlp_layer=ConvGluMlp, mlp_ratio=1016 / 384)
_GRN, _STARRELU = dict(mlp_layer=GrnMlp), dict(mlp_layer=StarReluMlp)


def _ablation(**mixer: Any) -> dict[str, Any]:
    """Return InceptionNeXt-T's arguments with another form of its token mixer."""
    return _TINY | {"token_mixer": partial(InceptionDWConv2d, **mixer)}


def _convnext(kernel_size: int, conv_ratio: float = 1.0) -> dict[str, Any]:
    """Return ConvNeXt-T's arguments with another kernel, applied to a fraction of the channels."""
    mixer = partial(DepthwiseConv2d, kernel_size=kernel_size, conv_ratio=conv_ratio)
    return _TINY | dict(token_mixer=mixer, norm_layer=LayerNorm2d, mlp_ratios=(4, 4, 4, 4), head_ratio=None)


_T1, _T3, _T10, _ABLATION = (f"{PAPER}, {table}" for table in ("Table 1", "Table 3", "Table 10", "ablations"))
_HUB = "timm/inception_next_"
_SAIL = "sail_in1k"
_FB = "https://dl.fbaipublicfiles.com/convnext/convnext_iso_"
_T = "inceptionnext_tiny_"
_I = "inceptionnext_iso_small_"
_C = "convnext_tiny_"
# fmt: off
VARIANTS: tuple[Variant, ...] = (
    Variant("inceptionnext_atto", MetaNeXt, _ATTO, 4.16, 0.5049, 75.3, "authors' README",
            tag=_SAIL, hub_id=_HUB + "atto.sail_in1k", url=RELEASE + "inceptionnext_atto.pth"),
    Variant("inceptionnext_tiny", MetaNeXt, _TINY, 28.06, 4.1946, 82.3, _T1,
            tag=_SAIL, hub_id=_HUB + "tiny.sail_in1k", url=RELEASE + "inceptionnext_tiny.pth"),
    Variant("inceptionnext_small", MetaNeXt, _SMALL, 49.37, 8.3644, 83.5, _T1,
            tag=_SAIL, hub_id=_HUB + "small.sail_in1k", url=RELEASE + "inceptionnext_small.pth"),
    Variant("inceptionnext_base", MetaNeXt, _BASE, 86.67, 14.8527, 84.0, _T1,
            tag=_SAIL, hub_id=_HUB + "base.sail_in1k", url=RELEASE + "inceptionnext_base.pth"),
    Variant("inceptionnext_base_384", MetaNeXt, _BASE, 86.67, 43.6366, 85.2, _T1, image_size=384, crop_pct=1.0,
            tag=_SAIL + "_384", hub_id=_HUB + "base.sail_in1k_384", url=RELEASE + "inceptionnext_base_384.pth"),
    Variant("inceptionnext_nano", MetaNeXt, _NANO, 1.98, 0.0152, image_size=64),
    Variant("inceptionnext_iso_small", IsotropicMetaNeXt, _ISO_SMALL, 21.99, 4.2280, 79.7, _T3),
    Variant("inceptionnext_iso_base", IsotropicMetaNeXt, _ISO_BASE, 86.45, 16.7796, 82.1, _T3),
    Variant("inceptionnext_iso_nano", IsotropicMetaNeXt, _ISO_NANO, 0.55, 0.0222, image_size=28),
    Variant("inceptionnext_iso_micro", IsotropicMetaNeXt, _ISO_MICRO, 0.11, 0.0029, image_size=28),
    Variant("metanext_attn_small", IsotropicMetaNeXt, _ATTN_SMALL, 22.04, 4.5786, 3.9, _T3),
    Variant("metanext_attn_nano", IsotropicMetaNeXt, _ATTN_NANO, 0.78, 0.0357, image_size=28),
    Variant("convnext_iso_small", IsotropicMetaNeXt, _ISO_SMALL | _CONVNEXT, 22.31, 4.2932, 79.7, _T3,
            tag="fb_in1k", url=_FB + "small_1k_224_ema.pth"),
    Variant("convnext_iso_base", IsotropicMetaNeXt, _ISO_BASE | _CONVNEXT, 87.08, 16.9100, 82.0, _T3,
            tag="fb_in1k", url=_FB + "base_1k_224_ema.pth"),
    Variant("convnext_iso_large", IsotropicMetaNeXt, _ISO_LARGE | _CONVNEXT, 305.91, 59.7356, 82.6, CONVNEXT,
            tag="fb_in1k", url=_FB + "large_1k_224_ema.pth"),
    Variant("convnext_iso_nano", IsotropicMetaNeXt, _ISO_NANO | _CONVNEXT, 0.58, 0.0235, image_size=28),
    Variant(_T + "no_hband", MetaNeXt, _ablation(branches=("square", "vertical")), 28.05, 4.1917, 81.9, _ABLATION),
    Variant(_T + "no_vband", MetaNeXt, _ablation(branches=("square", "horizontal")), 28.05, 4.1917, 81.9, _ABLATION),
    Variant(_T + "no_square", MetaNeXt, _ablation(branches=("horizontal", "vertical")), 28.05, 4.1922, 82.0, _ABLATION),
    Variant(_T + "sequential", MetaNeXt, _ablation(sequential_bands=True), 28.06, 4.1946, 82.1, _ABLATION),
    Variant(_T + "band7", MetaNeXt, _ablation(band_kernel_size=7), 28.05, 4.1925, 82.1, _ABLATION),
    Variant(_T + "band9", MetaNeXt, _ablation(band_kernel_size=9), 28.05, 4.1936, 82.1, _ABLATION),
    Variant(_T + "band13", MetaNeXt, _ablation(band_kernel_size=13), 28.06, 4.1957, 82.0, _ABLATION),
    Variant(_T + "ratio1_4", MetaNeXt, _ablation(branch_ratio=1 / 4), 28.08, 4.2029, 82.2, _ABLATION),
    Variant(_T + "ratio1_16", MetaNeXt, _ablation(branch_ratio=1 / 16), 28.04, 4.1905, 81.8, _ABLATION),
    Variant(_T + "swiglu", MetaNeXt, _TINY | _SWIGLU, 28.06, 4.1946),
    Variant(_T + "convglu", MetaNeXt, _TINY | _CONVGLU, 28.08, 4.1936),
    Variant(_T + "grn", MetaNeXt, _TINY | _GRN, 28.10, 4.1946),
    Variant(_T + "starrelu", MetaNeXt, _TINY | _STARRELU, 28.06, 4.1946),
    Variant(_I + "swiglu", IsotropicMetaNeXt, _ISO_SMALL | _ISO_SWIGLU, 22.00, 4.2280),
    Variant(_I + "convglu", IsotropicMetaNeXt, _ISO_SMALL | _ISO_CONVGLU, 22.02, 4.2278),
    Variant(_I + "grn", IsotropicMetaNeXt, _ISO_SMALL | _GRN, 22.05, 4.2280),
    Variant(_I + "starrelu", IsotropicMetaNeXt, _ISO_SMALL | _STARRELU, 21.99, 4.2280),
    Variant(_C + "k5", MetaNeXt, _convnext(5), 28.43, 4.4190, 82.0, _T10,
            tag=_SAIL, url=RELEASE + _C + "k5_1k_224_ema.pth"),
    Variant(_C + "k3", MetaNeXt, _convnext(3), 28.32, 4.3846, 81.5, _T10,
            tag=_SAIL, url=RELEASE + _C + "k3_1k_224_ema.pth"),
    Variant(_C + "k3_par1_2", MetaNeXt, _convnext(3, 1 / 2), 28.29, 4.3750, 81.4, _T10,
            tag=_SAIL, url=RELEASE + _C + "k3_par1_2_1k_224_ema.pth"),
    Variant(_C + "k3_par3_8", MetaNeXt, _convnext(3, 3 / 8), 28.28, 4.3726, 81.4, _T10,
            tag=_SAIL, url=RELEASE + _C + "k3_par3_8_1k_224_ema.pth"),
    Variant(_C + "k3_par1_4", MetaNeXt, _convnext(3, 1 / 4), 28.27, 4.3702, 81.3, _T10,
            tag=_SAIL, url=RELEASE + _C + "k3_par1_4_1k_224_ema.pth"),
    Variant(_C + "k3_par1_8", MetaNeXt, _convnext(3, 1 / 8), 28.27, 4.3677, 80.8, _T10,
            tag=_SAIL, url=RELEASE + _C + "k3_par1_8_1k_224_ema.pth"),
    Variant(_C + "k3_par1_16", MetaNeXt, _convnext(3, 1 / 16), 28.26, 4.3665, 80.1, _T10,
            tag=_SAIL, url=RELEASE + _C + "k3_par1_16_1k_224_ema.pth"),
)
# fmt: on

register(VARIANTS)


def model_names() -> list[str]:
    """Return the names of the family's models, in the table's order."""
    return [row.name for row in VARIANTS]
