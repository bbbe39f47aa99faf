"""Which images are used for calibration and for the accuracy check."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.int8.choosing import Chosen, choose
from inceptionnext_lit.export.int8.images import FileImages, Reader, draw, readable, training_images
from inceptionnext_lit.export.wrapper import ExportedModel
from inceptionnext_lit.tasks import ClassificationTask
from tests.small_checkpoint import save_checkpoint

CLASSES = ["bag", "coat", "sandal"]
MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ClassificationTask:
    return save_checkpoint(
        tmp_path_factory.mktemp("int8") / "best.ckpt", CLASSES, kwargs={"depth": 1, "dim": 16}
    ).requires_grad_(False)


def chosen(task: ClassificationTask, folder: object, check: object = None, number: int = 300) -> Chosen:
    model = ExportedModel(task, "pixels")
    return choose(task, model, str(folder), number, None if check is None else str(check), sizes=True)


def test_drawing_has_a_fixed_seed() -> None:
    paths = [f"{number:03}" for number in range(100)]
    found = draw(paths, 10)
    assert found == draw(paths, 10) == sorted(set(found))
    assert found != paths[:10]
    assert draw(paths, 100) == paths


def test_splits(task: ClassificationTask, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train": 30, "val": 20})
    found = chosen(task, root, number=60)
    assert len(found.calibration) == 60
    assert {Path(path).parts[-3] for path in found.calibration.paths} == {"train"}
    assert {Path(path).parts[-3] for path in found.check.paths} == {"val"}
    assert found.truth.present is not None
    names = [CLASSES[row.argmax()] for row in found.truth.present]
    assert names == [Path(path).parent.name for path in found.check.paths]
    assert found.notes == ()


def test_the_calibration_folder_without_other_images(
    task: ClassificationTask, make_folder: MakeFolder, tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data", {".": 20})
    for check in (None, root, root / "coat"):
        found = chosen(task, root, check)
        number = 60 if check != root / "coat" else 20
        assert f"The check shares {number} images with the calibration, which makes it too favorable" in str(
            found.notes
        )
        assert len(found.check) == number


def test_calibration_images_are_left_out_of_the_check(
    task: ClassificationTask, make_folder: MakeFolder, tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data", {".": 90})
    link = tmp_path / "link"
    link.symlink_to(root)
    found = chosen(task, root, link, number=60)
    assert found.notes == ("60 calibration images of the same folder are left out of the check.",)
    assert len(found.check) == 210
    assert not {Path(path).resolve() for path in found.check.paths} & {
        Path(path).resolve() for path in found.calibration.paths
    }
    assert found.truth.present is not None
    names = [CLASSES[row.argmax()] for row in found.truth.present]
    assert names == [Path(path).parent.name for path in found.check.paths]


def test_doubtful_calibration_images(task: ClassificationTask, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train": 20, "val": 10})
    (root / "train" / "coat" / "broken.png").write_bytes(b"\x89PNG")
    broken = root / "val" / "coat" / "broken.jpg"
    broken.write_text("no image")
    found = chosen(task, root / "train" / "coat", root)
    notes = " ".join(found.notes)
    assert "1 image of the calibration folder" in notes
    assert "Calibrated on 20 images only; with fewer than 50" in notes
    assert f"All calibration images are from {root / 'train' / 'coat'}" in notes
    assert "1 image of the check folder" in notes
    assert found.truth.present is not None
    assert found.truth.present.shape == (30, 3)


def test_one_image(task: ClassificationTask, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "a.png")
    found = chosen(task, folder)
    assert [note.partition(";")[0].partition(",")[0] for note in found.notes] == [
        "Calibrated on 1 image only",
        "The accuracy is not measured",
        "The check shares 1 image with the calibration",
        "Checked on 1 image only",
    ]


def test_copies(task: ClassificationTask, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    for number in range(60):
        Image.new("RGB", (40, 30), "gray").save(folder / f"{number}.{'png' if number % 2 else 'bmp'}")
    assert chosen(task, folder).notes[0].startswith("Calibrated on copies of 1 image only; with fewer than 50, the")


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", "PHOTOS.ZIP"])
def test_archives(task: ClassificationTask, make_folder: MakeFolder, tmp_path: Path, name: str) -> None:
    root, archive = make_folder(tmp_path / "data", {".": 2}), tmp_path / name
    archive.write_bytes(b"PK")
    for given in ((archive,), (root, archive)):
        with pytest.raises(UserError, match=rf"{name} is an archive, not a folder of images; unpack it, and give the"):
            chosen(task, *given)
    (root / "bag" / "more.zip").write_bytes(b"PK")  # inside a folder, other files are ignored
    assert len(chosen(task, root).calibration) == 6


def test_deep_tiffs(task: ClassificationTask, tmp_path: Path) -> None:
    """16 bits per channel, gray and in color."""
    folder = tmp_path / "deep"
    folder.mkdir()
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    tifffile.imwrite(folder / "a.tif", values)
    tifffile.imwrite(folder / "b.tif", np.stack([values, values // 2, values // 4], axis=-1))
    found = chosen(task, folder)
    images = [image[0] for _, image in found.calibration.batches(1)]
    assert [image.shape for image in images] == [(32, 32, 3)] * 2
    assert images[0].dtype == np.uint8
    gray = (values / 257).round()
    np.testing.assert_allclose(images[0], np.stack([gray] * 3, axis=-1), atol=1)
    np.testing.assert_allclose(images[1], np.stack([gray, gray / 2, gray / 4], axis=-1), atol=1.5)


def test_other_channels(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Gray pictures, and arrays of five channels, as tensors."""
    root = make_folder(tmp_path / "data", {".": 2})
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    np.save(arrays / "a.npy", np.full((28, 28, 5), 128, np.uint8))
    for channels, folder, number in ((1, root, 6), (5, arrays, 1)):
        steps = {"mean": [0.4] * channels, "std": [0.2] * channels}
        other = save_checkpoint(
            tmp_path / "other.ckpt",
            CLASSES,
            kwargs={"depth": 1, "dim": 16, "in_chans": channels},
            preprocessing=steps,
        )
        model = ExportedModel(other, "tensor")
        found = choose(other, model, str(folder), 300, None, sizes=False)
        _, batch = next(iter(found.calibration.batches(16)))
        assert (batch.shape, batch.dtype) == ((number, channels, 28, 28), np.float32)
    assert batch.flat[0] == pytest.approx((128 / 255 - 0.4) / 0.2)
    assert "arrays has no class folders (1 loose image in it)." in str(found.notes)
    with pytest.raises(UserError, match=r"None of 6 images of the calibration folder .* of 5 channels"):
        choose(other, model, str(root), 300, None, sizes=False)


