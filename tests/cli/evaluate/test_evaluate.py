import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from inceptionnext_lit import load_classifier
from inceptionnext_lit.cli.evaluate.output_lock import holding
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.predictions_file import write_predictions
from inceptionnext_lit.reports.evaluation.reading import read_predictions
from inceptionnext_lit.reports.evaluation.table import PredictionTable
from inceptionnext_lit.reports.explain import pictures
from tests.recipes import SMALL
from tests.reports.evaluation.tables import multi_label, single_label

Cli = Callable[..., None]
FAST = ["--data.num_workers", "0", "--resamples", "100"]


@pytest.fixture(scope="session")
def checkpoint(trained: Path) -> Path:
    return trained / "checkpoints/best.ckpt"


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def refused(cli: Cli, capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    with pytest.raises(SystemExit) as caught:
        cli("evaluate", *words)
    assert caught.value.code == code
    lines = capsys.readouterr().err.splitlines()
    return lines[-1].removeprefix("error: ")


def test_the_metrics_are_validates(
    cli: Cli, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("evaluate", checkpoint, "--data.root", "sample", "--split", "val", "--output", "report", *FAST)
    printed = capsys.readouterr().out
    assert printed.startswith("Images:     1,000 images of 10 classes in ")
    found = report(tmp_path / "report")
    cli("validate", "--ckpt_path", checkpoint, "--data.root", "sample", "--data.num_workers", 0)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("val")]
    [head] = [line for line in lines if line[0] == "val"]
    averaged = next(line for line in lines if line[0] == "val_ema")
    for name, values in (("raw", head), ("ema", averaged)):
        assert values[1] == "1,000"
        ours = found["weights"][name]
        assert [f"{ours[key]['value']:.4f}" for key in ("acc1", "acc5", "macro_acc")] == values[2:5]
        assert ours["log_loss"]["value"] == pytest.approx(float(values[5]), abs=1e-4)
    assert found["predict_uses"] == "ema"
    assert found["curves"]["val/acc1"]
    assert found["cost"]["parameters"] == 59_854
    assert found["cost"]["macs"] > 1e6
    assert found["versions"]["torch"] == torch.__version__

    rows = pyarrow.parquet.read_table(tmp_path / "report/predictions.parquet").to_pylist()
    assert len(rows) == 1000
    predicted = load_classifier(checkpoint).predict([row["path"] for row in rows[:5]])
    for row, one in zip(rows, predicted, strict=False):
        assert row["predicted_label"] == one.label
        assert row[f"prob_{one.label}"] == pytest.approx(one.probability, abs=1e-5)
        assert row["true_label"] == Path(row["path"]).parent.name
        assert row["loss"] == pytest.approx(-np.log(row[f"prob_{row['true_label']}"]), abs=1e-5)


@pytest.mark.slow
def test_a_folder_that_the_run_has_not_seen(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "new", {".": 6})
    cli("evaluate", checkpoint, "--data.root", "new", *FAST, "--table", "csv")
    assert "Images:     18 images of 3 classes in new\n" in capsys.readouterr().out
    found = report(tmp_path / "report")
    assert found["data"]["classes"] | {"bag": 6, "coat": 6, "sandal": 6} == found["data"]["classes"]
    assert found["data"]["classes"]["shirt"] == 0
    with (tmp_path / "report/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    assert float(rows[0]["prob_bag"]) == np.float32(rows[0]["prob_bag"])
    assert "No val split" not in capsys.readouterr().err
    message = refused(cli, capsys, checkpoint, "--data.root", "new", "--split", "val", "--output", "r2", *FAST)
    assert message == (
        "new has no val split, and the checkpoint's run has not divided it. Leave out --split to evaluate all labeled "
        "images."
    )


@pytest.mark.slow
def test_a_folder_that_the_run_has_divided(
    cli: Cli, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "own", {".": 10})
    cli("fit", *SMALL, "--data.root", "own", "--data.batch_size", 6, "--trainer.max_epochs", 1)
    printed = capsys.readouterr().out
    [line] = [line for line in printed.splitlines() if line.startswith("Evaluate: ")]
    words = line.split("evaluate ")[1].split()
    cli("evaluate", *words, *FAST)
    assert "Images:     6 images of 3 classes in" in capsys.readouterr().out
    run = tmp_path / "runs/quickstart/version_0"
    assert report(run / "report")["data"]["splits"] == {"val": 6}
    best = run / "checkpoints/best.ckpt"
    cli("evaluate", best, best.with_name("last.ckpt"), "--data.root", "own", "--output", "all", *FAST)
    printed = capsys.readouterr().out
    assert f"{best.with_name('last.ckpt')}: The model was trained on 24 of these 30 images" in printed
    assert "30 images of 3 classes in own (24 train, 6 val)" in printed
    assert "The model was trained on 24 of these 30 images, so the metrics are too high; --split val" in printed
    assert {one["value"]: one["images"] for one in report(tmp_path / "all")["slices"] if one["column"] == "split"} == {
        "train": 24,
        "val": 6,
    }


@pytest.mark.slow
def test_labels_that_the_model_lacks(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "new", {".": 4})
    shutil.copytree(tmp_path / "new/bag", tmp_path / "new/hat")
    message = refused(cli, capsys, checkpoint, "--data.root", "new", *FAST)
    assert message.startswith("new has labels that the model does not have: hat. The model has ankle-boot, bag, coat")
    assert not (tmp_path / "report").exists()
    cli("evaluate", checkpoint, "--data.root", "new", "--common_classes", *FAST)
    printed = capsys.readouterr().out
    assert "12 images of 3 classes" in printed
    assert "4 images with other labels left out, and the model's other 7 outputs ignored" in printed
    found = report(tmp_path / "report")
    assert found["data"]["classes"] == {"bag": 4, "coat": 4, "sandal": 4}
    table = read_predictions(tmp_path / "report/predictions.parquet")
    assert table.probabilities.sum(axis=1) == pytest.approx(1)


@pytest.mark.slow
def test_unreadable_images_are_listed(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "new", {".": 4})
    (tmp_path / "new/bag/broken.jpg").write_bytes(b"no image")
    message = refused(cli, capsys, checkpoint, "--data.root", "new", *FAST)
    assert message == (
        "1 image could not be evaluated; the metrics are of the others, and report.json lists all. Add "
        "--allow_unreadable to accept that."
    )
    found = report(tmp_path / "report")
    assert found["data"]["images"] == 12
    [lost] = found["data"]["unreadable"]
    assert lost["path"].endswith("broken.jpg")
    cli("evaluate", checkpoint, "--data.root", "new", *FAST, "--allow_unreadable", "--overwrite")
    assert "broken.jpg" in (tmp_path / "report/index.html").read_text(encoding="utf-8")


def test_an_existing_report_is_kept(
    cli: Cli, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/index.html").write_text("mine")
    message = refused(cli, capsys, checkpoint, "--data.root", "sample", *FAST)
    assert message == "report already has a report; add --overwrite to replace it, or give another --output."
    assert (tmp_path / "report/index.html").read_text() == "mine"


@pytest.mark.slow
def test_two_models_are_compared(cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    make_folder(tmp_path / "new", {".": 8})
    other = checkpoint.with_name("last.ckpt")
    cli("evaluate", checkpoint, other, "--data.root", "new", *FAST)
    found = report(tmp_path / "report")
    [compared] = found["comparisons"]
    first, second = (read_predictions(tmp_path / f"report/predictions{end}.parquet") for end in ("", "_2"))
    assert list(first.paths) == list(second.paths)
    right = [table.predicted == table.labels for table in (first, second)]
    assert compared["acc1_difference"]["value"] == pytest.approx(right[1].mean() - right[0].mean())
    assert compared["mcnemar"]["only_first"] == (right[0] & ~right[1]).sum()
    assert compared["model"]["source"] == str(other)


def test_a_manifest_with_groups_and_other_columns(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    make_folder(tmp_path / "new", {".": 8})
    rows = [(path, path.parent.name) for path in sorted((tmp_path / "new").rglob("*.png"))]
    with (tmp_path / "list.csv").open("w") as file:
        file.write("path,label,group,camera,age\n")
        for place, (path, label) in enumerate(rows):
            file.write(f"{path},{label},p{place // 4},{'old' if place % 3 else 'new'},{place if place else ''}\n")
    cli("evaluate", checkpoint, "--data.root", "list.csv", *FAST)
    found = report(tmp_path / "report")
    assert found["intervals"]["unit"] == "groups"
    slices = {(one["column"], one["value"]): one["images"] for one in found["slices"]}
    assert slices["camera", "new"] == 8
    assert slices["camera", "old"] == 16
    assert slices["age", "unknown"] == 1
    assert slices["group", "p0"] == 4
    assert sum(images for (column, _), images in slices.items() if column == "age") == 24


@pytest.mark.slow
def test_temperature_is_stored_and_used(
    cli: Cli, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data.root", "sample", "--split", "val", *FAST]
    cli("evaluate", checkpoint, *words, "--save_temperature")
    assert "Written to report/best_calibrated.ckpt" in capsys.readouterr().out
    before = report(tmp_path / "report")
    temperature = before["calibration"]["temperature_scaling"]["temperature"]
    copy = tmp_path / "report/best_calibrated.ckpt"
    assert torch.load(copy, weights_only=True)["calibration"] == {"temperature": temperature, "thresholds": None}
    cli("evaluate", copy, *words, "--output", "again")
    after = report(tmp_path / "again")
    assert after["metrics"]["acc1"] == before["metrics"]["acc1"]
    assert after["model"]["temperature"] == temperature
    assert after["calibration"]["temperature_scaling"]["temperature"] == pytest.approx(1, abs=1e-3)
    table = read_predictions(tmp_path / "report/predictions.parquet").scaled(temperature)
    scaled = read_predictions(tmp_path / "again/predictions.parquet")
    assert scaled.probabilities == pytest.approx(table.probabilities, abs=1e-5)
    message = refused(cli, capsys, checkpoint, *words, "--save_temperature", copy, "--output", "third")
    assert message == f"{copy} already exists; add --overwrite to replace it, or name another file."
    message = refused(cli, capsys, checkpoint, *words, "--save_thresholds", "--output", "third")
    assert message.startswith("--save_thresholds needs a model whose images may have several labels")


@pytest.mark.slow
def test_several_labels_from_training_to_thresholds(
    cli: Cli, tmp_path: Path, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "labels.csv").open("w") as file:
        file.write("path,label,split\n")
        for split in ("train", "val"):
            for name in ("bag", "coat", "sandal"):
                for place, path in enumerate(sorted((sample / split / name).iterdir())[:12]):
                    file.write(f"{path},{name}{'|worn' if place % 3 == 0 else ''},{split}\n")
    words = ["--data.root", "labels.csv", "--data.multi_label", "true", "--data.batch_size", 6]
    cli(
        "fit",
        *SMALL,
        *words,
        "--trainer.max_epochs",
        1,
        "--data.augmentation",
        "none",
        "--checkpoint.monitor",
        "val/mAP",
    )
    best = next((tmp_path / "runs").rglob("best.ckpt"))
    cli("evaluate", best, "--split", "val", "--save_thresholds", "t.ckpt", *FAST)
    found = report(tmp_path / "report")
    assert set(found["metrics"]) == {"mAP", "f1", "micro_f1", "auroc", "subset_acc", "log_loss"}
    assert set(found["thresholds"]["values"]) == {"bag", "coat", "sandal", "worn"}
    rows = pyarrow.parquet.read_table(tmp_path / "report/predictions.parquet").to_pylist()
    assert ["bag", "worn"] in [row["true_labels"] for row in rows]
    thresholds = list(found["thresholds"]["values"].values())
    assert torch.load("t.ckpt", weights_only=True)["calibration"]["thresholds"] == thresholds
    cli("evaluate", "t.ckpt", "--split", "val", "--output", "again", *FAST)
    again = pyarrow.parquet.read_table(tmp_path / "again/predictions.parquet").to_pylist()
    cli("evaluate", best, "t.ckpt", "--split", "val", "--output", "both", *FAST)
    [compared] = report(tmp_path / "both")["comparisons"]
    first, second = (report(tmp_path / name)["metrics"]["subset_acc"]["value"] for name in ("report", "again"))
    assert compared["subset_acc_difference"]["value"] == pytest.approx(second - first)
    names = list(found["thresholds"]["values"])
    for row in again:
        expected = [name for name, limit in zip(names, thresholds, strict=True) if row[f"prob_{name}"] >= limit]
        assert row["predicted_labels"] == expected
    capsys.readouterr()


def test_tables_of_other_tools(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = single_label(60, 3)
    names = table.class_names
    with (tmp_path / "other.csv").open("w") as file:
        file.write(f"filename;target;{';'.join(names)};site\n")
        for place in range(60):
            cells = [f"{value:.6f}" for value in table.probabilities[place]]
            file.write(f"{table.paths[place]};{names[table.labels[place]]};{';'.join(cells)};{place % 2}\n")
    cli("evaluate", "--predictions", "other.csv", "--output", "report", "--resamples", 100)
    found = report(tmp_path / "report")
    assert found["metrics"]["acc1"]["value"] == (table.predicted == table.labels).mean()
    assert {one["value"] for one in found["slices"] if one["column"] == "site"} == {"0 to 1"} or found["slices"]
    assert "Images:     60 predictions for 3 classes in other.csv" in capsys.readouterr().out


def test_columns_of_classes_without_images(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,label,0,1,2,note\n7,1.0,0.2,0.7,0.1,x\n8,0,0.5,0.25,0.25,y\n9,,,,,\n")
    with pytest.raises(UserError, match="Row 4"):
        read_predictions(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("id,label,0,1,2\n7,1,0.2,0.7,0.1\n8,0,0.5,0.25,0.25\n")
    table = read_predictions(tmp_path / "t.csv")
    assert table.class_names == ["0", "1", "2"]
    assert table.labels.tolist() == [1, 0]
    assert list(table.paths) == ["7", "8"]


def test_a_table_of_pandas(tmp_path: Path) -> None:
    columns = {"label": ["a", "b"], "p_a": [0.75, 0.5], "p_b": [0.25, 0.5], "__index_level_0__": [5, 6]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = read_predictions(tmp_path / "t.parquet")
    assert table.class_names == ["a", "b"]
    assert table.probabilities == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5]]))
    assert dict(table.columns) == {}
    assert list(table.paths) == ["row 1", "row 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,prob_a,prob_b\nx.png,0.5,0.5\n", "t.csv has no column of true labels; name it true_label."),
        (
            "path,label,prob_a\nx.png,a,1\ny.png,b,0\n",
            "t.csv has no column 'prob_b' with the probability of the label 'b'; did you mean prob_a?",
        ),
        ("path,label,prob_a,prob_b\nx.png,a,80,20\n", "Row 2 of t.csv has 80 in prob_a, which is not a probability"),
        ("path,label,prob_a,prob_b\nx.png,a,0.5,0.1\n", "The probabilities in row 2 of t.csv add up to 0.6, not 1;"),
        ("path,label,prob_a,prob_b\nx.png,a,high,0.1\n", "Row 2 of t.csv has 'high' in prob_a, which is not a number."),
        ("path,label,prob_a,prob_b\n", "t.csv has no rows."),
        ("path,label,probability,top5,prob_a\nx.png,a,1,{},1\n", "t.csv is a table of predict, whose labels are pred"),
        ("path,label,prob_a,prob_b\nx.png,a,1,0\nx.png,b,0,1\n", "Rows 2 and 3 of t.csv both name x.png;"),
        ("path,label,Cat,dog\nx.png,cat,1,0\ny.png,dog,0,1\n", "t.csv has no column 'cat' with the probability of"),
    ],
)
def test_tables_that_are_not_predictions(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert refused(cli, capsys, "--predictions", "t.csv").startswith(message)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("several", [False, True])
def test_predictions_are_read_as_written(tmp_path: Path, suffix: str, several: bool) -> None:
    table: PredictionTable = multi_label(40, 3) if several else single_label(40, 3)
    names = ["a, b", 'quo"ted', "ümlaut"]
    folds = np.repeat([0, 1], 20)
    table = replace(table, class_names=names, splits=["val"] * 40, groups=[f"g{n % 5}" for n in range(40)], folds=folds)
    write_predictions(table, path := tmp_path / f"p{suffix}")
    again = read_predictions(path)
    assert again.class_names == names
    assert np.array_equal(again.labels, table.labels)
    assert again.probabilities == pytest.approx(table.probabilities, abs=1e-7)
    assert list(again.paths) == list(table.paths)
    assert (list(again.splits), list(again.groups or ())) == (list(table.splits), list(table.groups or ()))
    assert again.folds is not None
    assert again.folds.tolist() == folds.tolist()


@pytest.mark.slow
def test_weights_of_a_file(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "new", {".": 4})
    cli("convert", checkpoint, "--output", "w.safetensors")
    words = ["--model.name", "inceptionnext_iso_micro", "--model.pretrained", "w.safetensors", "--data.root", "new"]
    cli("evaluate", *words, *FAST)
    cli("evaluate", checkpoint, "--data.root", "new", *FAST, "--output", "whole")
    ours, whole = report(tmp_path / "report"), report(tmp_path / "whole")
    assert ours["metrics"] == whole["metrics"]
    capsys.readouterr()
    message = refused(cli, capsys, "--model.pretrained", "w.safetensors", "--data.root", "new", "--output", "x")
    assert message == "--model.pretrained needs the model's name as well: --model.name NAME."


def test_what_is_missing_is_said(
    cli: Cli, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(cli, capsys, "--data.root", "sample").startswith("Name what to evaluate: a checkpoint of fit")
    assert refused(cli, capsys, "none.ckpt", "--data.root", "x") == "No checkpoint at none.ckpt; check the path."
    message = refused(cli, capsys, checkpoint, "--splt", "val", code=2)
    assert message == "Unknown key '--splt'; did you mean --split?"
    Image.new("RGB", (8, 8)).save("photo.png")
    assert "photo.png" in refused(cli, capsys, "photo.png", "--data.root", "x")
    message = refused(cli, capsys, checkpoint, "--data.root", "sample", "--split", "test", *FAST)
    assert message.endswith(
        "it has train and val. Give one of them with --split, or leave it out to evaluate all labeled images."
    )


@pytest.mark.slow
def test_fit_reports_on_its_best_checkpoint(
    cli: Cli, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "own", {"train": 6, "val": 4})
    cli("fit", *SMALL, "--data.root", "own", "--data.batch_size", 6, "--trainer.max_epochs", 1, "--report")
    run = tmp_path / "runs/quickstart/version_0"
    assert report(run / "report")["data"]["splits"] == {"val": 12}
    assert "Written to runs/quickstart/version_0/report/index.html" in capsys.readouterr().out


@pytest.mark.slow
def test_mistakes_are_explained(
    cli: Cli,
    checkpoint: Path,
    tmp_path: Path,
    make_folder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_folder(tmp_path / "new", {".": 12})
    cli("evaluate", checkpoint, "--data.root", "new", *FAST, "--explain", 3)
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    mistakes = min(3, len(report(tmp_path / "report")["mistakes"]))
    assert mistakes > 0
    section = page[page.index('<section id="explanations">') : page.index('<section id="cost">')]
    assert section.count("data:image/jpeg") == mistakes
    assert "Heat maps for the predicted class, by gradcam. What speaks against it is not shown." in section
    assert "heat map: " not in section
    explain = pictures.explain
    monkeypatch.setattr(
        pictures, "explain", lambda *given: replace(explain(*given), heat=np.zeros((28, 28), "float32"))
    )
    cli("evaluate", checkpoint, "--data.root", "new", *FAST, "--explain", 3, "--overwrite")
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert page.count("heat map: no evidence") == mistakes
    capsys.readouterr()
    message = refused(cli, capsys, "--predictions", "x.csv", "--explain", 3, "--output", "x")
    assert message == "--explain needs a model; leave it out for a table of predictions."


def test_true_labels_before_predictions(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("label,target,prob_a,prob_b\na,b,0.9,0.1\nb,b,0.2,0.8\n")
    assert read_predictions(tmp_path / "t.csv").labels.tolist() == [1, 1]


def test_rounded_probabilities_and_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path;true_label;prob_a;prob_b;prob_c\nx.png;a;0,33;0,33;0,33\n")
    assert read_predictions(tmp_path / "t.csv").probabilities == pytest.approx(1 / 3)


def test_a_part_of_a_table(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = replace(single_label(40, 2), splits=["train"] * 30 + ["val"] * 10)
    write_predictions(table, tmp_path / "t.csv")
    cli("evaluate", "--predictions", "t.csv", "--split", "val", "--resamples", 100)
    assert report(tmp_path / "report")["data"]["images"] == 10
    message = refused(cli, capsys, "--predictions", "t.csv", "--split", "test", "--output", "x")
    assert message == "No row of t.csv has the split test; leave out --split."
    message = refused(cli, capsys, "--predictions", "t.csv", "--common_classes", "--output", "x")
    assert message == "--common_classes compares images and a model; leave it out for a table of predictions."
    message = refused(cli, capsys, "--predictions", "none.csv", "--output", "x")
    assert message == "No table of predictions at none.csv; check the path."


@pytest.mark.slow
def test_few_images(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "new", {".": 4})
    message = refused(cli, capsys, checkpoint, "--data.root", "new", "--save_temperature", *FAST)
    assert message.startswith("The temperature was fitted on 6 images, and --save_temperature needs 50 or more;")
    assert (tmp_path / "report/index.html").is_file()
    assert not (tmp_path / "report/best_calibrated.ckpt").exists()
    message = refused(cli, capsys, checkpoint, "--data.root", "new", "--split", "test", "--output", "x", *FAST)
    assert message.startswith("new has no test split, and the checkpoint's run has not divided it.")
    message = refused(cli, capsys, checkpoint, "--data.root", "new", "--resamples", 5, "--output", "x", code=2)
    assert message == "--resamples: '5' is not a number of 100 or more."
    cli("validate", "--ckpt_path", checkpoint, "--data.root", "new", "--data.num_workers", 0, "--output", "v.json")
    # classes without images have no recall, also if they are predicted
    recall = report(tmp_path / "report")["weights"]["ema"]["macro_acc"]["value"]
    assert json.loads((tmp_path / "v.json").read_text())["val_ema/macro_acc"] == pytest.approx(recall)


@pytest.mark.slow
def test_two_runs_do_not_write_into_one_folder_at_once(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "new", {".": 2})
    words = [checkpoint, "--data.root", "new", "--output", "a/b", *FAST]
    with holding(tmp_path / "a/b"):
        assert re.fullmatch(
            r"The run in a/b is still active in process \d+ on \S+ \(since .*\)\. Wait for it or stop it, or give "
            r"another --output\.",
            refused(cli, capsys, *words, "--overwrite"),
        )
    assert not (tmp_path / "a").exists()  # nothing was written
    refused(cli, capsys, checkpoint, "--data.root", "none", "--output", "a/b", *FAST)
    assert not (tmp_path / "a").exists()
    cli("evaluate", *words)
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == [
        "confusion.csv", "index.html", "predictions.parquet", "report.json",
    ]  # fmt: skip
