"""Every recipe has the numbers of the paper and of the sources in its header, repeated here independently."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from inceptionnext_lit.models.variants import VARIANTS
from tests.recipes import REPO

OVERLAYS = sorted((REPO / "configs/trainer").glob("*.yaml"))
SBATCH = REPO / "examples/train_slurm.sbatch"


class Numbers(NamedTuple):
    global_batch: float
    lr: float
    epochs: float
    warmup_epochs: float
    warmup_lr: float
    min_lr: float
    cooldown_epochs: float
    weight_decay: float
    drop_path: float
    mixup: float
    cutmix: float
    smoothing: float
    erasing: float
    magnitude: float
    ema: float | None
    image_size: float
    crop_pct: float
    repeats: float


TABLE = """
                              all warm- warm-  min cool-       drop mix- cut-              Rand                     re-
recipe          batch   lr epochs    up up lr   lr  down decay path   up  mix smooth erase  Aug    EMA size  crop peats
atto             1280 1e-3    610     5  5e-7 5e-7    10  0.05  0.1  0.2  1.0    0.1  0.10    5      -  224 0.875     1
tiny             4096 4e-3    310    20  1e-6 1e-5    10  0.05  0.1  0.8  1.0    0.1  0.25    9      -  224 0.875     1
small            4096 4e-3    310    20  1e-6 1e-5    10  0.05  0.3  0.8  1.0    0.1  0.25    9      -  224 0.875     1
base             4096 4e-3    310    20  1e-6 1e-5    10  0.05  0.4  0.8  1.0    0.1  0.25    9      -  224 0.875     1
base_384         1024 5e-5     30     0  5e-5 5e-5     0  0.05  0.7  0.0  0.0    0.1  0.25    9 0.9999  384   1.0     1
iso_s            4096 4e-3    300    50     0 1e-6     0  0.05  0.1  0.8  1.0    0.1  0.25    9 0.9999  224 0.875     1
iso_s_mlps       4096 4e-3    300    50     0 1e-6     0  0.05  0.1  0.8  1.0    0.1  0.25    9 0.9999  224 0.875     1
iso_b            4096 4e-3    300    50     0 1e-6     0  0.05  0.2  0.8  1.0    0.1  0.25    9 0.9999  224 0.875     1
convnext_iso_s   4096 4e-3    300    50     0 1e-6     0  0.05  0.1  0.8  1.0    0.1  0.25    9 0.9999  224 0.875     1
convnext_iso_b   4096 4e-3    300    50     0 1e-6     0  0.05  0.2  0.8  1.0    0.1  0.25    9 0.9999  224 0.875     1
metanext_attn_s  1024 1e-3    300     5  1e-6 1e-5     0  0.05  0.1  0.8  1.0    0.1  0.25    9      -  224 0.875     3
deit_s           1024 1e-3    300     5  1e-6 1e-5     0  0.05  0.1  0.8  1.0    0.1  0.25    9      -  224 0.875     3
deit_b           1024 1e-3    300     5  1e-6 1e-5     0  0.05  0.1  0.8  1.0    0.1  0.25    9      -  224 0.875     3
convnext_tiny    4096 4e-3    310    20  1e-6 1e-5    10  0.05  0.1  0.8  1.0    0.1  0.25    9 0.9999  224 0.875     1
tiny_ablations   4096 4e-3    310    20  1e-6 1e-5    10  0.05  0.1  0.8  1.0    0.1  0.25    9      -  224 0.875     1
tiny_mlps        4096 4e-3    310    20  1e-6 1e-5    10  0.05  0.1  0.8  1.0    0.1  0.25    9      -  224 0.875     1
"""
PAPER = {
    name: Numbers(*(None if cell == "-" else float(cell) for cell in cells))
    for name, *cells in (line.split() for line in TABLE.strip("\n").splitlines()[2:])
}
MODELS = {  # with the paper's top-1, which is in the header's first line, if there is one
    "atto": ("inceptionnext_atto", "75.3%"),
    "tiny": ("inceptionnext_tiny", "82.3%"),
    "small": ("inceptionnext_small", "83.5%"),
    "base": ("inceptionnext_base", "84.0%"),
    "base_384": ("inceptionnext_base", "85.2%"),
    "iso_s": ("inceptionnext_iso_small", "79.7%"),
    "iso_b": ("inceptionnext_iso_base", "82.1%"),
    "convnext_iso_s": ("convnext_iso_small", "79.7%"),
    "convnext_iso_b": ("convnext_iso_base", "82.0%"),
    "metanext_attn_s": ("metanext_attn_small", "3.9%"),
    "deit_s": ("deit_small_patch16_224", "79.8%"),
    "deit_b": ("deit_base_patch16_224", "81.8%"),
    "convnext_tiny": ("convnext_tiny_k5", "80.1 to 82.0%"),
    "tiny_ablations": ("inceptionnext_tiny_no_hband", "81.8 to 82.2%"),
    "tiny_mlps": ("inceptionnext_tiny_swiglu", ""),
    "iso_s_mlps": ("inceptionnext_iso_small_swiglu", ""),
}
# Published models without a recipe of their own or a place in a recipe's list, and why.
EXCEPTIONS = {
    "convnext_iso_large": "ConvNeXt's own model; the InceptionNeXt paper does not train it",
    "inceptionnext_base_384": "configs/base_384.yaml, which starts from inceptionnext_base and its weights",
}
recipes = pytest.mark.parametrize("stem", sorted(PAPER))


def read(stem: str) -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load((REPO / f"configs/{stem}.yaml").read_text())
    return recipe


def header(path: Path) -> list[str]:
    return [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]


def test_every_recipe_is_in_the_table() -> None:
    assert {path.stem for path in (REPO / "configs").glob("*.yaml")} == {*PAPER, "quickstart"}


@recipes
def test_recipe_numbers_match_the_paper(stem: str) -> None:
    recipe = read(stem)
    data, model = recipe["data"], recipe["model"]
    augmentation, schedule = data["augmentation"], model["schedule"]
    found = Numbers(
        global_batch=data["global_batch_size"],
        lr=model["lr"],
        epochs=recipe["trainer"]["max_epochs"],
        warmup_epochs=schedule["warmup_epochs"],
        warmup_lr=schedule["warmup_lr"],
        min_lr=schedule["min_lr"],
        cooldown_epochs=schedule["cooldown_epochs"],
        weight_decay=model["weight_decay"],
        drop_path=model["drop_path"],
        mixup=model["loss"]["mix"]["mixup"],
        cutmix=model["loss"]["mix"]["cutmix"],
        smoothing=model["loss"]["label_smoothing"],
        erasing=augmentation["erasing"],
        magnitude=augmentation["rand_augment_magnitude"],
        ema=model["ema_decay"],
        image_size=data["image_size"],
        crop_pct=data["input"]["crop_pct"],
        repeats=augmentation["repeats"],
    )
    assert found._asdict() == PAPER[stem]._asdict()
    assert model["name"] == MODELS[stem][0]


@recipes
def test_settings_shared_by_all_recipes(stem: str) -> None:
    recipe = read(stem)
    augmentation, model = recipe["data"]["augmentation"], recipe["model"]
    assert recipe["seed_everything"] == 0
    assert {
        key: recipe["trainer"][key] for key in recipe["trainer"] if key not in ("max_epochs", "sync_batchnorm")
    } == {
        "accelerator": "auto",
        "devices": "auto",
        "precision": "bf16-mixed",
        "gradient_clip_val": None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 50,
    }
    assert not recipe["trainer"].get("sync_batchnorm")
    of_deit = stem in ("deit_s", "deit_b", "metanext_attn_s")
    assert augmentation == {
        "scale": [0.08, 1.0],
        "ratio": [0.75, 1.3333],
        "pad_crop": 0,
        "hflip": 0.5,
        "color_jitter": 0 if stem == "atto" else 0.4,
        "rand_augment_magnitude": PAPER[stem].magnitude,
        "rand_augment_std": "uniform" if stem == "atto" else 0.5,
        "rand_augment_num_ops": 2,
        "rand_augment_increasing": True,
        "erasing": PAPER[stem].erasing,
        "interpolation": "bicubic" if of_deit or "iso" in stem else "random",
        "repeats": PAPER[stem].repeats,
    }
    assert recipe["data"]["input"] == {
        "crop_pct": PAPER[stem].crop_pct,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "exif": "ignore",
    }
    mix = model["loss"]["mix"]
    assert (model["loss"]["name"], mix["prob"], mix["switch_prob"]) == ("cross_entropy", 1.0, 0.5)
    of_authors = not of_deit and "iso" not in stem
    assert mix["order"] == ("before_erasing" if of_authors else "after_erasing")
    assert model.get("ema_warmup") == (None if PAPER[stem].ema is None else False)
    schedule = {key: model["schedule"].get(key) for key in ("unit", "warmup_overlays", "lag_epochs")}
    if stem == "base_384" or "iso" in stem:  # the former's learning rate is constant
        assert schedule == {"unit": None, "warmup_overlays": None, "lag_epochs": None}
    else:
        assert schedule == {"unit": "epoch", "warmup_overlays": True, "lag_epochs": 1 if of_deit else None}
    assert model["schedule"].get("warmup_reaches_peak", False) == ("iso" in stem)
    adamw = {"name": "adamw", "layer_decay": 1.0, "kwargs": {"betas": [0.9, 0.999], "eps": 1e-8}}
    assert model["optimizer"] == adamw
    assert model["execution"] == {"channels_last": True, "compile": False, "grad_checkpointing": False}


@recipes
def test_best_epoch_is_selected_by_the_average_if_there_is_one(stem: str) -> None:
    metric = "val/acc1" if PAPER[stem].ema is None else "val_ema/acc1"
    assert read(stem)["checkpoint"] == {"monitor": metric, "every_n_steps": None}
    assert f"({metric})" in " ".join(header(REPO / f"configs/{stem}.yaml"))


@recipes
def test_only_base_384_is_pretrained_and_has_dropout(stem: str) -> None:
    model = read(stem)["model"]
    expected = (True, {"drop_rate": 0.5}) if stem == "base_384" else (False, {})
    assert (model.get("pretrained", False), model.get("kwargs", {})) == expected


@recipes
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_global_batch_is_a_multiple_of_the_batch(stem: str, devices: int) -> None:
    data = read(stem)["data"]
    if stem == "atto" and devices == 8:  # the authors' 4 × 320; on 8 devices 160 each
        data["batch_size"] //= 2
    assert data["global_batch_size"] % (devices * data["batch_size"]) == 0


@recipes
def test_header_matches_the_batch_sizes(stem: str) -> None:
    data = read(stem)["data"]
    total, batch = data["global_batch_size"], data["batch_size"]
    text = " ".join(header(REPO / f"configs/{stem}.yaml"))
    found = re.search(
        r"Batch: +(\d+) images per step \(data\.global_batch_size\) = "
        r"([48]) devices × (\d+) \(data\.batch_size\) × (\d+) accumulated\. lr (\S+) is for (\d+)\..*?"
        r"of all nodes: (\d+) on 4, (\d+) on 2, (\d+) on 1\. That (\d+) images fit",
        text,
    )
    assert found is not None
    lr, devices = float(found[5]), int(found[2])
    assert lr == read(stem)["model"]["lr"]
    assert devices == (4 if stem == "atto" else 8)
    assert [int(found[n]) for n in (1, 3, 4, 6, 7, 8, 9, 10)] == [
        *(total, batch, total // batch // devices, total),
        *(total // batch // 4, total // batch // 2, total // batch, batch),
    ]


@recipes
def test_header_has_expected_result_and_command(stem: str) -> None:
    lines = header(REPO / f"configs/{stem}.yaml")
    where = "the authors' README" if stem == "atto" else "the paper"
    top1 = MODELS[stem][1]
    assert lines[0].endswith(f" G MACs, {top1} top-1 in {where}." if top1 else " G MACs, no published top-1.")
    assert f"Command:  python cli.py fit --config configs/{stem}.yaml --data.root IMAGENET" in lines
    assert f"after {PAPER[stem].epochs:.0f} epochs" in " ".join(lines)
    literal = " ".join(" ".join(lines).split("Literal:  ")[1].split("Command:")[0].split())
    assert "except for the precision: bf16" in literal
    assert "Not run here: it takes days on eight GPUs." in " ".join(lines)


@pytest.mark.parametrize("row", [row for row in VARIANTS if row.top1 is not None], ids=lambda row: row.name)
def test_every_published_model_has_a_recipe(row: Any) -> None:
    if row.name in EXCEPTIONS:
        return
    stems = [stem for stem, (name, _) in MODELS.items() if name == row.name and stem != "base_384"]
    listed = [
        line
        for stem in ("convnext_tiny", "tiny_ablations")
        for line in header(REPO / f"configs/{stem}.yaml")
        if line.startswith(f"{row.name} ")
    ]
    if listed:
        assert [line.split()[-1] for line in listed] == [f"{row.top1:.1f}"]
    else:
        [stem] = stems
        assert f" {row.top1:.1f}% top-1" in header(REPO / f"configs/{stem}.yaml")[0]


def test_lists_of_model_names_are_complete() -> None:
    name = re.compile(r"\w+_(tiny|iso)_\w+ ")
    listed = {
        stem: [line.split()[0] for line in header(REPO / f"configs/{stem}.yaml") if name.match(line)]
        for stem in ("convnext_tiny", "tiny_ablations", "tiny_mlps", "iso_s_mlps")
    }
    rows = [row.name for row in VARIANTS]
    assert listed["convnext_tiny"] == [row for row in rows if row.startswith("convnext_tiny_")]
    tiny = [row for row in rows if row.startswith("inceptionnext_tiny_")]
    assert listed["tiny_ablations"] + listed["tiny_mlps"] == tiny
    assert listed["iso_s_mlps"] == [row for row in rows if row.startswith("inceptionnext_iso_small_")]


def test_exceptions_have_no_recipe() -> None:
    assert EXCEPTIONS.keys() <= {row.name for row in VARIANTS} - {name for name, _ in MODELS.values()}


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlay_header(path: Path) -> None:
    lines = header(path)
    text = " ".join(lines)
    assert lines[0].startswith("Purpose: ")
    assert lines[1].startswith("Command: ")
    assert f"--config configs/trainer/{path.name}" in text
    for named in re.findall(r"--config (\S+\.yaml)", text):
        assert (REPO / named).is_file(), named


def test_overlays() -> None:
    overlays = {path.stem: yaml.safe_load(path.read_text()) for path in OVERLAYS}
    assert sorted(overlays) == ["cpu_ddp", "ddp", "debug", "fp32", "fsdp", "slurm"]
    assert overlays["ddp"] == {"trainer": {"strategy": "ddp", "accelerator": "auto", "devices": "auto", "num_nodes": 1}}
    cpu = {"strategy": "ddp", "accelerator": "cpu", "devices": 2, "num_nodes": 1, "precision": "32-true"}
    assert overlays["cpu_ddp"] == {"trainer": cpu}
    fsdp = overlays["fsdp"]["trainer"]
    sizes = fsdp["strategy"]["init_args"]
    assert sizes["data_parallel_size"] * sizes["tensor_parallel_size"] == fsdp["devices"] * fsdp["num_nodes"]
    assert overlays["fp32"] == {"trainer": {"precision": "32-true"}}
    [environment] = overlays["slurm"]["trainer"]["plugins"]
    assert environment["init_args"] == {"auto_requeue": False}
    debug = overlays["debug"]
    trainer, data = debug["trainer"], debug["data"]
    accumulated = data["global_batch_size"] // (trainer["devices"] * data["batch_size"])
    assert accumulated == trainer["limit_train_batches"] == 2  # one step
    assert debug["run_name"] == "debug"


def test_sbatch_is_valid_bash() -> None:
    done = subprocess.run(["bash", "-n", str(SBATCH)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_sbatch_requests_match_its_command() -> None:
    text = SBATCH.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    assert options["signal"] == "SIGUSR1@300"
    assert "requeue" in options
    assert options["open-mode"] == "append"
    [command] = re.findall(r"^srun (.*?) \|\|", text.replace("\\\n", " "), re.MULTILINE)
    words = shlex.split(command)
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert (given["--trainer.num_nodes"], given["--trainer.devices"]) == (options["nodes"], options["ntasks-per-node"])
    assert options["gres"] == f"gpu:{given['--trainer.devices']}"
    configs = [words[i + 1] for i, word in enumerate(words) if word == "--config"]
    assert configs == ["configs/iso_s.yaml", "configs/trainer/slurm.yaml"]
    devices = int(options["nodes"]) * int(options["ntasks-per-node"])
    data = read("iso_s")["data"]
    assert data["global_batch_size"] % (devices * data["batch_size"]) == 0


@pytest.mark.parametrize(
    ("program_exits", "requeued", "script_exits"),
    [(0, False, 0), (138, True, 0), (143, False, 143), (1, False, 1)],
    ids=["finished", "preempted", "canceled", "failed"],
)
def test_sbatch_requeues_only_preempted_jobs(
    tmp_path: Path, program_exits: int, requeued: bool, script_exits: int
) -> None:
    (tmp_path / "srun").write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > srun.txt\nexit {program_exits}\n')
    (tmp_path / "scontrol").write_text('#!/bin/bash\necho "$@" > scontrol.txt\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "IMAGENET": "/data/image net",
        "SLURM_JOB_ID": "77",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }
    done = subprocess.run(["bash", str(SBATCH)], env=environment, capture_output=True, text=True)
    assert done.returncode == script_exits, done.stderr
    words = (tmp_path / "srun.txt").read_text().splitlines()
    assert words[words.index("--data.root") + 1] == "/data/image net"
    assert words[-2:] == ["--ckpt_path", "last"]
    assert (tmp_path / "scontrol.txt").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol.txt").read_text() == "requeue 77\n"


def test_sbatch_reports_a_missing_variable(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "IMAGENET"}
    done = subprocess.run(["bash", str(SBATCH)], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "IMAGENET=/path/to/imagenet sbatch examples/train_slurm.sbatch" in done.stderr
