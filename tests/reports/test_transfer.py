"""What transfer computes: classifiers on features, compared with scikit-learn, and the features on disk."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from torchmetrics.functional.classification import multilabel_average_precision

from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.transfer import features
from inceptionnext_lit.reports.transfer.cells import Cell, Result, ResultFiles
from inceptionnext_lit.reports.transfer.dataset import TransferData, open_data
from inceptionnext_lit.reports.transfer.features import FeatureFiles, Speed, extract, pooled_features
from inceptionnext_lit.reports.transfer.figure import draw_bars
from inceptionnext_lit.reports.transfer.knn import neighbor_votes
from inceptionnext_lit.reports.transfer.linear import PENALTIES, Regression, fit_best
from inceptionnext_lit.reports.transfer.probing import Probe, ProbeOptions
from inceptionnext_lit.reports.transfer.scores import measure
from inceptionnext_lit.reports.transfer.table import csv_text, markdown
from inceptionnext_lit.tasks import ClassificationTask
from tests.small_checkpoint import save_checkpoint

CPU = torch.device("cpu")
Folder = Callable[..., Path]


def clusters(count: int, classes: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Overlapping clusters of points, one per class."""
    centers = np.random.default_rng(0).normal(size=(classes, 12))
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    return (centers[labels] + 1.5 * rng.normal(size=(count, 12))).astype(np.float32), labels


def test_nearest_neighbors_are_those_of_scikit_learn_weighted_as_in_dino() -> None:
    train, labels = clusters(300, 5, seed=1)
    test, _ = clusters(200, 5, seed=2)
    votes = neighbor_votes(train, labels, test, 5)
    theirs = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / 0.07)
    ).fit(train.astype(np.float64), labels)
    assert (votes.argmax(axis=1) == theirs.predict(test.astype(np.float64))).all()
    shares = votes / votes.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, theirs.predict_proba(test.astype(np.float64)), rtol=1e-4, atol=1e-6)


def test_votes_by_hand_and_with_fewer_images_than_neighbors() -> None:
    train = np.array([[1, 0], [0, 2], [3, 3]], dtype=np.float32)
    votes = neighbor_votes(train, np.array([0, 1, 1]), np.array([[5, 0]], dtype=np.float32), 3)
    np.testing.assert_allclose(votes, [[math.exp(1 / 0.07), math.exp(0) + math.exp(0.5**0.5 / 0.07), 0]], rtol=1e-4)
    several = np.array([[True, False, True], [False, True, False], [False, False, False]])
    votes = neighbor_votes(train, several, np.array([[5, 0]], dtype=np.float32), 3)
    np.testing.assert_allclose(votes, [[math.exp(1 / 0.07), 1, math.exp(1 / 0.07)]], rtol=1e-4)


def test_votes_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = clusters(100, 3, seed=1)
    test, _ = clusters(50, 3, seed=2)
    whole = neighbor_votes(train, labels, test, 3)
    monkeypatch.setattr("inceptionnext_lit.reports.transfer.knn._SIMILARITIES", 700)
    np.testing.assert_allclose(neighbor_votes(train, labels, test, 3), whole, rtol=1e-5)


def test_penalties_are_45_from_1e_5_to_1e_minus_6() -> None:
    assert len(PENALTIES) == 45
    assert (PENALTIES[0], PENALTIES[-1]) == (1e5, pytest.approx(1e-6))
    np.testing.assert_allclose(np.diff(np.log10(PENALTIES)), -0.25)


def test_linear_gives_scikit_learns_numbers() -> None:
    train, val, test = (clusters(count, 4, seed) for seed, count in enumerate((120, 80, 100)))
    found = fit_best("acc1", 4, train, val, test[0])
    doubles = [part[0].astype(np.float64) for part in (train, val, test)]
    model = LogisticRegression(solver="lbfgs", max_iter=1000, warm_start=True)
    scores = []
    for penalty in np.logspace(5, -6, 45):
        model.C = 1 / penalty
        scores.append(model.fit(doubles[0], train[1]).score(doubles[1], val[1]))
    best = np.logspace(5, -6, 45)[int(np.argmax(scores))]
    final = LogisticRegression(solver="lbfgs", max_iter=1000, C=1 / best)
    final.fit(np.concatenate(doubles[:2]), np.concatenate([train[1], val[1]]))
    assert found.selection == tuple(scores)
    assert found.penalty == pytest.approx(best)
    assert len(set(scores)) > 3  # the choice matters
    np.testing.assert_allclose(found.scores, final.decision_function(doubles[2]), rtol=1e-9)
    assert measure("acc1", found.scores, test[1]) == final.score(doubles[2], test[1])
    assert found.converged
    assert found.iterations == final.n_iter_[0]


