import pytest
from PIL import Image, ImageOps


@pytest.fixture
def posterize_to_0_bits_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise as Pillow 13 does; earlier releases return a black picture, which timm's transforms then train on."""
    posterize = ImageOps.posterize

    def refuse(image: Image.Image, bits: int) -> Image.Image:
        if bits < 1:
            raise ValueError("bits must be between or equal to 1 and 8")
        return posterize(image, bits)

    monkeypatch.setattr(ImageOps, "posterize", refuse)
