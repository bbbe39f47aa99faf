from collections.abc import Iterator

import pytest
from timm.layers import set_fused_attn, use_fused_attn


@pytest.fixture
def unfused() -> Iterator[None]:
    """Make timm's attention use two products and a softmax, which torch's counter supports on any device."""
    before = use_fused_attn()
    set_fused_attn(False)
    yield
    set_fused_attn(before)