def test_linear_with_several_labels_is_one_regression_per_label() -> None:
    points = [clusters(count, 4, seed)[0] for seed, count in enumerate((120, 80))]
    labels = [points[n][:, :3] + np.random.default_rng(n).normal(size=(len(points[n]), 3)) > 0.5 for n in range(2)]
    regression = Regression(3)
    regression.fit(points[0].astype(np.float64), labels[0], 0.1)
    theirs = OneVsRestClassifier(LogisticRegression(C=10, max_iter=1000)).fit(points[0].astype(np.float64), labels[0])
    ours = regression.scores(points[1].astype(np.float64))
    np.testing.assert_allclose(ours, theirs.decision_function(points[1].astype(np.float64)), rtol=1e-6)
    expected = np.mean([average_precision_score(labels[1][:, k], ours[:, k]) for k in range(3)])
    assert measure("mAP", ours, labels[1]) == pytest.approx(expected)


def test_a_class_without_training_images_is_never_chosen_and_two_classes_work() -> None:
    train, labels = clusters(60, 3, seed=0)
    chosen = labels != 1
    regression = Regression(3)
    regression.fit(train[chosen].astype(np.float64), labels[chosen], 1.0)
    scores = regression.scores(train.astype(np.float64))
    assert (scores[:, 1] == -np.inf).all()
    theirs = LogisticRegression(C=1.0, max_iter=1000).fit(train[chosen].astype(np.float64), labels[chosen])
    assert (scores.argmax(axis=1) == theirs.predict(train.astype(np.float64))).all()


def test_a_fit_that_does_not_converge_says_so() -> None:
    train, labels = clusters(60, 3, seed=0)
    assert Regression(3, max_iter=2).fit(train.astype(np.float64), labels, 1e-6) == (False, 2)
    found = fit_best("acc1", 3, (train, labels), (train, labels), train, max_iter=2)
    assert not found.converged
    assert found.unconverged > 30


def test_a_single_class_is_refused() -> None:
    train, labels = clusters(10, 1, seed=0)
    with pytest.raises(UserError, match="a single class"):
        fit_best("acc1", 1, (train, labels), (train, labels), train)


