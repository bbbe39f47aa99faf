from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit import Prediction
from inceptionnext_lit.cli import main
from tests.small_checkpoint import save_checkpoint

CLASSES = ["ant", "bee", "cat"]
SMALL = {"depth": 1, "dim": 16}
CALIBRATION = {"temperature": 1.7, "thresholds": [0.3, 0.5, 0.6]}


def assert_same(found: list[Prediction], expected: list[Prediction], tolerance: float = 1e-5) -> None:
    assert [one.label for one in found] == [one.label for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert list(one.top5) == list(other.top5)
        assert list(one.top5.values()) == pytest.approx(list(other.top5.values()), abs=tolerance)
        assert one.probability == pytest.approx(other.probability, abs=tolerance)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its ONNX file."""
    folder = tmp_path_factory.mktemp("exported")
    save_checkpoint(folder / "best.ckpt", CLASSES, kwargs=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["export", "best.ckpt", "--format", "onnx", "--output", "best.onnx", "--features", "--license", "CC0-1.0"])
    return folder


@pytest.fixture
def photos(tmp_path: Path, sample: Path) -> list[str]:
    """Pictures of many shapes and modes, which every loader must read alike."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    source = sorted((sample / "val").rglob("*.png"))[::97]
    shapes = [(28, 28), (40, 30), (91, 53), (20, 64), (28, 29), (200, 150)]
    for number, (path, size) in enumerate(zip(source, shapes, strict=False)):
        Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    picture = Image.open(folder / "1.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    alpha.save(folder / "alpha.png")
    picture.convert("CMYK").save(folder / "CMYK.JPG")
    return sorted(map(str, folder.iterdir()))


Export = Callable[..., Path]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Save a checkpoint, export it, and return the file."""

    def run(output: str, *words: str, **arguments: object) -> Path:
        monkeypatch.chdir(tmp_path)
        if not Path("best.ckpt").exists():
            save_checkpoint(tmp_path / "best.ckpt", CLASSES, **({"kwargs": SMALL} | arguments))
        main(["export", "best.ckpt", "--output", output, *words])
        return tmp_path / output

    return run
