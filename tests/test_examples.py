"""Run every example."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image, ImageOps

from examples import fit_overhead
from tests.forked import run_script
from tests.recipes import REPO


def run(script: str, *words: object, cwd: Path) -> str:
    done = run_script(REPO / "examples" / script, words, cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_timm_model(tmp_path: Path) -> None:
    output = run("timm_model.py", cwd=tmp_path)
    assert "logits (2, 10)" in output
    assert "stride 32 features (1, 768, 7, 7)" in output


@pytest.mark.slow
def test_finetune_folder_then_predict_from_checkpoint(tmp_path: Path, sample: Path) -> None:
    output = run("finetune_folder.py", sample / "val", "--epochs", 8, cwd=tmp_path)
    found = re.search(r"best val/acc1 (\S+) in (\S+best\.ckpt)", output)
    assert found is not None
    assert float(found[1]) > 0.3
    images = sorted((sample / "train" / "trouser").iterdir())[:2]
    output = run("predict_from_checkpoint.py", found[2], *images, cwd=tmp_path)
    assert re.fullmatch(rf"{images[0]}: \S+ \(\d+\.\d%\)\n{images[1]}: \S+ \(\d+\.\d%\)\n", output)


def test_weights_and_cost(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("inceptionnext_iso_micro", num_classes=3).state_dict(), path)
    lines = run("weights_and_cost.py", "inceptionnext_iso_micro", path, cwd=tmp_path).splitlines()
    assert lines[0].startswith(f"{path} (the model's own names): 49 tensors loaded, 2 reinitialized (head.weight, ")
    assert lines[1] == "inceptionnext_iso_micro at 28×28: 0.11 M parameters, 0.00291 G multiply-adds"
    assert "  head: 45.2% of the parameters" in lines


@pytest.mark.slow
def test_finetune_ablation(tmp_path: Path, sample: Path, trained: Path) -> None:
    words = [trained / "checkpoints/best.ckpt", sample / "val", "--shots", 4, "--seeds", 2, "--steps", 2]
    output = run("finetune_ablation.py", *words, "--output", tmp_path / "out", cwd=tmp_path)
    with (tmp_path / "out/ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    ways = ["from scratch", "linear probe", "full", "layer decay 0.75", "LP-FT"]
    assert [(row["way"], row["seed"]) for row in rows] == [(way, seed) for way in ways for seed in "01"]
    first = [100 * float(row["acc1"]) for row in rows if row["way"] == "full"]
    assert f"| full | {sum(first) / 2:.1f} ± {abs(first[0] - first[1]) / 2:.1f} |" in output
    assert (tmp_path / "out/ablation.svg").read_text().startswith("<?xml")
    again = run("finetune_ablation.py", *words, "--output", tmp_path / "out", cwd=tmp_path)
    assert "\t" not in again  # nothing is trained twice


@pytest.mark.slow
def test_fit_overhead(tmp_path: Path) -> None:
    words = ["--model", "inceptionnext_iso_micro", "--batch_size", 2, "--image_size", 28, "--steps", 3]
    lines = run("fit_overhead.py", *words, "--rounds", 1, cwd=tmp_path).splitlines()
    found = re.fullmatch(r"round 1: bare (\S+) ms, fit (\S+) ms per step, ratio (\S+)", lines[0])
    assert found is not None
    bare, fit, ratio = map(float, found.groups())
    assert min(bare, fit) > 0
    assert ratio == pytest.approx(fit / bare, abs=0.01)
    assert not any(tmp_path.iterdir())  # each run writes into its own temporary folder


def test_fit_overhead_over_several_rounds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The order alternates; ratios are taken within a round, and medians over all rounds."""
    times = iter([("bare", 10.0), ("fit", 11.0), ("fit", 30.0), ("bare", 20.0), ("bare", 40.0), ("fit", 42.0)])

    def measure(way: str, words: list[str]) -> float:
        expected, milliseconds = next(times)
        assert (way, words) == (expected, ["--rounds", "3"])
        return milliseconds

    monkeypatch.setattr(fit_overhead, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["fit_overhead.py", "--rounds", "3"])
    fit_overhead.main()
    assert capsys.readouterr().out.splitlines() == [
        "round 1: bare 10.00 ms, fit 11.00 ms per step, ratio 1.1000",
        "round 2: bare 20.00 ms, fit 30.00 ms per step, ratio 1.5000",
        "round 3: bare 40.00 ms, fit 42.00 ms per step, ratio 1.0500",
        "median: bare 20.00 ms, fit 30.00 ms per step",
        "overhead: +10.0%, +10.00 ms per step (medians over 3 rounds)",
    ]


