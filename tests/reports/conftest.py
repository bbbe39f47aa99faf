from collections.abc import Iterator

import pytest
from timm.layers import set_fused_attn, use_fused_attn


@pytest.fixture
def unfused() -> Iterator[None]:
    """timm's attention as two products with a softmax between them, which torch's counter sees on any device."""
    before = use_fused_attn()
    set_fused_attn(False)
    yield
    set_fused_attn(before)
