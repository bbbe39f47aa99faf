"""Class names that jsonargparse and YAML would change or refuse, and many of them."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from inceptionnext_lit.export.safetensors import convert_checkpoint
from inceptionnext_lit.tasks.loading import load_published
from tests.small_checkpoint import save_checkpoint

Cli = Callable[..., None]
FAST = ["--data.num_workers", "0", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
LATIN = os.fsdecode(b"caf\xe9")  # a folder's name in Latin-1, not UTF-8
ODD = [LATIN, "no", "0010", "b\u00e4r: {x}", "{class_path: os.system}", "null"]


@pytest.fixture
def root(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    """A data folder whose classes have these names."""
    make_folder(tmp_path / "data", {"val": 2}, classes=("bag",))
    images = sorted((tmp_path / "data/val/bag").iterdir())
    for name in ODD:
        (tmp_path / "data/val" / name).mkdir()
        for image in images:
            (tmp_path / "data/val" / name / image.name).write_bytes(image.read_bytes())
    for image in images:
        image.unlink()
    (tmp_path / "data/val/bag").rmdir()
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize("output", ["out.jsonl", "out.csv", "out.parquet"])
def test_predict_keeps_the_names(cli: Cli, root: Path, tmp_path: Path, output: str) -> None:
    save_checkpoint(tmp_path / "x.ckpt", ODD)
    cli("predict", root, "--ckpt_path", "x.ckpt", "--output", output, "--probabilities", "all", *FAST)
    if output == "out.jsonl":
        rows = [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
        assert len(rows) == 12
        assert list(rows[0]["probabilities"]) == ODD
        assert {row["label"] for row in rows} <= set(ODD)
    elif output == "out.csv":
        header = (tmp_path / output).read_bytes().splitlines()[0]
        assert b"prob_caf\xe9,prob_no,prob_0010," in header


@pytest.mark.slow
def test_validate_and_fit_keep_the_names(cli: Cli, root: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt", ODD)
    cli("validate", "--ckpt_path", "x.ckpt", "--data.root", root, "--output", "m.json", *FAST)
    assert json.loads((tmp_path / "m.json").read_text())["images"] == 12


@pytest.mark.slow
def test_recipes_show_the_names_of_a_checkpoint(
    cli: Cli, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "x.ckpt", ODD[1:])
    with pytest.raises(SystemExit) as caught:
        cli("fit", "--ckpt_path", "x.ckpt", "--data.root", root, "--print_config")
    assert caught.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["class_names"] in (None, ODD[1:])


@pytest.mark.slow
def test_a_thousand_classes_take_no_longer(cli: Cli, tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    """jsonargparse copies a list for each of its elements, which took a minute for a thousand."""
    make_folder(tmp_path / "data", {".": 1}, classes=("bag",))
    seconds = []
    for count in (3, 3, 1000):  # the first one also imports
        save_checkpoint(tmp_path / f"{count}.ckpt", [f"class {number}" for number in range(count)])
        start = time.process_time()
        cli("predict", "data", "--ckpt_path", f"{count}.ckpt", "--output", f"{count}.csv", "--overwrite", *FAST)
        seconds.append(time.process_time() - start)
    assert seconds[2] < 3 * seconds[1] + 1


def test_a_converted_file_keeps_its_label_type(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt", ["a", "b"], multi_label=True)
    convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    task = load_published("inceptionnext_iso_micro", str(tmp_path / "x.safetensors"))
    assert task.data_spec.multi_label
    assert task.preprocessing is not None
    assert "exif" not in task.preprocessing  # as in the checkpoint