@pytest.mark.slow
def test_loader_speed(tmp_path: Path) -> None:
    lines = run("loader_speed.py", "--count", 4, "--rounds", 2, cwd=tmp_path).splitlines()
    assert re.fullmatch(r"4 files of \d+ kB on average", lines[0])
    for name in ("crop and flip", "RandAugment, erasing"):
        [row] = [line for line in lines if name in line]
        cells = [cell.strip() for cell in row.split("│")[1:-1]]
        rates = [int(cell) for cell in cells[1:4]]
        assert min(rates) > 20
        for ratio, other in ((cells[4], rates[0]), (cells[5], rates[1])):
            found = re.fullmatch(r"(\S+) \((\S+)–(\S+)\)", ratio)
            assert found is not None
            middle, least, most = map(float, found.groups())
            assert 0 < least <= middle <= most
            assert middle == pytest.approx(rates[2] / other, rel=0.5)
    assert any(re.search(r"on the device: \d+ µs per image on one core", line) for line in lines)


@pytest.mark.parametrize("path", sorted((REPO / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_tested(path: Path) -> None:
    assert f'"{path.name}"' in Path(__file__).read_text()


def test_own_task(tmp_path: Path) -> None:
    """The file only defines classes; tests/cli/test_own_task.py runs its command."""
    assert run("own_task.py", cwd=tmp_path) == ""


@pytest.mark.slow
def test_own_mixer(tmp_path: Path) -> None:
    """Run the commands of the page on fewer batches."""
    page = (REPO / "docs/develop/add-a-mixer.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    cuts = ["--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2", "--trainer.accelerator", "cpu"]
    printed = []
    for line in block.splitlines():
        _, script, *words = line.split()
        assert script == "examples/own_mixer.py"
        printed.append(run("own_mixer.py", *words, *([] if words[0] == "budget" else cuts), cwd=tmp_path))
    assert "shift_iso_nano" in printed[0]
    assert "Model:      shift_iso_nano, 0.45 M parameters, 0.022 G multiply-adds an image" in printed[1]
    assert re.search(r"\nval +[\d,]+  0\.", printed[2])


def commands_of(page: str) -> list[list[str]]:
    """Return the command lines of a page of docs/develop."""
    text = (REPO / "docs/develop" / page).read_text(encoding="utf-8")
    [block] = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line.split() for line in block.splitlines()]


@pytest.mark.slow
def test_own_command(tmp_path: Path, sample: Path) -> None:
    """Run the commands of the page."""
    (tmp_path / "MY_IMAGES").symlink_to(sample / "val")
    printed = []
    for _, script, *words in commands_of("add-a-command.md"):
        assert script == "examples/own_command.py"
        printed.append(run("own_command.py", *words, cwd=tmp_path))
    assert printed[0] == "sheet.png: 10 classes, up to 4 images each\n"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 64, 10 * 64)
        thumbnail = sheet.crop((64, 0, 128, 64))  # the second image of the first class
    first = min((sample / "val").iterdir())
    with Image.open(sorted(first.iterdir())[1]) as image:
        assert thumbnail.tobytes() == ImageOps.fit(image.convert("RGB"), (64, 64)).tobytes()
    assert printed[1].startswith("usage: python ")
    assert "\n  sheet          a sheet of thumbnails of a folder's classes\n" in printed[2]
    (tmp_path / "empty").mkdir()
    done = run_script(REPO / "examples/own_command.py", ["sheet", "empty", "--output", "sheet.png"], tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: empty has no class folders; choose a folder such as MY_IMAGES/train.\n"


@pytest.mark.slow
def test_own_report(tmp_path: Path) -> None:
    """Run the commands of the page."""
    printed = []
    for _, script, *words in commands_of("add-a-report.md"):
        assert script == "examples/own_report.py"
        printed.append(run("own_report.py", *words, cwd=tmp_path))
    table, text = printed
    assert table.splitlines()[:3] == [
        "Feature maps",
        "model                    stage  stride  channels  pixels",
        "inceptionnext_tiny           0       4        96   56×56",
    ]
    assert len(table.splitlines()) == 2 + 4 + 4
    assert text.splitlines() == [
        "model,stage,stride,channels,height,width,values",
        "inceptionnext_tiny,0,4,96,128,128,1572864",
        "inceptionnext_tiny,1,8,192,64,64,786432",
        "inceptionnext_tiny,2,16,384,32,32,393216",
        "inceptionnext_tiny,3,32,768,16,16,196608",
    ]


@pytest.mark.slow
def test_distillation(tmp_path: Path) -> None:
    ways = ("hard", "features")
    words = ["--ways", *ways, "--seeds", 2, "--teacher_kwargs", '{"dim": 32, "depth": 2}', "--output", tmp_path / "out"]
    small = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 2]
    small += ["--trainer.accelerator", "cpu"]
    output = run("distillation.py", *words, *small, cwd=tmp_path)
    table = [line for line in output.splitlines() if line.startswith("|")]
    assert re.fullmatch(r"\| the teacher, inceptionnext_iso_nano \| \d+\.\d \|", table[2])
    for way, line in zip(ways, table[3:], strict=True):
        files = [tmp_path / f"out/{way}_{seed}" for seed in (0, 1)]
        scores = [100 * json.loads((place / "result.json").read_text())["acc1"] for place in files]
        assert line == f"| {way} | {sum(scores) / 2:.1f} ± {abs(scores[0] - scores[1]) / 2**0.5:.1f} |"
        [config] = files[0].glob("runs/*/version_0/config.yaml")
        assert f"kind: {way}" in config.read_text()
    assert "Run folder" not in run("distillation.py", *words, *small, cwd=tmp_path)  # nothing is trained twice


@pytest.mark.slow
def test_segmentation_backbones_then_picture(tmp_path: Path) -> None:
    words = ["--models", "inceptionnext_iso_micro", "resnet10t", "--seeds", 2, "--output", tmp_path / "out"]
    small = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.check_val_every_n_epoch", 1]
    small += ["--trainer.limit_val_batches", 2, "--trainer.accelerator", "cpu"]
    output = run("segmentation_backbones.py", *words, *small, cwd=tmp_path)
    place = tmp_path / "out/resnet10t_0"
    scores = [100 * json.loads((tmp_path / f"out/resnet10t_{seed}/result.json").read_text())["mIoU"] for seed in (0, 1)]
    mean, spread = sum(scores) / 2, abs(scores[0] - scores[1]) / 2**0.5
    assert re.search(rf"^\| resnet10t \| [45]\.\d \| {mean:.1f} ± {spread:.1f} \|$", output, re.MULTILINE)
    assert "Run folder" not in run(
        "segmentation_backbones.py", *words, *small, cwd=tmp_path
    )  # nothing is trained twice
    [checkpoint] = place.glob("runs/*/version_0/checkpoints/best.ckpt")
    assert run("segmentation_picture.py", checkpoint, "scenes.webp", cwd=tmp_path) == ""
    with Image.open(tmp_path / "scenes.webp") as picture:
        assert picture.size == (10 * 100 - 4, 3 * 100 + 16)


# in a process of its own, since importing the study registers its models
COSTS = """
import sys
sys.path.insert(0, "examples")
import design_study
for group, systems in design_study.GROUPS.items():
    for system in systems:
        cost = design_study.cost(system)
        print(group, system.name, cost.params, cost.macs)
"""


@pytest.mark.slow
def test_the_budgets_of_a_group_of_the_study_are_within_two_percent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COSTS], capture_output=True, text=True, cwd=REPO, timeout=300, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 17
    first: dict[str, tuple[int, int]] = {}
    for group, _, params, macs in rows:
        base = first.setdefault(group, (int(params), int(macs)))
        assert abs(int(params) / base[0] - 1) < 0.02
        assert abs(int(macs) / base[1] - 1) < 0.02
    assert len(first) == 5


@pytest.mark.slow
def test_design_study(tmp_path: Path) -> None:
    words = ["--groups", "caformer", "--seeds", 2, "--rounds", 1, "--seconds", 0.1, "--output", tmp_path / "out"]
    fit = [
        "--trainer.max_epochs", 1, "--trainer.check_val_every_n_epoch", 1, "--trainer.limit_train_batches", 2,
        "--trainer.limit_val_batches", 1,
    ]  # fmt: skip
    tables = []
    for _ in range(2):
        done = run_script(REPO / "examples" / "design_study.py", [*words, *fit], tmp_path)
        assert done.returncode == 0, done.stderr
        tables.append([line for line in done.stdout.splitlines() if line.startswith("| caformer")])
    assert "epoch 1/1" not in done.stdout  # nothing is trained twice
    header, first, second = map(cells, tables[1])
    assert header[3:5] == ["fashion (%)", "digits (%)"]
    assert [row[0] for row in (first, second)] == ["caformer_nano", "caformer_nano_inception"]
    scores = [float(row[place].split(" ± ")[0]) for row in (first, second) for place in (3, 4)]
    assert all(0 <= score <= 60 for score in scores)
    assert [row[1:5] for row in map(cells, tables[0])] == [row[1:5] for row in map(cells, tables[1])]
    assert re.search(r"<svg", (tmp_path / "out/design_study.svg").read_text())
    results = sorted(path.parent.name for path in (tmp_path / "out").glob("*/result.json"))
    assert len(results) == 8


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