def test_other_labels(task: ClassificationTask, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {".": 20}, classes=("bag", "dress"))
    found = chosen(task, root)
    assert found.truth.present is None
    assert f"labels of the check are not known: {root} has labels that the model does not have: dress." in str(
        found.notes
    )
    shutil.rmtree(root / "bag")
    photos = root / "dress"
    assert chosen(task, photos, photos).truth.present is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "No images below "),
        ({"a.png": b"\x89PNG", "b.jpg": b""}, "None of 2 images of the calibration folder "),
    ],
)
def test_nothing_to_calibrate_on(
    task: ClassificationTask, tmp_path: Path, content: dict[str, bytes], message: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name, data in content.items():
        (root / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        chosen(task, root)


def test_a_folder_that_does_not_exist(task: ClassificationTask, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        chosen(task, tmp_path / "nowhere")


def test_images_are_grouped_by_size_and_kept_in_order(task: ClassificationTask, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (40 + number % 3, 30, 3), np.uint8) for number in range(100)]
    for number, one in enumerate(arrays):
        Image.fromarray(one).save(tmp_path / f"{number:03}.png")
    paths = training_images(str(tmp_path), 3)
    reader = Reader(ExportedModel(task, "pixels"), sizes=True)
    images, _ = readable(paths, reader, "test")
    found: dict[int, np.ndarray] = {}
    for places, batch in images.batches(8):
        assert 1 <= len(batch) <= 8
        found |= dict(zip(places, batch, strict=True))
    for place, one in enumerate(arrays):
        np.testing.assert_array_equal(found[place], one)
    assert images.first(10).paths == paths[::10]


def test_inputs_of_tensors_and_of_fixed_sizes(task: ClassificationTask, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    [(_, batch)] = FileImages([path], Reader(ExportedModel(task, "tensor"), sizes=False)).batches(4)
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(batch[0], expected, atol=1e-6)
    [(_, batch)] = FileImages([path], Reader(ExportedModel(task, "pixels", resizes=False), sizes=False)).batches(4)
    np.testing.assert_array_equal(batch[0], pixels)


def test_a_file_that_vanishes(task: ClassificationTask, tmp_path: Path) -> None:
    images = FileImages([str(tmp_path / "gone.png")], Reader(ExportedModel(task, "pixels"), sizes=True))
    with pytest.raises(UserError, match=r"gone\.png was changed during the export; start again\.$"):
        list(images.batches(1))
