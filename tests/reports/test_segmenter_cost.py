"""The commands budget and benchmark with --task segment."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from inceptionnext_lit.cli.commands import benchmark
from inceptionnext_lit.models.cost import count, count_segmenter
from inceptionnext_lit.models.pyramid import feature_maps
from inceptionnext_lit.models.segmenter import Segmenter
from inceptionnext_lit.reports.benchmark.case import OWN, Case
from inceptionnext_lit.reports.benchmark.segmenters import SIZES, pixel_loss, segmenter_macs
from inceptionnext_lit.reports.benchmark.torch_bench import Bench
from inceptionnext_lit.reports.budget.report import PAPER_DECODERS, segmenter_report, tables_of
from tests.small_segmenter import save_segmenter

Cli = Callable[..., None]
Captured = pytest.CaptureFixture[str]
MICRO, ATTO = "inceptionnext_iso_micro", "inceptionnext_atto"
QUICK = ["--batch_size", "1", "--rounds", "1", "--seconds", "0.01", "--threads", "1"]


def case(**options: Any) -> Case:
    given: dict[str, Any] = {"model": MICRO, "variant": "eager", "mode": "infer", "precision": "fp32"}
    given |= {"layout": "channels_last", "batch_size": 2, "image_size": 64, "threads": 1, "keeps_memory": False}
    return Case(**(given | {"decoder": "semantic_fpn"} | options))


def refused(cli: Cli, capsys: Captured, *words: object) -> str:
    with pytest.raises(SystemExit):
        cli(*words)
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


def test_the_paper_s_tables_of_a_task() -> None:
    assert [table.name for table in tables_of("segment")] == ["ADE20K: UperNet", "ADE20K: Semantic FPN"]
    assert len(tables_of("classify")) == 4
    assert len(tables_of(None)) == 6


@pytest.mark.slow
def test_a_row_of_the_paper() -> None:
    [(row, counted)] = segmenter_report(["inceptionnext_tiny"], ["semantic_fpn"])
    assert (row.label, row.size, row.table) == ("inceptionnext_tiny + SemanticFPN", (512, 512), "ADE20K: Semantic FPN")
    assert row.verdict.startswith("ok")
    assert set(counted.modules) == {"", "backbone", "decoder"}


def test_one_stride_is_counted_as_it_is_built() -> None:
    """On the whole model at the full size; the norms on the maps are the segmenter's, and not counted in the paper."""
    import timm

    counted = count_segmenter(MICRO, "SemanticFPN", (256, 512))
    model = Segmenter(feature_maps(timm.create_model(MICRO), MICRO), 150, "semantic_fpn", "none").eval()
    whole = count(model, torch.zeros(1, 3, 256, 512)).total
    assert counted.total.params == whole.params == sum(one.numel() for one in model.parameters())
    assert counted.total.macs == pytest.approx(whole.macs, rel=1e-3)


def test_the_command_budget(cli: Cli, capsys: Captured) -> None:
    words = ("budget", "--task", "segment", MICRO, "--decoder", "semantic_fpn", "--image_size", "256,512")
    cli(*words, "--format", "json", "--against", ATTO)
    [record] = json.loads(capsys.readouterr().out)
    assert (record["model"], record["image_size"]) == (f"{MICRO} + SemanticFPN", [256, 512])
    ours, other = (count_segmenter(name, "SemanticFPN", (256, 512)).total for name in (MICRO, ATTO))
    assert (record["params"], record["macs"]) == (ours.params, ours.macs)
    assert record["params_ratio"] == pytest.approx(ours.params / other.params, abs=1e-4)
    cli(*words, "--by_module", 1)
    printed = capsys.readouterr().out
    assert "mIoU (%)" in printed
    assert "backbone" in printed
    message = refused(cli, capsys, "budget", MICRO, "--decoder", "upernet")
    assert message == "--decoder is for single models of --task segment; add both, or leave it out."
    assert refused(cli, capsys, *words[:-1], "500") == (
        "--image_size is 500×500; with --task segment the sides must be multiples of 256."
    )
    assert refused(cli, capsys, "budget", "--task", "segment", "--plot", "a.svg").startswith("--plot draws ImageNet")


def test_sizes_and_decoders_are_the_paper_s() -> None:
    assert set(SIZES) == {size for _, size in PAPER_DECODERS.values()} == {(512, 512), (512, 2048)}


