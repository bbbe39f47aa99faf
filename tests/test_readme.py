"""Every command of the README and of the pages of docs/ is run, as far as it can be here; tables are the code's."""

import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from inspect import signature
from pathlib import Path

import pytest
import timm
import torch
from lightning import Trainer
from PIL import Image

from inceptionnext_lit.cli import main
from inceptionnext_lit.cli.commands import benchmark, transfer
from inceptionnext_lit.cli.parsing.parser import known_keys
from inceptionnext_lit.cli.transfer.models import parse_models
from inceptionnext_lit.data import MaskOptions, SegmentationAugmentation, SegmentationDataModule
from inceptionnext_lit.models import BASELINES, VARIANTS, check_model_name
from tests.forked import run_code, run_script
from tests.pages import DEVELOP, DOCS, READ, blocks, commands
from tests.processes import running, wait_until
from tests.recipes import REPO
from tests.small_segmenter import save_segmenter

COMMANDS = commands(*READ)
WHOLE_REPORT = ["python", "cli.py", "budget"]  # takes a minute: tests/reports/test_budget.py runs it
OVERLAYS = [words for words in COMMANDS if any("configs/trainer" in word for word in words) and words[0] == "python"]
SMALL_SCALE = [words for words in COMMANDS if "--data.image_size" in words and words[2] == "fit"]
# hours of training; tests/test_examples.py runs the scripts
LONG = {"examples/finetune_ablation.py", "CLOTHING", "examples/design_study.py", "examples/distillation.py"}
ABLATION = [words for words in COMMANDS if LONG & set(words)]
# they need images with masks: tests/data/test_segmentation_guide.py
SCENES = commands(DOCS / "guides/segmentation-data.md")
DOCTOR, FOLDS, EXPLAIN, PREPARE, EXPORT = (
    [words for words in COMMANDS if words[2:3] == [name] and words not in SCENES]
    for name in ("doctor", "cross_validate", "explain", "prepare", "export")
)  # those of prepare need data sets: tests/prepare/test_prepare_guide.py runs them on small copies
# minutes of measurement: tests/reports/test_benchmark.py and tests/test_examples.py run them on small models
BENCHMARKS = [words for words in COMMANDS if words[2:3] == ["benchmark"]]
TIMED = [words for words in COMMANDS if words[1].endswith(("loader_speed.py", "fit_overhead.py"))]
TRANSFER = [words for words in COMMANDS if words[2:3] == ["transfer"]]
# a download; here they have a file of random weights and small data sets
PUBLISHED = [words for words in COMMANDS if words[2:3] not in (["fit"], ["export"]) and "--model.pretrained" in words]
EXPORTED = [words for words in COMMANDS if words[2:4] == ["predict", "best.onnx"]]
# they need packages of data: tests/test_scripts.py
WRITTEN = [
    words
    for words in COMMANDS
    if words[1].endswith(("make_digits.py", "make_sample.py", "make_jpegs.py", "make_photos.py", "feature_speed.py"))
]
# minutes of measurement: tests/export/test_speed_scripts.py runs them on small models
MEASURED = [words for words in COMMANDS if words[1].endswith(("cold_start.py", "cpu_speed.py", "layer_profile.py"))]
# they need ADE20K, or minutes: tests/segmentation
SEGMENTATION = [words for words in COMMANDS if any("segment" in word for word in words)]
# they need a server: tests/serve/test_serve_guide.py
SERVED = [words for words in COMMANDS if words[2:3] == ["serve"] or words[1].startswith("examples/serve/")]
ELSEWHERE = [WHOLE_REPORT, *OVERLAYS, *SMALL_SCALE, *ABLATION, *DOCTOR, *FOLDS, *EXPLAIN, *PREPARE, *BENCHMARKS, *TIMED]
ELSEWHERE += [*TRANSFER, *WRITTEN, *PUBLISHED, *EXPORT, *EXPORTED, *MEASURED, *SERVED, *SCENES, *SEGMENTATION]
PYTHON = [words for words in COMMANDS if words[0] == "python" and words not in ELSEWHERE]
FIRST_PAGE = [words for words in PYTHON if words in commands(READ[0])]

