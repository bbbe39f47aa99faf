"""Heat maps of exported files: where a window costs the class its log-odds."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.metadata import Metadata
from inceptionnext_lit.predict.exported import ExportedClassifier
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.serve.heat_map import heat_map, missing_for_heat_maps
from inceptionnext_lit.serve.occlusion import occlusion

MEAN = [0.25, 0.5, 0.75]


class Corner:
    """A model that looks at the red in the left upper quarter of a center crop of 32 pixels."""

    text = None

    def __init__(self, takes: str, *, fails: bool = False) -> None:
        self.takes, self.fails, self.sizes = takes, fails, set[tuple[int, ...]]()

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        self.sizes.add(images.shape[1:])
        if self.takes == "pixels":
            red = images[..., 0] / np.float64(255)
        else:
            red = images[:, 0].astype(np.float64) * 0.25 + MEAN[0]
        top, left = (red.shape[1] - 32) // 2, (red.shape[2] - 32) // 2
        logit = 8 * (red[:, top : top + 16, left : left + 16].mean(axis=(1, 2)) - 0.5)
        logits = np.stack([logit, np.zeros_like(logit)], axis=1)
        if self.fails:
            logits[:] = np.nan
        if self.takes == "pixels":
            logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return [logits.astype(np.float32)]


def classifier(takes: Any, dynamic: str = "", **further: Any) -> ExportedClassifier:
    preprocessing = Preprocessing(
        image_size=32, crop_pct=1.0, interpolation="bilinear", mean=MEAN, std=[0.25] * 3, crop_mode="center"
    )
    metadata = Metadata(
        "corner", ["corner", "rest"], None, False, takes, preprocessing, 1.0, None, ["out"], frozenset(dynamic.split())
    )  # fmt: skip
    return ExportedClassifier("corner.onnx", opened=(Corner(takes, **further), metadata))


@pytest.mark.parametrize(("takes", "dynamic"), [("pixels", "batch size"), ("pixels", ""), ("tensor", "batch")])
def test_the_map_is_where_the_model_looks(takes: str, dynamic: str) -> None:
    model = classifier(takes, dynamic)
    pixels, heat = occlusion(model, Image.new("RGB", (320, 640), "red"), None)
    height = 64 if "size" in dynamic else 32
    assert (pixels.shape, heat.shape) == ((height, 32, 3), (height, 32))
    assert heat.max() == pytest.approx(1)
    top = (height - 32) // 2
    assert heat[top + 2 : top + 10, 2:10].min() > 0.8
    reach = height // 4 + height // 16  # of a window and of the interpolation
    assert heat[top + 16 + reach :].max() == heat[:, 26:].max() == 0
    session: Any = model._session
    assert len(session.sizes) == 1


def test_the_loss_is_of_log_odds() -> None:
    model = classifier("pixels", "batch")
    image = Image.new("RGB", (32, 32), "red")
    image.paste((64, 0, 0), (0, 8, 32, 32))  # the mean's red, so that only the first eight rows matter
    _, heat = occlusion(model, image, 0)
    # Windows of 8 × 8 pixels, moved by 4: those in the first rows cover 8, 4, 0 … of the eight, and along the columns
    # 8, 8, 8, 4, 0 … of the corner's sixteen. Each part of 4 × 4 pixels has the mean of the windows over it.
    rows, columns = np.zeros(8, np.float32), np.zeros(8, np.float32)
    rows[:3], columns[:5] = [1, 0.75, 0.25], [1, 1, 1, 0.75, 0.25]
    parts = Image.fromarray(np.outer(rows, columns))
    assert heat == pytest.approx(np.asarray(parts.resize((32, 32), Image.Resampling.BILINEAR)), abs=1e-4)
    _, other = occlusion(model, image, 1)
    assert not other.any()  # nothing speaks for the other class


@pytest.mark.parametrize(("size", "shape"), [((4000, 3), (32, 96)), ((5, 3000), (96, 32)), ((60, 30), (32, 64))])
def test_of_an_oblong_picture_it_is_the_central_part(size: tuple[int, int], shape: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "blue")
    middle = [side // 2 for side in size]
    half = min(size) / 2
    image.paste(
        "red", (round(middle[0] - half), round(middle[1] - half), round(middle[0] + half), round(middle[1] + half))
    )
    pixels, heat = occlusion(classifier("pixels", "batch size"), image, 0)
    assert pixels.shape == (*shape, 3)
    corner = [(side - 32) // 2 for side in shape]
    assert heat[corner[0] + 4 : corner[0] + 12, corner[1] + 4 : corner[1] + 12].min() > 0.4
    assert pixels[shape[0] // 2, shape[1] // 2, 0] > 200


def test_outputs_that_are_not_finite() -> None:
    with pytest.raises(UserError, match=r"^The model's outputs are NaN or infinite; check the pixel values"):
        occlusion(classifier("tensor", fails=True), Image.new("RGB", (32, 32), "red"), None)


def test_heat_maps_of_exported_files_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = classifier("pixels", "batch size")
    assert missing_for_heat_maps(model) is None
    _, is_empty = heat_map(model, Image.new("RGB", (50, 40), "red"), "corner")
    assert not is_empty
    _, is_empty = heat_map(model, Image.new("RGB", (50, 40), "red"), "rest")
    assert is_empty