def test_metrics_are_those_of_scikit_learn_and_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 6)), rng.integers(4, size=50)
    assert measure("acc1", scores, labels) == (scores.argmax(axis=1) == labels).mean()
    kept = scores[:, :4]
    assert measure("macro_acc", kept, labels) == pytest.approx(balanced_accuracy_score(labels, kept.argmax(axis=1)))
    several = rng.random((50, 6)) < 0.3
    several[:, 5] = False  # left out, as evaluate does
    theirs = multilabel_average_precision(torch.tensor(scores[:, :5]), torch.tensor(several[:, :5]).long(), 5)
    assert measure("mAP", scores, several) == pytest.approx(theirs.item(), abs=1e-6)
    with pytest.raises(UserError, match="NaN"):
        measure("acc1", np.full((2, 2), np.nan), np.array([0, 1]))
    with pytest.raises(UserError, match="no images"):
        measure("acc1", np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    with pytest.raises(UserError, match="No image has a label"):
        measure("mAP", scores, np.zeros((50, 6), dtype=bool))


@pytest.fixture
def task(tmp_path: Path) -> ClassificationTask:
    return save_checkpoint(tmp_path / "small.ckpt", ["bag", "coat", "sandal"])


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD", 5)


def opened(root: Path, metric: Any = "acc1", **options: Any) -> TransferData:
    return open_data(root.name, ImageRoot(str(root), **options), metric)


def run(task: ClassificationTask, data: TransferData, folder: Path, precision: Any = "float32") -> Probe:
    return Probe.prepare(task, data, ProbeOptions(folder, precision, CPU, batch_size=4, num_workers=0))


@pytest.mark.usefixtures("small_shards")
def test_features_are_the_models_and_are_computed_once(
    task: ClassificationTask, make_folder: Folder, tmp_path: Path
) -> None:
    data = opened(make_folder(tmp_path / "images", {"train": 5, "test": 3}))
    probe = run(task, data, tmp_path / "cache")
    assert probe.speed is not None
    assert probe.speed.images == 24
    whole = probe.files.rows(np.arange(24))
    task.model.eval()
    assert task.preprocessing is not None
    read = eval_transform(task.preprocessing).read
    images = ToInput(task.preprocessing)(stack_pixels([read(path) for path in data.samples.paths]))
    with torch.no_grad():
        expected = task.model.forward_head(task.model.forward_features(images), pre_logits=True)
        np.testing.assert_allclose(whole, expected.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(task.model.head(torch.from_numpy(whole)), task.model(images), rtol=1e-3, atol=1e-4)
    order = np.array([23, 0, 7, 7])
    assert (probe.files.rows(order) == whole[order]).all()
    assert run(task, data, tmp_path / "cache").speed is None

    (probe.files.folder / "00001.npy").unlink()  # as after a kill
    (probe.files.folder / ".00001.npy.abc.partial").write_bytes(b"half")
    again = run(task, data, tmp_path / "cache")
    assert again.speed is not None
    assert again.speed.images == 5
    np.testing.assert_allclose(again.files.rows(np.arange(24)), whole, rtol=1e-5, atol=1e-6)


def test_features_depend_on_weights_files_preprocessing_and_precision(
    task: ClassificationTask, make_folder: Folder, tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "images", {"train": 2, "test": 1})
    folders = [run(task, opened(root), tmp_path / "cache").files.folder]
    folders.append(run(task, opened(root), tmp_path / "cache", "float16").files.folder)
    with torch.no_grad():
        task.model.head.bias.add_(1)
    assert run(task, opened(root), tmp_path / "cache").files.folder == folders[0]  # features do not depend on it
    with torch.no_grad():
        task.model.norm.bias.add_(1)
    folders.append(run(task, opened(root), tmp_path / "cache").files.folder)
    assert task.preprocessing is not None
    task.preprocessing["crop_pct"] = 0.9
    folders.append(run(task, opened(root), tmp_path / "cache").files.folder)
    image = next((root / "train/bag").iterdir())
    Image.open(image).rotate(90).save(image)
    folders.append(run(task, opened(root), tmp_path / "cache").files.folder)
    assert len(set(folders)) == 5
    moved = shutil.copytree(root, tmp_path / "elsewhere/images")  # with the times of the files
    assert run(task, opened(moved), tmp_path / "cache").speed is None


@pytest.mark.usefixtures("small_shards")
def test_images_that_cannot_be_read_are_left_out_and_counted(
    task: ClassificationTask, make_folder: Folder, tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "images", {"train": 8, "test": 4})
    for path in [*sorted((root / "train/bag").iterdir())[:2], next((root / "test/coat").iterdir())]:
        path.write_bytes(b"no image")
    probe = run(task, opened(root), tmp_path / "cache")
    assert len(probe.unreadable) == 3
    result = probe.knn()
    assert result.details == {"train_images": 22, "test_images": 11}
    assert result.notes == [
        "2 training images could not be read and left out",
        "1 of 12 test images could not be read and left out of the metric",
    ]
    assert run(task, opened(root), tmp_path / "cache").knn().value == result.value
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="None of the images can be read for this model"):
        run(task, opened(root), tmp_path / "cache")


def test_features_that_are_not_finite_are_refused(
    task: ClassificationTask, make_folder: Folder, tmp_path: Path
) -> None:
    data = opened(make_folder(tmp_path / "images", {"train": 3, "test": 2}))
    task.model.norm.weight.data.fill_(1e6)
    assert run(task, data, tmp_path / "cache").knn().value >= 0
    with pytest.raises(UserError, match=r"NaN or infinite\. Use --precision float32"):
        run(task, data, tmp_path / "cache", "float16").knn()
    task.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(UserError, match="of 9 of 9 images are NaN or infinite"):
        run(task, data, tmp_path / "cache").knn()


def test_gray_transparent_and_deep_images_have_features(
    task: ClassificationTask, make_folder: Folder, tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "images", {"train": 3, "test": 2})
    for number, mode in enumerate(("L", "RGBA", "LA", "P", "CMYK")):
        suffix = "tiff" if mode == "CMYK" else "png"
        Image.new("RGB", (20 + number, 31), (90, 5, 200)).convert(mode).save(root / f"train/coat/{mode}.{suffix}")
    probe = run(task, opened(root), tmp_path / "cache")
    assert probe.unreadable == {}
    assert np.isfinite(probe.files.rows(probe.data.train)).all()


def test_a_damaged_file_is_named(task: ClassificationTask, make_folder: Folder, tmp_path: Path) -> None:
    probe = run(task, opened(make_folder(tmp_path / "images", {"train": 2, "test": 2})), tmp_path / "cache")
    (probe.files.folder / "00000.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"00000\.npy is damaged; delete it"):
        probe.knn()


@pytest.mark.parametrize("name", ["resnet10t", "inceptionnext_iso_micro", "inceptionnext_atto", "vit_tiny_patch16_224"])
def test_features_of_any_model_are_the_last_linear_layers_input(name: str) -> None:
    options = {"img_size": 64} if name.startswith("vit") else {}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **options).eval()
    with torch.no_grad():
        found = pooled_features(model, images := torch.rand(2, 3, 64, 64))
        last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
        torch.testing.assert_close(last(found), model(images))
        model.reset_classifier(0, "")
        with pytest.raises(UserError, match="must be pooled"):
            pooled_features(model, images)


def test_the_speed_says_what_limits_it() -> None:
    assert str(Speed(50_000, 100.0, 80.0)) == (
        "50,000 images in 100.0 s, 500 images/s, limited by reading images (waited 80% of the time for images)"
    )
    assert "limited by the model (waited 10%" in str(Speed(10, 1.0, 0.1))


def names_of(data: TransferData, indices: NDArray[np.int64]) -> set[str]:
    return {Path(data.samples.paths[index]).parent.parent.name for index in indices.tolist()}


def test_splits(make_folder: Folder, tmp_path: Path) -> None:
    data = opened(make_folder(tmp_path / "all", {"train": 10, "val": 4, "test": 3}))
    assert [len(data.train), len(data.trained_on()), len(data.test)] == [30, 42, 9]
    assert not data.holds_back
    train, val = data.selection(seed=1)
    assert [names_of(data, part) for part in (train, val, data.test)] == [{"train"}, {"val"}, {"test"}]
    assert data.notes == ()

    data = opened(make_folder(tmp_path / "no_val", {"train": 10, "test": 3}))
    (first, held), (_, other) = data.selection(0), data.selection(1)
    assert [len(first), len(held)] == [24, 6]
    assert set(held) != set(other)
    assert not set(first) & set(held)
    assert data.notes == ()

    data = opened(make_folder(tmp_path / "no_test", {"train": 10, "val": 4}))
    assert names_of(data, data.test) == {"val"}
    assert names_of(data, np.concatenate(data.selection(0))) == {"train"}
    assert data.notes == (
        "no_test has no test split: it is tested on its 12 validation images, and settings are chosen on images held "
        "back from training",
    )

    data = opened(make_folder(tmp_path / "flat", {".": 10}))
    assert [len(data.train), len(data.test)] == [24, 6]
    again = opened(tmp_path / "flat")
    assert [data.samples.paths[i] for i in data.test] == [again.samples.paths[i] for i in again.test]
    assert data.notes == (
        "flat has no test split: it is tested on 6 images held back from training, the same for all seeds",
    )
    for seed in range(3):
        assert not set(np.concatenate(data.selection(seed))) & set(data.test)


def test_classes_with_a_single_image_are_not_held_back(make_folder: Folder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"train": 5, "test": 2})
    for path in sorted((root / "train/coat").iterdir())[1:]:
        path.unlink()
    data = opened(root)
    train, val = data.selection(0)
    coat = data.class_names.index("coat")
    assert (data.targets(train) == coat).sum() == 1
    assert coat not in data.targets(val)
    for name in ("bag", "sandal"):
        for path in sorted((root / "train" / name).iterdir())[1:]:
            path.unlink()
    data = opened(root)
    assert len(data.trained_on()) == 3
    with pytest.raises(UserError, match="a single training image, so none can be held back"):
        data.selection(0)


