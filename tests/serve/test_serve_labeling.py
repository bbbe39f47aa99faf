"""Images of requests are decoded and labeled like files, in groups of limited size, by a process without torch."""

import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.predict.classifier import Classifier
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.serve.frames import pack, read_frame
from inceptionnext_lit.serve.labeling import Answer, Labeler
from inceptionnext_lit.serve.worker import answer_jobs, metadata
from inceptionnext_lit.tasks import ClassificationTask
from tests.serve.fake_model import FAILS, Colors
from tests.serve.serving import half_a_picture, picture
from tests.test_imports import loaded_after


def make_classifier(channels: int, **further: Any) -> Classifier:
    """A tiny classifier with random weights whose images get clearly different probabilities."""
    torch.manual_seed(0)
    preprocessing = Preprocessing(
        image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.4] * channels, std=[0.25] * channels, **further
    )
    spec = DataSpec(["a", "b", "c"], 3, preprocessing=preprocessing)
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=spec)
    torch.nn.init.normal_(task.model.head.weight, 0, 0.7)
    return Classifier(task, torch.device("cpu"))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A picture that changes with every rotation, and with every change of its values."""
    values = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((60, 90), Image.Resampling.BICUBIC)


def write_files(photo: Image.Image, folder: Path) -> list[Path]:
    """Write a picture in many ways."""
    exif = Image.Exif()
    exif[274] = 6
    gray = np.asarray(photo.convert("L"), np.uint16) * 257
    transparent = photo.convert("RGBA")
    transparent.putalpha(photo.convert("L"))
    marked = Image.fromarray(np.where(gray > 40_000, np.uint16(0), gray))
    pictures: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("plain.png", photo, {}),
        ("rotated.jpg", photo, {"exif": exif, "quality": 95}),
        ("cmyk.jpg", photo.convert("CMYK"), {"quality": 95}),
        ("gray16.png", Image.fromarray(gray), {}),
        ("gray16.tif", Image.fromarray(gray), {"compression": "tiff_lzw"}),
        ("dark16.png", marked, {}),
        ("alpha.png", transparent, {}),
        ("palette.gif", photo.convert("P"), {"transparency": 0}),
        ("animated.webp", photo, {"save_all": True, "append_images": [photo.rotate(90)], "lossless": True}),
        ("some.bmp", photo, {}),
        ("some.avif", photo, {}),
        ("some.jp2", photo, {}),
    ]
    for name, image, options in pictures:
        image.save(folder / name, **options)
    return [folder / name for name, _, _ in pictures]


def rows(labeler: Labeler, contents: list[bytes]) -> list[Answer]:
    return [answer for images, _ in labeler.groups(contents) for answer in labeler.label(images)]


@pytest.mark.parametrize("further", [{}, {"nodata": 0.0}], ids=["plain", "nodata"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bytes_are_labeled_like_files(
    channels: int, further: dict[str, float], photo: Image.Image, tmp_path: Path
) -> None:
    classifier = make_classifier(channels, **further)
    files = write_files(photo, tmp_path)
    found = set()
    for file in files:
        [expected] = classifier.predict(file)
        [answer] = rows(Labeler(classifier, MAX_PIXELS), [file.read_bytes()])
        assert answer.row == {
            "path": None,
            "label": expected.label,
            "probability": round(expected.probability, 6),
            "top5": {name: round(value, 6) for name, value in expected.top5.items()},
        }
        found.add(answer.row["probability"])
    assert len(found) >= 6  # the files differ for the model


def test_other_channels_are_read_from_tiffs_and_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (40, 30, 5), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    np.save(tmp_path / "b.npy", values)
    np.save(tmp_path / "c.npy", np.asfortranarray(values.astype(np.float32) / 65535))
    classifier = make_classifier(5)
    labeler = Labeler(classifier, 2000)
    files = sorted(tmp_path.iterdir())
    contents = [file.read_bytes() for file in files]
    for file, answer in zip(files, rows(labeler, contents), strict=True):
        assert answer.row is not None
        assert answer.row["probability"] == round(classifier.predict(file)[0].probability, 6)

    def reason(content: bytes) -> tuple[int, str]:
        [answer] = rows(labeler, [content])
        return answer.status, answer.reason

    assert reason(contents[1][:-1])[0] == 422
    assert "the array is incomplete" in reason(contents[1][:-1])[1]
    assert reason(contents[1].replace(b"(40, 30, 5)", b"(9**9999)   "))[0] == 422
    huge = contents[1].replace(b"(40, 30, 5), }", b"(400000, 300000, 5), }")
    assert reason(huge)[0] == 422
    many = io.BytesIO()
    np.save(many, np.zeros((50, 50, 5), np.uint8))
    assert reason(many.getvalue()) == (413, "The image has 50×50 pixels; the limit is 2,000 (--max_pixels).")
    objects = io.BytesIO()
    np.save(objects, np.array([print], dtype=object))
    assert reason(objects.getvalue())[0] == 422
    numbers = io.BytesIO()
    np.save(numbers, np.full((20, 20, 5), np.nan, np.float32))
    assert "not finite" in reason(numbers.getvalue())[1]
    assert reason(picture("red"))[0] == 422
    assert reason(b"text")[0] == 415


def test_groups_have_a_limited_number_of_pixels() -> None:
    labeler = Labeler(Colors(), 1000)
    contents = [picture("red", (20, 20)), picture("red", (20, 20)), b"text", picture("red", (20, 20)), half_a_picture()]
    contents += [picture("red", (100, 100)), picture("red", (31, 32)), picture("red", (1, 1))]
    groups = list(labeler.groups(contents))
    assert [[getattr(image, "pixels", image) for image in images] for images, _ in groups] == [
        [400, 400, Answer(415, "This is not an image of a known format, such as JPEG, PNG or WebP.")],
        [
            400,
            *(
                Answer(413, f"The image has {side}×{side} pixels; the limit is 1,000 (--max_pixels).")
                for side in (64, 100)
            ),
        ],
        [992, 1],
    ]
    assert [is_last for _, is_last in groups] == [False, False, True]
    assert list(labeler.groups([b""])) == [([Answer(422, "The image is empty.")], True)]


def test_the_messages_of_the_model_s_process() -> None:
    """Jobs in, answers out, in order, until the input ends; a message that is cut off is not answered."""
    jobs = io.BytesIO()
    pictures = [picture("red"), picture("blue", (FAILS, 8)), picture("lime"), b"text"]
    for number, blocks in enumerate([pictures, [], pictures[:1]]):
        jobs.writelines(pack({"id": number, "kind": "predict"}, blocks))
    jobs.writelines(pack({"id": 3, "kind": "explain", "target": "mauve"}, pictures[:1]))
    jobs.writelines(pack({"id": 4, "kind": "predict"}, pictures)[:3])
    jobs.seek(0)
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as source, os.fdopen(theirs, "wb") as target:
        worker = threading.Thread(target=answer_jobs, args=(jobs, target, Labeler(Colors(), 1000)))
        worker.start()
        frames = [read_frame(source) for _ in range(4)]
        worker.join(20)
        assert not worker.is_alive()
    contents = [frame.content for frame in frames if frame is not None]
    assert [content["id"] for content in contents] == [0, 1, 2, 3]
    assert [answer["status"] for answer in contents[0]["answers"]] == [200, 500, 200, 415]
    assert contents[0]["answers"][2]["row"]["label"] == "green"
    assert contents[1]["answers"] == []
    assert contents[3]["answers"][0]["status"] == 422


def test_metadata_has_the_words_of_classes() -> None:
    classifier = Colors()
    classifier.class_names = ["n02123045", "own"]
    found = metadata(classifier, {"model": "/secret/folder/model.onnx", "unsure_below": None})
    assert found["model"] == "model.onnx"
    assert found["class_words"] == {"n02123045": "tabby, tabby cat"}
    labeler = Labeler(classifier, 1000)
    assert labeler._rows([Image.new("RGB", (1, 1), "red")])[0]["words"] == ""


def test_heat_maps_are_pictures(photo: Image.Image) -> None:
    labeler = Labeler(make_classifier(3), MAX_PIXELS)
    file = io.BytesIO()
    photo.save(file, "PNG")
    [([image], _)] = labeler.groups([file.getvalue()])
    answer, png = labeler.explain(image, "b")
    assert answer.row == {"empty": False}
    with Image.open(io.BytesIO(png)) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (224, 224))
    other, _ = labeler.explain(image, "d")
    assert (other.status, other.reason) == (422, "The model has no class 'd'; /metadata lists its classes.")
    broken, _ = labeler.explain(next(iter(labeler.groups([half_a_picture()])))[0][0], None)
    assert broken.status == 422


def test_the_server_and_the_model_s_process_need_no_torch() -> None:
    [loaded] = loaded_after(
        "import inceptionnext_lit.cli.commands.serve, inceptionnext_lit.serve.running, inceptionnext_lit.serve.worker"
    )
    assert {"fastapi", "uvicorn", "PIL", "numpy"} <= loaded
    assert not {"torch", "torchvision", "timm", "lightning", "matplotlib", "rich", "jsonargparse", "captum"} & loaded
