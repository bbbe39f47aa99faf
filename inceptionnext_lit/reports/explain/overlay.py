"""Draw a heat map over a picture, with numpy alone."""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]  # (H, W, 3), in [0, 1]
Heat = NDArray[np.float32]  # (H, W), in [0, 1]

# Matplotlib's "inferno" at equal distances. Its brightness rises steadily, so that it is legible in gray and to
# color-blind people.
_COLORS = np.frombuffer(
    bytes.fromhex(
        "000004 02020c 050417 0a0722 10092d 160b39 1e0c45 260c51 2f0a5b 380962 400a67 490b6a 510e6c"
        "59106e 61136e 69166e 71196e 781c6d 801f6c 88226a 902568 982766 a02a63 a82e5f b0315b b73557"
        "bf3952 c63d4d cc4248 d34743 d94d3d df5337 e45a31 e9612b ed6925 f1711f f47918 f78212 f98b0b"
        "fa9407 fb9d07 fca60c fcb014 fbba1f fac42a f8cd37 f6d746 f4e156 f2ea69 f2f27d f5f992 fcffa4"
    ),
    np.uint8,
).reshape(-1, 3)


def overlay(picture: Picture, heat: Heat, alpha: float) -> Picture:
    """Draw a heat map over a picture in gray; where the map is 0, the picture stays as it is unless alpha is 1.

    Args:
        picture: Shape (H, W, 3), in [0, 1].
        heat: Shape (H, W), in [0, 1].
        alpha: Opacity of the map where it is 1. Below that it is less, but with an alpha of 1 it is 1 everywhere.
    """
    places = np.linspace(0, 1, len(_COLORS))
    colors = np.stack([np.interp(heat, places, channel / 255) for channel in _COLORS.T], axis=2)  # (H, W, 3)
    opacity = alpha * heat[:, :, None] ** (2 * (1 - alpha))
    blended: Picture = ((1 - opacity) * picture.mean(axis=2, keepdims=True) + opacity * colors).astype(np.float32)
    return blended