# Shorter runs: given last, so that they override; the keys that the README's command is about stay.
SHORT = ["--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2"]
SMALL_BATCHES = [*SHORT, "--data.batch_size", "8"]
SMALL_STEP = ["--data.batch_size", "4", "--data.global_batch_size", "4", "--trainer.max_steps", "1"]
SMALL_STEP += ["--trainer.devices", "1", "--model.pretrained", "false"]
NANO = ["--model.name", "inceptionnext_nano", "--data.image_size", "64"]  # recipes themselves: tests/test_configs.py
TWO = ["--data.batch_size", "2", "--trainer.devices", "2", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> Path:
    """The folder that most of these tests share."""
    return make_place(tmp_path_factory.mktemp("clone"), make_folder)


def make_place(root: Path, make_folder: Callable[..., Path]) -> Path:
    """Make a folder look like a new clone, with data under the README's names."""
    for name in ("cli.py", "configs", "examples"):
        (root / name).symlink_to(REPO / name)
    for name in ("MY_IMAGES", "FOLDER", "FLOWERS"):
        make_folder(root / name, {".": 40}, classes=("bag", "coat"))
    make_folder(root / "IMAGENET", {"train": 6, "val": 2})
    (root / "FOLDER_OR_IMAGE").symlink_to(root / "IMAGENET" / "val" / "bag")
    (root / "photo.jpg").symlink_to(next((root / "IMAGENET" / "val" / "bag").iterdir()))
    return root


def start(words: list[str], place: Path) -> str:
    """Run ``python SCRIPT …``; with an option such as ``-c``, in a new process that imports everything again."""
    if words[1].startswith("-"):
        done = subprocess.run([sys.executable, *words[1:]], cwd=place, capture_output=True, text=True, timeout=400)
    else:
        done = run_script(place / words[1], words[2:], place)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("words", BENCHMARKS, ids=shlex.join)
def test_benchmark_arguments_are_valid(words: list[str]) -> None:
    options = benchmark._parse(words[3:])
    for model in options.models:
        if not model.startswith("best."):  # a checkpoint or an exported file
            check_model_name(model)


@pytest.mark.parametrize("words", TRANSFER, ids=lambda words: words[-1])
def test_transfer_arguments_are_valid(words: list[str]) -> None:
    options, further = transfer._parse(words[3:])
    parse_models([word for word in options.models if not word.endswith(".ckpt")])
    keys = [*known_keys(ArgumentParser()), *(f"trainer.{key}" for key in signature(Trainer).parameters)]
    assert {word.removeprefix("--") for word in further[::2]} <= set(keys)


@pytest.mark.slow
def test_a_transfer_table(place: Path, trained: Path, tmp_path: Path) -> None:
    words, *_ = TRANSFER
    links = {
        "best.ckpt": trained / "checkpoints/best.ckpt",
        "cli.py": REPO / "cli.py",
        "MY_IMAGES": place / "MY_IMAGES",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    output = start([*words, "--max_iter", "5", "--num_workers", "0"], tmp_path)
    assert "[8/8] inceptionnext_iso_nano (random weights) on sample, knn: acc1 " in output
    assert "8 of 8 cells finished" in (tmp_path / "transfer/table.md").read_text()


@pytest.mark.parametrize("words", TIMED, ids=shlex.join)
def test_timing_scripts_take_these_arguments(words: list[str], place: Path) -> None:
    assert Path(words[1]).name in start([*words, "--help"], place)


def test_every_python_command_in_order(place: Path) -> None:
    """Run those of the README; a slow test runs those of the other pages after them."""
    run_in_order(FIRST_PAGE, place)


@pytest.mark.slow
def test_every_python_command_of_all_pages_in_order(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    place = make_place(tmp_path, make_folder)
    run_in_order(PYTHON, place)
    last = torch.load(place / "runs/iso_s/version_1/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    assert last["hyper_parameters"]["data_spec"]["class_names"] == ["bag", "coat"]


def check_output(words: list[str], output: str, place: Path) -> None:
    """Check what a command has printed and written."""
    written = place / words[words.index("--output") + 1] if "--output" in words else None
    command = words[2] if words[1] == "cli.py" else ""
    if command == "budget":
        assert words[3] in output
    elif command == "convert":
        assert "inceptionnext_iso_nano" in output
        assert (place / "best.safetensors").stat().st_size > 1e6
    elif command == "evaluate" and written is not None:
        assert "<h1>Evaluation of " in (written / "index.html").read_text(encoding="utf-8")
    elif command == "fit":
        assert "Checkpoint: runs/" in output
    elif written is not None:
        start = "{" if written.suffix == ".json" else "path,label,probability,top5"
        assert written.read_text(encoding="utf-8").startswith(start)


def run_in_order(commands: list[list[str]], place: Path) -> None:
    """Run commands, and check what they print and leave."""
    for words in commands:
        extra: list[str] = []
        if words[1:3] == ["cli.py", "fit"] and "--help" not in words:
            needs_little = "sample" in words or any("quickstart" in word for word in words)
            extra = SMALL_BATCHES if needs_little else [*SMALL_STEP, *NANO]
            extra = NANO if "--trainer.max_steps" in words else extra
        if words[1:3] == ["cli.py", "budget"] and "--image_size" in words:
            extra = ["--image_size", "64,256"]
        if words[1].endswith("predict_from_checkpoint.py"):
            (place / "best.ckpt").symlink_to(place / "runs/quickstart/version_0/checkpoints/best.ckpt")
        output = start([*words, *extra], place)
        check_output(words, output, place)
    last = torch.load(place / "runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["hyper_parameters"]["name"] == "inceptionnext_iso_nano"
    assert last["epoch"] == 14  # the continued run
    last = torch.load(place / "runs/iso_s/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 1
    assert last["hyper_parameters"]["data_spec"]["class_names"] == ["bag", "coat", "sandal"]


@pytest.mark.slow
def test_the_doctor(place: Path) -> None:
    [words] = DOCTOR
    output = start(words, place)
    assert "bag" in output
    assert (place / "report.html").read_text().lower().startswith("<!doctype html>")


@pytest.mark.slow
def test_five_folds(place: Path) -> None:
    [words] = FOLDS
    random = ["--model.pretrained", "false", "--model.finetuning.allow_random", "true"]
    output = start([*words, *NANO, *random, "--trainer.max_epochs", "1", *SHORT], place)
    assert "Fold 5 of 5" in output
    assert (place / "runs/small_data_cross_validation.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("words", EXPLAIN, ids=shlex.join)
def test_explanations(place: Path, trained: Path, tmp_path: Path, words: list[str]) -> None:
    links = {"best.ckpt": trained / "checkpoints/best.ckpt", "cli.py": REPO / "cli.py"}
    for name, target in (links | dict.fromkeys(("photo.jpg", "PHOTO"), (place / "photo.jpg").resolve())).items():
        (tmp_path / name).symlink_to(target)
    for checkpoint in (word for word in words if "segment" in word):
        (tmp_path / checkpoint).parent.mkdir(parents=True)
        save_segmenter(tmp_path / checkpoint, classes=["background", "bag", "coat"])
    output = start(words, tmp_path)
    assert f"Written to {words[-1]}\n" in output
    assert (tmp_path / words[-1]).stat().st_size > 5000


@pytest.mark.slow
def test_exports(place: Path, trained: Path, imagenet: Path, tmp_path: Path) -> None:
    onnx, *others = EXPORT
    [predict] = EXPORTED
    links = {"best.ckpt": trained / "checkpoints/best.ckpt", "cli.py": REPO / "cli.py"}
    links |= {name: (place / name).resolve() for name in ("photo.jpg", "MY_IMAGES")}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    save_segmenter(tmp_path / "segmenter.ckpt")
    torch.save(timm.create_model("inceptionnext_iso_micro", num_classes=2).state_dict(), tmp_path / "two_classes.pth")
    for words in (onnx, predict, *others):
        weights = tmp_path / "two_classes.pth" if "--data.class_names" in words else imagenet / "weights.pth"
        own = ["--model.name", "inceptionnext_iso_micro", "--model.pretrained", str(weights)]
        output = start([*words, *(own if "--model.name" in words else [])], tmp_path)
        assert "written to labels.csv" in output or f"Written to {words[words.index('--output') + 1]}" in output
    assert (tmp_path / "labels.csv").read_text().startswith("path,label,probability,top5\nphoto.jpg,")
    label = (tmp_path / "labels.csv").read_text().splitlines()[1].split(",")[1]
    for code in blocks("python", DOCS / "guides/export.md"):
        assert start(["python", "-c", code], tmp_path) == f"{label}\n"


@pytest.mark.slow
@pytest.mark.parametrize("words", OVERLAYS, ids=lambda words: Path(words[6]).stem)
def test_every_overlay(place: Path, words: list[str]) -> None:
    extra = [*(SHORT if "configs/quickstart.yaml" in words else NANO)]
    if "configs/trainer/debug.yaml" not in words:
        extra += [] if "configs/quickstart.yaml" in words else SMALL_STEP
    if "configs/trainer/fsdp.yaml" in words:
        extra += TWO
    assert "Checkpoint: runs/" in start([*words, *extra], place)


@pytest.mark.slow
@pytest.mark.parametrize("words", SMALL_SCALE, ids=lambda words: words[words.index("--model.name") + 1])
def test_every_run_on_small_images(place: Path, words: list[str]) -> None:
    output = start([*words, *SHORT, "--trainer.max_epochs", "1"], place)
    assert "64 a step = 64 × 1 device × 1 accumulated, lr 0.001" in output  # from the recipe, and 0.0015 for the first


@pytest.mark.slow
def test_torchrun_starts_the_ranks(place: Path) -> None:
    [words] = [words for words in COMMANDS if words[0] == "torchrun"]
    assert words[1:6] == ["--nnodes", "2", "--nproc_per_node", "8", "--rdzv_backend"]
    here = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *words[words.index("cli.py") :]]
    output = start(
        ["python", *here, *SMALL_STEP, *TWO, *NANO, "--trainer.num_nodes", "1", "--run_name", "torchrun"], place
    )
    assert "4 a step = 2 × 2 devices × 1 accumulated" in output
    assert [path.name for path in (place / "runs/torchrun").iterdir()] == ["version_0"]
    assert output.count("Checkpoint: runs/torchrun/version_0/checkpoints/") == 1


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> Path:
    """A folder with a photo, random weights, and small test sets of ImageNet's classes under the guide's names."""
    root = tmp_path_factory.mktemp("imagenet")
    (root / "cli.py").symlink_to(REPO / "cli.py")
    torch.manual_seed(0)
    torch.save(timm.create_model("inceptionnext_iso_micro").state_dict(), root / "weights.pth")
    make_folder(root, {".": 2}, classes=("bag",))
    one, other = sorted((root / "bag").iterdir())
    shutil.copy(one, root / "photo.jpg")
    names = {
        "IMAGENET/val": ["n01440764", "n01443537"],
        "imagenet-a": ["n01498041", "n01531178"],
        "imagenetv2-matched-frequency-format-val": [str(number) for number in range(1000)],
    }
    for folder, classes in names.items():
        for number, name in enumerate(classes):
            (root / folder / name).mkdir(parents=True)
            file = f"ILSVRC2012_val_{number + 2:08d}.JPEG" if folder == "IMAGENET/val" else "0.jpg"
            shutil.copy(other, root / folder / name / file)
    shutil.copy(files("timm") / "data/_info/imagenet_real_labels.json", root / "real.json")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("words", PUBLISHED, ids=shlex.join)
def test_published_weights(imagenet: Path, words: list[str]) -> None:
    output = start([*words, "--model.name", "inceptionnext_iso_micro", "--model.pretrained", "weights.pth"], imagenet)
    if words[2] == "predict":
        assert re.search(r"^photo\.jpg: n\d{8} \(.+\), probability 0\.\d{4}\n1 prediction written to ", output, re.M)
    elif words[2] == "validate":
        assert re.search(r"^val +(1,000|2)  [01]\.\d{4}  [01]\.\d{4}", output, re.MULTILINE), output
        note = {
            "imagenet-a": "only the 2 classes",
            "IMAGENET": "only the 2 classes",
            "real.json": "ReaL labels of 2 im",
        }
        assert f"Classes:    {note.get(words[-1], 'the labels 0 to 999 are taken for the indices')}" in output
    else:
        assert "Written to published/index.html\n" in output


def test_the_batch_script_exists() -> None:
    [words] = [words for words in COMMANDS if words[0] == "sbatch"]
    assert (REPO / words[-1]).read_text().startswith("#!/bin/bash\n")


@pytest.mark.slow
def test_tensorboard_shows_the_runs(place: Path, tmp_path: Path) -> None:
    [words] = [words for words in COMMANDS if words[0] == "tensorboard"]
    command = [str(Path(sys.executable).with_name("tensorboard")), *words[1:], "--port", "0"]
    log = tmp_path / "log"
    with log.open("w") as stderr, running(command, cwd=place, stderr=stderr):
        wait_until(lambda: "http://localhost" in log.read_text(), seconds=60)


def test_make_targets_match_the_readme() -> None:
    written = [words for words in COMMANDS if words[0] in ("make", "python3.11") or words[0].startswith(".venv")]
    assert [words[:2] for words in written[:2]] == [["make", "quickstart"], ["make", "test"]]
    venv, install, fit = written[2:]
    dry = subprocess.run(
        ["make", "-n", "-B", "quickstart"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    assert shlex.join(venv) in dry
    assert f'{install[0].removesuffix("pip")}python -m pip install --quiet -e ".[test]"' in dry
    assert shlex.join(fit) in dry


def test_every_command_is_covered() -> None:
    assert WHOLE_REPORT in COMMANDS
    others = {words[0] for words in COMMANDS} - {
        "python",
        "tensorboard",
        "make",
        "python3.11",
        "torchrun",
        "sbatch",
        "curl",
    }
    assert others == {".venv/bin/pip", ".venv/bin/python"}


@pytest.mark.slow
def test_python_blocks_run(place: Path, trained: Path, tmp_path: Path, imagenet: Path) -> None:
    pages = [page for page in READ if page.stem not in ("export", "python", "segment", "segmentation-data")]
    predict, create, published, explain = dict.fromkeys(blocks("python", *pages))
    output = start(["python", "-c", create + "\nprint(type(model).__name__, model.num_classes)"], place)
    assert output == "IsotropicMetaNeXt 10\n"
    (tmp_path / "best.ckpt").symlink_to(trained / "checkpoints/best.ckpt")
    (tmp_path / "photo.jpg").symlink_to(place / "photo.jpg")
    done = run_code(predict, [], tmp_path)
    assert re.fullmatch(r"\S+ 0\.\d+ \{'.*\}\n", done.stdout), done.stderr
    local = published.replace('_tiny", pretrained=True', '_iso_micro", pretrained="weights.pth"')
    done = run_code(local, [], imagenet)
    assert re.fullmatch(r"n\d{8} \D+ 0\.\d+\n", done.stdout), done.stderr
    done = run_code(explain + "\nprint(heat.shape, heat.max())", [], tmp_path)
    assert done.stdout == "(28, 28) 1.0\n", done.stderr
    (tmp_path / "best.ckpt").unlink()
    save_segmenter(tmp_path / "best.ckpt")
    [segment] = blocks("python", DOCS / "guides/segment.md")
    done = run_code(segment, [], tmp_path)
    with Image.open(tmp_path / "photo.jpg") as photo, Image.open(tmp_path / "mask.png") as mask:
        assert (mask.size, mask.mode) == (photo.size, "P")
        assert done.stdout.startswith(f"{photo.size[::-1]} 0."), done.stderr


def test_model_tables_match_the_code() -> None:
    rows, others = (
        [
            f"| `{row.name}` | {row.image_size} | {row.params_m:.2f} | {row.macs_g:#.3g} | {row.top1 or '–'} | "
            f"{'yes' if row.url else '–'} |"
            for row in table
        ]
        for table in (VARIANTS, BASELINES)
    )
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    assert "\n".join(rows) in page
    assert "\n".join(others) in page
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `\w+` \| \d+ \|.*$", readme, re.MULTILINE)
    assert len(shown) >= 10
    assert set(shown) <= set(rows)
    assert f"[All {len(rows)} models]" in readme


def test_tables_of_the_readme_are_from_the_pages() -> None:
    """What stands in the README's short tables stands in the longer ones, where the commands are."""
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    [speed] = re.findall(r"^## Speed\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE)
    benchmarks = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    figures = re.findall(r"\| ([\d,.]+)(?= \|)", speed)
    assert len(figures) == 13
    for figure in figures:
        assert re.search(rf"\| {re.escape(figure)} \|", benchmarks), figure
    [results] = re.findall(r"^## Results\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE)
    digits = (DOCS / "guides/fine-tune.md").read_text(encoding="utf-8")
    for way in re.findall(r"([\d.]+ ± [\d.]+)", results):
        assert f"| {way} |" in digits
    verdicts = Counter(row.rsplit("|", 2)[1].strip().partition(":")[0] for row in _rows_of_the_paper())
    fine = sum(count for verdict, count in verdicts.items() if verdict.startswith("ok"))
    known, unprinted = (verdicts[name] for name in ("known difference", "no paper figure"))
    assert (
        f"| {verdicts.total()} rows of parameters and MACs | {fine} round to the printed values, including all of this "
        f"family; {known} differ for a known reason, {unprinted} has no printed value |"
    ) in results


@pytest.mark.slow
def test_keys_that_pages_name_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["fit"], ["validate"], ["fit", "--config", str(REPO / "configs/segment/folder.yaml")]):
        with pytest.raises(SystemExit):
            main([*words, "--help", "all"])
    known = set(re.findall(r"--([\w.]+)", capsys.readouterr().out))
    for cls, group in (
        (SegmentationDataModule, ""),
        (MaskOptions, "masks."),
        (SegmentationAugmentation, "augmentation."),
    ):
        known |= {f"data.{group}{name}" for name in signature(cls).parameters}
    for page in [*READ, *DEVELOP, *sorted((REPO / "configs").rglob("*.yaml"))]:
        text = page.read_text(encoding="utf-8")
        # not calls, such as `trainer.fit(…)`
        named = re.findall(r"(?:--|`)((?:data|model|trainer|checkpoint)\.\w+(?:\.\w+)*)(?![\w.(])", text)
        assert {key.partition(".init_args")[0] for key in named} - known - {"data.yaml"} == set(), page  # a file


def _rows_of_the_paper() -> list[str]:
    page, _, _ = (DOCS / "paper.md").read_text(encoding="utf-8").partition("### Inception modules\n")
    return [line for line in page.splitlines() if re.match(r"\| (?!model|:--)", line)]


@pytest.mark.parametrize("page", [page for page in DEVELOP if commands(page)], ids=lambda page: page.stem)
def test_commands_for_developers_are_run_elsewhere(page: Path) -> None:
    tests = ("tests/test_examples.py", "tests/cli/test_own_task.py")
    assert any(page.name in (REPO / path).read_text(encoding="utf-8") for path in tests)


def test_targets_for_contributors_are_in_the_makefile() -> None:
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    written = commands(REPO / "CONTRIBUTING.md")
    targets = [words[1] for words in written if words[0] == "make"]
    assert targets == [
        "check",
        "test",
        "fix",
        "test-slow",
        "test-mobile",
        "test-parity",
        "test-min",
        "docs",
        "gpu-check",
    ]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert {words[0] for words in written} - {"make"} <= {".venv/bin/pip", ".venv/bin/pre-commit", ".venv/bin/python"}
