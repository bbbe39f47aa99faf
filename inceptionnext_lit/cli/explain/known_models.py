"""The names of all models, without importing timm and torch, which takes seconds."""

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from inceptionnext_lit.wording import starting_with

# fmt: off
FAMILY = (
    "inceptionnext_atto", "inceptionnext_tiny", "inceptionnext_small", "inceptionnext_base", "inceptionnext_base_384",
    "inceptionnext_nano", "inceptionnext_iso_small", "inceptionnext_iso_base", "inceptionnext_iso_nano",
    "inceptionnext_iso_micro", "metanext_attn_small", "metanext_attn_nano", "convnext_iso_small", "convnext_iso_base",
    "convnext_iso_large", "convnext_iso_nano", "inceptionnext_tiny_no_hband", "inceptionnext_tiny_no_vband",
    "inceptionnext_tiny_no_square", "inceptionnext_tiny_sequential", "inceptionnext_tiny_band7",
    "inceptionnext_tiny_band9", "inceptionnext_tiny_band13", "inceptionnext_tiny_ratio1_4",
    "inceptionnext_tiny_ratio1_16", "inceptionnext_tiny_swiglu", "inceptionnext_tiny_convglu",
    "inceptionnext_tiny_grn", "inceptionnext_tiny_starrelu", "inceptionnext_iso_small_swiglu",
    "inceptionnext_iso_small_convglu", "inceptionnext_iso_small_grn", "inceptionnext_iso_small_starrelu",
    "convnext_tiny_k5", "convnext_tiny_k3", "convnext_tiny_k3_par1_2", "convnext_tiny_k3_par3_8",
    "convnext_tiny_k3_par1_4", "convnext_tiny_k3_par1_8", "convnext_tiny_k3_par1_16",
)
"""The names of ``models.VARIANTS``, in its order."""

BASELINES = (
    "pvt_tiny", "pvt_small", "pvt_medium", "pvt_large", "t2t_vit_14", "t2t_vit_19", "focal_tiny", "focal_small",
    "replknet_31b", "replknet_31b_384", "iformer_small", "iformer_base", "iformer_large", "googlenet",
    "googlenet_naive",
)
"""The names of ``models.BASELINES``, in its order."""

HYBRIDS = (
    "convformer_s18_inception", "caformer_s18_inception", "swin_tiny_inception", "swin_tiny_inception_stages12",
)
"""The names of ``models.HYBRIDS``, in its order."""
# fmt: on
_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
_RENAMED = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\n\}\)", re.DOTALL)
_KEY = re.compile(r"""^\s*['"]([\w.]+)['"]\s*:""", re.MULTILINE)


def is_known(name: str) -> bool:
    """Return whether timm can create a model of this name, ours or its own, with or without ``.tag``.

    Args:
        name: The name.
    """
    current, renamed = timm_models()
    return name.partition(".")[0] in {*FAMILY, *BASELINES, *HYBRIDS, *current, *renamed}


def nearest_models(name: str) -> list[str]:
    """Return up to three names that begin with a name, or else are similar to it.

    Args:
        name: What was given.
    """
    names = [*FAMILY, *BASELINES, *HYBRIDS, *timm_models()[0]]
    return starting_with(name, names) or get_close_matches(name, names, n=3)


@cache
def timm_models() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of timm's models, and former names, from its source files."""
    spec = find_spec("timm")
    files = sorted(Path(spec.origin).parent.glob("models/*.py")) if spec is not None and spec.origin else []
    texts = [file.read_text(encoding="utf-8") for file in files]
    current = frozenset(name for text in texts for name in _REGISTERED.findall(text))
    renamed = frozenset(key for text in texts for table in _RENAMED.findall(text) for key in _KEY.findall(table))
    if current:
        return current, renamed
    import timm  # its source files are elsewhere

    return frozenset(timm.list_models()), frozenset()
