"""The MetaNeXt family. Importing this package registers every row of ``VARIANTS`` as a timm model."""

from inceptionnext_lit.models.isotropic import IsotropicMetaNeXt
from inceptionnext_lit.models.metanext import MetaNeXt, MetaNeXtBlock
from inceptionnext_lit.models.mixers import DepthwiseConv2d, InceptionDWConv2d, SelfAttention2d
from inceptionnext_lit.models.variants import VARIANTS, Variant, check_model_name, model_names

__all__ = [
    "VARIANTS",
    "DepthwiseConv2d",
    "InceptionDWConv2d",
    "IsotropicMetaNeXt",
    "MetaNeXt",
    "MetaNeXtBlock",
    "SelfAttention2d",
    "Variant",
    "check_model_name",
    "model_names",
]