@pytest.mark.parametrize(
    ("mode", "variant", "precision"),
    [("infer", "eager", "fp32"), ("infer", "deploy", "bf16"), ("train", "eager", "fp32"), ("train", "eager", "bf16")],
)
def test_every_form_runs(mode: str, variant: str, precision: str) -> None:
    bench = Bench(case(mode=mode, variant=variant, precision=precision, width=128))
    assert bench.images_per_s(0.01) > 0


def test_a_training_step_has_the_auxiliary_loss() -> None:
    torch.manual_seed(0)
    main, auxiliary = torch.randn(2, 5, 4, 6), torch.randn(2, 5, 2, 3)
    classes = torch.randint(2, (2, 8, 12))

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional.interpolate(logits, (8, 12), mode="bilinear"), classes)

    assert pixel_loss(main, classes).item() == pytest.approx(loss(main).item(), rel=1e-6)
    expected = loss(main) + 0.4 * loss(auxiliary)
    assert pixel_loss((main, auxiliary), classes).item() == pytest.approx(expected.item(), rel=1e-6)


def test_multiply_adds_of_a_checkpoint(tmp_path: Path) -> None:
    task = save_segmenter(tmp_path / "a.ckpt", classes=["a", "b"])
    own = case(model=str(tmp_path / "a.ckpt"), decoder=OWN, image_size=32, width=64)
    assert segmenter_macs(own) == count(task.model, torch.zeros(1, 3, 32, 64)).total.macs
    named = count_segmenter(MICRO, "SemanticFPN", (256, 256)).total.macs
    assert segmenter_macs(case(image_size=256)) == named
    assert segmenter_macs(case(image_size=224)) == pytest.approx(named * (224 / 256) ** 2, rel=0.05)


@pytest.mark.slow
def test_the_command_benchmark(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("inceptionnext_lit.reports.benchmark.segmenters.SIZES", ((64, 64), (64, 256)))
    save_segmenter(tmp_path / "a.ckpt", classes=["a", "b"])
    words = ("benchmark", "--task", "segment", MICRO, *QUICK, "--layout", "channels_last")
    cli(*words, "--decoder", "semantic_fpn", "--format", "json")
    rows = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["image_size"]) for row in rows] == [
        (f"{MICRO} + semantic_fpn", 64),
        (f"{MICRO} + semantic_fpn", [64, 256]),
    ]
    assert [row["ratio"] for row in rows] == [1, 1]
    cli("benchmark", "--task", "segment", "a.ckpt", *QUICK, "--image_size", "32,64", "--mode", "train")
    assert "32×64" in capsys.readouterr().out


def test_a_decoder_is_for_the_models_by_name(tmp_path: Path) -> None:
    """A checkpoint next to them keeps its own."""
    save_segmenter(tmp_path / "a.ckpt", classes=["a", "b"])
    options = benchmark._parse(["--task", "segment", str(tmp_path / "a.ckpt"), MICRO, "--decoder", "semantic_fpn"])
    first, second = benchmark._segmenters(options, case())
    assert [one.decoder for one in first] == [one.decoder for one in second] == [OWN, "semantic_fpn"]


def test_what_the_benchmark_refuses(cli: Cli, tmp_path: Path, capsys: Captured) -> None:
    save_segmenter(tmp_path / "a.ckpt", classes=["a", "b"])
    (tmp_path / "a.onnx").touch()
    for words, message in (
        (["a.ckpt"], "a.ckpt is a checkpoint of a segmentation model; add --task segment."),
        (["--task", "segment", "a.onnx"],
         "a.onnx is an exported file, which is measured as it is; leave out --task segment."),
        ([MICRO, "--image_size", "28,56"],
         "--image_size is 28,56; only square images are measured, except in --task segment."),
        ([MICRO, "--decoder", "upernet"], "--decoder is for segmentation models; add --task segment, or leave it out."),
        (["--task", "segment", MICRO, "--variants", "onnx"],
         "The variant onnx is for classifiers; leave it out with --task segment."),
        (["--task", "segment", "b.ckpt"],
         "There is no file 'b.ckpt'; give a checkpoint of a segmentation model, or a model's name."),
        (["--task", "segment", "a.ckpt", "--decoder", "upernet"],
         "--decoder is for models by name, and a.ckpt has one of its own; leave it out."),
    ):  # fmt: skip
        assert refused(cli, capsys, "benchmark", *words, *QUICK) == message
