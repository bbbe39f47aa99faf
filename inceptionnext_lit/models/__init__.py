"""The MetaNeXt family. Importing this package registers every row of its tables as a timm model."""

from inceptionnext_lit.models.baselines import BASELINES
from inceptionnext_lit.models.hybrids import HYBRIDS
from inceptionnext_lit.models.isotropic import IsotropicMetaNeXt
from inceptionnext_lit.models.metanext import MetaNeXt, MetaNeXtBlock
from inceptionnext_lit.models.mixers import DepthwiseConv2d, InceptionDWConv2d, SelfAttention2d
from inceptionnext_lit.models.registry import Variant, check_model_name
from inceptionnext_lit.models.variants import VARIANTS, model_names

__all__ = [
    "BASELINES",
    "HYBRIDS",
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
