import json
import shutil
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inceptionnext_lit
from inceptionnext_lit import Classifier, Prediction, load_classifier
from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.errors import UserError
from tests.recipes import BACKENDS


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    return load_classifier(trained / "checkpoints/best.ckpt", device="cpu")


@pytest.fixture(scope="module")
def paths(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images of many modes: 24 of the embedded ones, EXIF rotation, 16-bit, alpha, a palette, CMYK."""
    folder = tmp_path_factory.mktemp("modes")
    found = [str(path) for path in sorted((sample / "val").rglob("*.png"))[::41]]
    picture = Image.open(found[0]).convert("RGB").resize((40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    alpha.save(folder / "alpha.png")
    picture.quantize(16).save(folder / "palette.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    return found + [str(path) for path in sorted(folder.iterdir())]


def probabilities(predictions: list[Prediction]) -> list[float]:
    return [value for prediction in predictions for value in prediction.top5.values()]


def labels(predictions: list[Prediction]) -> list[list[str]]:
    return [list(prediction.top5) for prediction in predictions]


def test_agrees_with_the_command(
    classifier: Classifier, paths: list[str], trained: Path, cli: Callable[..., None], tmp_path: Path
) -> None:
    words = ["--ckpt_path", trained / "checkpoints/best.ckpt", "--output", "out.jsonl", "--data.num_workers", 0]
    cli("predict", *paths, *words, "--data.batch_size", 7)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    predictions = classifier.predict(paths)
    assert [row["path"] for row in rows] == paths
    assert [list(row["top5"]) for row in rows] == labels(predictions)
    assert [value for row in rows for value in row["top5"].values()] == pytest.approx(
        probabilities(predictions), abs=1e-6
    )
    for prediction in predictions:
        assert prediction.label == next(iter(prediction.top5))
        assert prediction.probability == prediction.top5[prediction.label] == max(prediction.top5.values())
        assert len(prediction.top5) == 5
        assert list(prediction.top5.values()) == sorted(prediction.top5.values(), reverse=True)


def test_averaged_weights_are_used(classifier: Classifier, trained: Path, paths: list[str], tmp_path: Path) -> None:
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    state = checkpoint["state_dict"]
    for key in [key for key in state if key.startswith("model.")]:
        state[key] = torch.zeros_like(state[key])
    torch.save(checkpoint, tmp_path / "averaged.ckpt")
    again = load_classifier(tmp_path / "averaged.ckpt", device="cpu")
    assert again.predict(paths) == classifier.predict(paths)
    names = {name.partition(".")[0] for name in again.task.state_dict()}
    assert names == {"model"}  # the raw weights are not kept


def test_types_of_images(classifier: Classifier, paths: list[str]) -> None:
    expected = classifier.predict(paths)
    pictures = [load_image(path) for path in paths]
    arrays = [np.asarray(picture) for picture in pictures]
    for same in (
        [Path(path) for path in paths],
        tuple(Image.open(path) for path in paths),
        pictures,
        arrays,
        [np.dstack([array, np.full_like(array[..., 0], 255)]) for array in arrays],
        [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays],
        [array[::-1, ::-1][::-1, ::-1] for array in arrays],  # of other strides
        (path for path in paths),
    ):
        assert classifier.predict(same) == expected
    gray = np.asarray(Image.open(paths[0]).convert("L"))
    assert classifier.predict(gray) == classifier.predict([np.dstack([gray] * 3)])
    transparent = np.zeros((20, 20, 4), np.uint8)  # shows the white below
    assert classifier.predict(transparent) == classifier.predict(np.full((20, 20, 3), 255, np.uint8))


def test_one_image_and_none(classifier: Classifier, paths: list[str]) -> None:
    [expected] = classifier.predict([paths[0]])
    picture = load_image(paths[0])
    for one in (paths[0], Path(paths[0]), picture, np.asarray(picture)):
        assert classifier.predict(one) == [expected]
    assert classifier.predict([]) == []


def test_batches_change_nothing_but_last_digits(classifier: Classifier, paths: list[str]) -> None:
    expected = classifier.predict(paths)
    for size in (1, 4, len(paths)):
        found = classifier.predict(paths, batch_size=size)
        assert labels(found) == labels(expected)
        assert probabilities(found) == pytest.approx(probabilities(expected), abs=1e-6)
    with pytest.raises(ValueError, match=r"^batch_size is 0; it must be 1 image or more\.$"):
        classifier.predict(paths, batch_size=0)


def test_many_threads_at_once(classifier: Classifier, paths: list[str]) -> None:
    expected = classifier.predict(paths)
    filters = list(warnings.filters)
    shared = [Image.open(path) for path in paths]  # not read yet, by whichever thread comes first
    barrier = threading.Barrier(8)

    def work(number: int) -> list[Prediction]:
        barrier.wait(30)
        return classifier.predict(shared if number % 2 else paths)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for found in pool.map(work, range(8)):
                assert found == expected
    assert list(warnings.filters) == filters
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (7, TypeError, r"^An image is a path, a PIL image, .* not a int\.$"),
        ([None], TypeError, r"^An image is a path, .* not a NoneType\.$"),
        ([b"x.png"], TypeError, r"not a bytes\.$"),
        (np.zeros((8, 8, 3)), TypeError, r"^An image as array of float64 was given; its pixels must be uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), ValueError, r"^An array of shape \(2, 8, 8, 3\) was given; one"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"^An array of shape \(3, 8, 8\) was given"),
        (np.zeros((0, 8), np.uint8), ValueError, r"^An array of shape \(0, 8\) was given"),
        (torch.zeros(3, 8, 8), TypeError, r"^An image as tensor of torch\.float32 was given; its pixels"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), ValueError, r"^A tensor of shape \(8, 8, 3\) was given; one"),
        (Image.new("F", (8, 8)), UserError, r"^The PIL image of mode F and size \(8, 8\) cannot be used: its"),
        ("gone.png", UserError, r"^Cannot read the image gone\.png: the file is missing\."),
    ],
)  # fmt: skip
def test_what_is_not_an_image(classifier: Classifier, images: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        classifier.predict(images)


def test_files_that_are_not_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No checkpoint at gone\.ckpt; check the path\."):
        load_classifier("gone.ckpt")
    (tmp_path / "text.ckpt").write_text("weights, honestly")
    with pytest.raises(UserError, match=r"text\.ckpt is not a checkpoint"):
        load_classifier(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    with pytest.raises(UserError, match=r"bare\.ckpt is a file of weights, not a checkpoint of fit; give the name of"):
        load_classifier(tmp_path / "bare.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt is a file of weights, not a checkpoint of fit; give the name of"):
        load_classifier(tmp_path / "other.ckpt")
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    del checkpoint["state_dict"]["model.stem.weight"]
    torch.save(checkpoint, tmp_path / "part.ckpt")
    with pytest.raises(UserError, match=r"The weights and arguments in .*part\.ckpt do not match each other"):
        load_classifier(tmp_path / "part.ckpt")
    with pytest.raises(UserError, match=r"^Unknown device 'gpu'; give 'cpu', or 'cuda' for a GPU\.$"):
        load_classifier(trained / "checkpoints/best.ckpt", device="gpu")


def test_attributes(classifier: Classifier, trained: Path, tmp_path: Path) -> None:
    assert classifier.class_names[:2] == ["ankle-boot", "bag"]
    assert classifier.preprocessing["image_size"] == 28
    assert classifier.device == torch.device("cpu")
    carried = shutil.copy(trained / "checkpoints/best.ckpt", tmp_path / "carried.ckpt")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert load_classifier(carried).device.type == expected
    with pytest.raises(AttributeError, match="no attribute 'load_clasifier'"):
        inceptionnext_lit.load_clasifier  # noqa: B018


@pytest.mark.gpu
def test_on_a_gpu(classifier: Classifier, trained: Path, paths: list[str]) -> None:
    found = load_classifier(trained / "checkpoints/best.ckpt", device="cuda").predict(paths)
    expected = classifier.predict(paths)
    assert [one.label for one in found] == [one.label for one in expected]
    assert [one.probability for one in found] == pytest.approx([one.probability for one in expected], abs=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_it_says_the_same(
    classifier: Classifier, paths: list[str], trained: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.compiler.reset()
    compiled = load_classifier(trained / "checkpoints/best.ckpt", device="cpu", compiles=True)
    ours, theirs = compiled.predict(paths, batch_size=5), classifier.predict(paths, batch_size=5)
    assert labels(ours) == labels(theirs)
    assert probabilities(ours) == pytest.approx(probabilities(theirs), abs=1e-5)
