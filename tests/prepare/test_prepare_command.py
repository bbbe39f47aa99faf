"""The command line of ``prepare``, and its data sets in other commands."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.cli import main
from inceptionnext_lit.data.public import DATASETS
from inceptionnext_lit.prepare.samples import Arrays
from inceptionnext_lit.prepare.writing import write_images
from tests.prepare.builders import pixels
from tests.prepare.conftest import Build
from tests.processes import running, wait_until
from tests.recipes import REPO

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    main(["prepare", "--list"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == list(DATASETS)
    [flowers] = [row.split() for row in rows if row.startswith("flowers102")]
    assert flowers[4:9] == ["102", "1,020", "1,020", "6,149", "macro_acc"]
    main(["prepare", "pets", "--list"])
    text = capsys.readouterr().out
    assert "images    3,680 train, 3,669 test; 37 classes\n" in text
    assert "license   CC BY-SA 4.0\n" in text


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "pets"])
    assert stopped.value.code == 2
    assert "needs --output; see its --help" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["prepare", "imagenet", "--output", "out", "--subset", "ten"])
    assert "--subset: 'ten' is not K_CLASSES,N_PER_CLASS, such as 100,50." in capsys.readouterr().err


def test_several_labels_reach_the_doctor(build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = build("voc2007", tmp_path / "in")
    out = str(tmp_path / "out")
    main(["prepare", "voc2007", "--output", out, "--source", str(source)])
    text = capsys.readouterr().out
    assert f"PASCAL VOC 2007: 3 train, 1 val, 3 test images, 4 classes, in {out}\n" in text
    assert "Note: An object marked as difficult counts like any other" in text
    assert f"--data.root {out} --data.multi_label true" in text
    with pytest.raises(SystemExit):  # plain pictures are problems
        main(["doctor", out, "--workers", "1"])
    assert "person|horse" in capsys.readouterr().out


def test_tracks_are_not_divided(build: Build, tmp_path: Path) -> None:
    source = build("gtsrb", tmp_path / "in")
    main(["prepare", "gtsrb", "--output", str(tmp_path / "out"), "--source", str(source)])
    rows = (tmp_path / "out/manifest.csv").read_text().splitlines()
    assert rows[0] == "path,label,split,group"
    assert rows[1].endswith("GTSRB/Training/00000/00000_00000.ppm,00000,train,00000_00000")
    assert len({row.rpartition(",")[2] for row in rows[1:]}) == 4 + 2


def test_images_are_written_by_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.prepare.writing._ALONE", 1)
    array = pixels(600, 4, 4, 3)
    images = Arrays(["a", "b:c"], np.arange(600) % 2, lambda start, stop: array[start:stop])
    ticks: list[int] = []
    write_images(tmp_path, {"train": images}, 2, ticks.append)
    assert sum(ticks) == 600
    for index in (0, 1, 599):
        path = tmp_path / "train" / ("a", "b-c")[index % 2] / f"{index:06}.png"
        assert np.array_equal(np.asarray(Image.open(path)), array[index])


def test_digits_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_digits

    out = tmp_path / "digits"
    main(["prepare", "digits", "--output", str(out), "--num_workers", "1"])
    record = json.loads((out / "dataset.json").read_text())
    assert (record["splits"], record["num_classes"], record["root"]) == ({"train": 1438, "test": 359}, 10, ".")
    found = sorted(np.asarray(Image.open(path)).tobytes() for path in out.glob("*/7/*.png"))
    data = load_digits()
    sevens = np.rint(data.images[data.target == 7] * (255 / 16)).astype(np.uint8)
    assert found == sorted(image.tobytes() for image in sevens)


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_whole_killed_and_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gzip

    out = tmp_path / "fashion"
    words = ["prepare", "fashion-mnist", "--source", str(DEBIAN), "--output", str(out), "--num_workers", "2"]
    command = [sys.executable, str(REPO / "cli.py"), *words]
    with running(command, cwd=tmp_path) as process:
        wait_until(lambda: sum(1 for _ in out.glob("train/*/*.png")) > 3000, seconds=120)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.png")}
    assert 3000 < len(before) < 70_000
    assert not (out / "dataset.json").exists()
    main(words)
    assert "Fashion-MNIST: 60,000 train, 10,000 test images, 10 classes" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    for split, stem in (("train", "train"), ("test", "t10k")):
        stored = np.frombuffer(gzip.decompress((DEBIAN / f"{stem}-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
        stored = stored.reshape(-1, 28, 28)
        paths = sorted(out.glob(f"{split}/*/*.png"), key=lambda path: path.stem)
        assert len(paths) == len(stored)
        assert [path.stem for path in paths[:2]] == ["000000", "000001"]
        for index in range(0, len(stored), 97):
            assert np.array_equal(np.asarray(Image.open(paths[index])), stored[index])
        assert {len(list(folder.iterdir())) for folder in (out / split).iterdir()} == {len(stored) // 10}
    short = ("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2", "--trainer.max_epochs", "1")
    main(
        ["fit", "--config", "quickstart", "--data.root", str(out), *short, "--trainer.default_root_dir", str(tmp_path)]
    )