def test_a_class_in_the_test_split_only_is_refused(make_folder: Folder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"train": 3, "test": 2})
    (root / "test/coat").rename(root / "test/hat")
    with pytest.raises(UserError, match="hat"):
        opened(root)


@pytest.mark.slow
def test_several_labels(make_folder: Folder, tmp_path: Path, task: ClassificationTask) -> None:
    make_folder(tmp_path / "images", {".": 8})
    rows = ["path,label,split"]
    for number, path in enumerate(sorted((tmp_path / "images").rglob("*.png"))):
        labels = "|".join([path.parent.name, *(["new"] if number % 3 == 0 else [])])
        rows.append(f"{path},{labels},{'test' if number % 4 == 1 else 'train'}")
    table = tmp_path / "images.csv"
    table.write_text("\n".join(rows))
    data = opened(table, "mAP", multi_label=True)
    assert data.multi_label
    assert data.targets(data.test).shape == (6, 4)
    assert data.targets(data.test).dtype == bool
    probe = run(task, data, tmp_path / "cache")
    assert 0 < probe.knn().value <= 1
    assert 0 < probe.linear(0).value <= 1
    for seed in range(5):  # no label has all of its images in validation
        assert data.targets(data.selection(seed)[0]).any(axis=0).all()


def test_results_are_read_back_only_for_the_same_key(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path)
    assert files.read({"seed": 0}) is None
    files.write({"seed": 0}, Result(0.5, 1.0, {"lr": 1e-4}, ["note"]))
    assert files.read({"seed": 0}) == Result(0.5, 1.0, {"lr": 1e-4}, ["note"])
    assert files.read({"seed": 1}) is None
    [path] = (tmp_path / "cells").iterdir()
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    assert files.read({"seed": 0}) is None
    path.write_text("{")
    assert files.read({"seed": 0}) is None


def cells() -> list[Cell]:
    several = [Result(value, 1.5) for value in (0.5, 0.6, 0.7)]
    return [
        Cell("a|b", "digits", "linear", "acc1", several),
        Cell("a|b", "voc", "linear", "mAP", [Result(0.25, 1, notes=["odd"])]),
        Cell("c", "digits", "linear", "acc1", failure="It broke."),
        Cell("c", "voc", "linear", "mAP"),
    ]


def test_table() -> None:
    text = markdown(cells(), ["digits has no test split"], seeds=3)
    assert "Percent on the test images; mean ± sample standard deviation over 3 seeds. 2 of 4 cells finished." in text
    assert "| model | digits, top-1 accuracy | voc, mAP |" in text
    assert "| a\\|b | 60.00 ± 10.00 | 25.00 [1] |" in text
    assert "| c | failed [2] | – |" in text
    assert "[1] odd.\n\n[2] It broke.\n\n- digits has no test split.\n" in text
    lines = csv_text(cells()).splitlines()
    assert lines[0] == "protocol,model,data,metric,mean,std,runs,values,seconds,failure,notes"
    assert lines[1].startswith("linear,a|b,digits,acc1,0.6,0.0")
    assert lines[2] == "linear,a|b,voc,mAP,0.25,,1,0.25,1,,odd"
    assert lines[3] == "linear,c,digits,acc1,,,0,,0,It broke.,"


def test_bars(tmp_path: Path) -> None:
    draw_bars(cells(), tmp_path / "table.svg")
    draw_bars(cells(), tmp_path / "table.png")
    svg = (tmp_path / "table.svg").read_text()
    for text in (">a|b<", ">linear<", ">digits<", ">mAP<", ">percent<"):
        assert text in svg, text
    with Image.open(tmp_path / "table.png") as image:
        assert image.size[0] >= 500


def test_features_need_preprocessing(tmp_path: Path) -> None:
    task = ClassificationTask("inceptionnext_iso_micro")
    files = FeatureFiles(tmp_path, 1, "float32")
    with pytest.raises(UserError, match="does not say how its images were prepared"):
        extract(task, PackedStrings.of(["a.png"]), files, device=CPU, batch_size=1, num_workers=0)
