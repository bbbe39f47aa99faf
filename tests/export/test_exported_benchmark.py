"""The benchmark of exported forms, and of exported files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inceptionnext_lit.cli.commands import benchmark
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS
from inceptionnext_lit.export.metadata import as_text
from inceptionnext_lit.reports.benchmark import measure as measuring
from inceptionnext_lit.reports.benchmark import products
from inceptionnext_lit.reports.benchmark.case import FORMS, Case, best_rate, steps_in
from inceptionnext_lit.reports.benchmark.exported import ExportedBench
from inceptionnext_lit.reports.benchmark.measure import measure
from inceptionnext_lit.reports.benchmark.subjects import find_subject
from tests.forked import forking

MICRO = "inceptionnext_iso_micro"
SIZES = ((64, 16, 8), (32, 32, 32))
QUICK = ["--rounds", "2", "--seconds", "0.01", "--threads", "1", "--format", "json"]


@pytest.fixture(autouse=True)
def _forked_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases' processes are forked from one that has the libraries, and products take no time."""
    monkeypatch.setattr(measuring, "multiprocessing", SimpleNamespace(get_context=lambda _: forking()))
    monkeypatch.setattr(products, "_SECONDS", 0.0)
    ask = measuring._Worker.ask

    def with_small_products(worker: Any, name: str, *arguments: object) -> object:
        return ask(worker, name, *((SIZES,) if name == "matmul_gflop_per_s" else arguments))

    monkeypatch.setattr(measuring._Worker, "ask", with_small_products)


def case(**options: Any) -> Case:
    given: dict[str, Any] = {"model": MICRO, "variant": "onnx", "mode": "infer", "precision": "fp32"}
    given |= {"layout": "best", "batch_size": 2, "image_size": 28, "threads": 1, "keeps_memory": False}
    return Case(**(given | options))


def test_files_and_checkpoints(place: Path, cli: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """A file is one case, of its own size; variants are those of the checkpoint."""
    cli(
        "benchmark",
        place / "best.ckpt",
        place / "best.onnx",
        "--variants",
        "eager,deploy",
        "--batch_size",
        "2,1",
        *QUICK,
    )
    rows = json.loads(capsys.readouterr().out)
    assert [(Path(row["model"]).name, row["variant"], row["batch_size"]) for row in rows] == [
        *(("best.ckpt", variant, size) for variant in ("eager", "deploy") for size in (2, 1)),
        *(("best.onnx", "onnx", size) for size in (2, 1)),
    ]
    assert {(row["precision"], row["image_size"], row["threads"]) for row in rows} == {("fp32", 28, 1)}
    assert len({row["matmul_gflop_per_s"] for row in rows}) == 1  # one bound for all
    assert all(row["share_of_matmul"] == row["gflop_per_s"] / row["matmul_gflop_per_s"] for row in rows[:4])
    assert [(row["layout"], row["gflop_per_s"], row["images_per_s_bound"]) for row in rows[4:]] == [(None,) * 3] * 2
    assert all(row["ratio_min"] <= row["ratio"] <= row["ratio_max"] for row in rows)


@pytest.mark.parametrize("size", [28, 40])
def test_a_file_runs_in_the_threads_of_the_case(place: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    import onnxruntime

    given = []
    start = onnxruntime.InferenceSession

    def started(file: Any, options: Any, **words: Any) -> Any:
        given.append(options.intra_op_num_threads)
        return start(file, options, **words)

    monkeypatch.setattr(onnxruntime, "InferenceSession", started)
    file = str(place / "best.onnx")
    bench = ExportedBench(case(model=file, file=file, threads=3, image_size=size))
    assert (given, bench.layout, bench.device_name) == ([3], None, "cpu")
    assert bench._step.args[0].shape == (2, size, size, 3)
    assert bench._step.args[0].dtype == np.uint8
    clock = iter([0.0, 0.5, 10.0, 12.0])  # a step takes half a second, so four are run
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert bench.images_per_s(2.0) == 4 * 2 / 2.0


def test_steps_and_rates() -> None:
    assert [steps_in(2, 0.5), steps_in(2, 0.3), steps_in(0.1, 1)] == [4, 7, 3]
    seconds = {(10, 20, 30): 1e-6, (100, 100, 100): 1e-3}
    assert best_rate(tuple(seconds), seconds.__getitem__) == pytest.approx(2e-9 * 6000 / 1e-6)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_products_of_onnx_runtime(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four products in a row, of which one is counted."""
    import onnx
    import onnxruntime

    graphs = []
    start = onnxruntime.InferenceSession

    def started(model: bytes, *words: Any, **named: Any) -> Any:
        graphs.append(onnx.load_from_string(model).graph)
        return start(model, *words, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", started)
    clock = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(products, "_SECONDS", 2.0)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert products.time_onnx((8, 4, 6), precision=precision, threads=1) == 2.0 / 2 / 4
    monkeypatch.undo()
    [graph] = graphs
    assert [node.op_type for node in graph.node] == 4 * [{"fp32": "MatMul", "int8": "QLinearMatMul"}[precision]]
    assert [tuple(one.dims) for one in graph.initializer][:4] == [(4, 6), (6, 4)] * 2


def stamped(place: Path, target: Path, **changes: Any) -> str:
    """Copy the exported file with other metadata, and return the copy."""
    shutil.copy(place / "best.onnx", target)
    content = json.loads((place / "best.onnx.json").read_text()) | changes
    FORMATS["onnx"].module.stamp(target, as_text(content))
    return str(target)


def test_what_is_refused(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no file 'none\.ckpt'; give a checkpoint, a file of export, or the name of a"):
        find_subject("none.ckpt", None, 1)
    one = stamped(place, tmp_path / "one.onnx", dynamic=[])
    with pytest.raises(UserError, match=r"one\.onnx takes one image at a time; give --batch_size 1\.$"):
        find_subject(one, None, 2)
    with pytest.raises(UserError, match=r"one\.onnx takes images of 28 pixels; leave out --image_size\.$"):
        find_subject(one, 32, 1)
    assert find_subject(one, 28, 1).form == "onnx"
    assert find_subject(str(place / "best.onnx"), 32, 9).image_size == 32
    int8 = find_subject(stamped(place, tmp_path / "int8.onnx", int8={}), None, 1)
    assert [(found.variant, found.precision) for found in int8.cases(["eager"], case())] == [("onnx-int8", "int8")]
    steps = json.loads((place / "best.onnx.json").read_text())["preprocessing"] | {"image_size": [28, 56]}
    wide = stamped(place, tmp_path / "wide.onnx", preprocessing=steps)
    with pytest.raises(UserError, match=r"wide\.onnx takes images of 28×56 pixels; only square ones are measured\.$"):
        find_subject(wide, None, 1)
    monkeypatch.setattr("inceptionnext_lit.export.formats.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"OpenVINO needs openvino; install it with pip install 'inceptionnext-lit\[op"):
        measure([case(variant="openvino-bf16", precision="bf16")], rounds=1, seconds=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "train"], "{} is an exported file, which cannot be trained; leave out the file or --mode train."),
        *(
            (
                [f"--{key}", value],
                f"--{key} is for models by name and checkpoints, and {{}} is an exported file, which has its own; "
                "leave it out.",
            )
            for key, value in (("variants", "eager"), ("precision", "bf16"), ("layout", "contiguous"))
        ),
    ],
)
def test_options_that_a_file_does_not_have(
    place: Path, cli: Callable[..., None], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(place / "best.onnx")
    with pytest.raises(SystemExit) as exit_:
        cli("benchmark", file, *words)
    assert exit_.value.code == 1
    assert capsys.readouterr().err.endswith(f"error: {message.format(file)}\n")


def test_models_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told: list[str] = []
    two = [case(variant="onnx", batch_size=size) for size in (2, 1)]
    first, second = measure(two, rounds=1, seconds=0.01, tick=told.append)
    assert told[:2] == [f"exporting {MICRO} onnx", f"preparing {MICRO} onnx"]  # one file for both
    assert (first.device, first.layout, second.case.batch_size) == ("cpu", None, 1)
    assert first.gflop_per_image == second.gflop_per_image
    assert list(tmp_path.glob("inceptionnext-lit-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", [variant for variant in FORMS if variant != "onnx"])
def test_other_forms(variant: str) -> None:
    precision = FORMS[variant].precision
    [found] = measure([case(variant=variant, precision=precision)], rounds=1, seconds=0.01)
    assert found.rates[0] > 0
    assert (found.matmul is None) == (variant in ("pt2-int8", "aoti-int8"))


def test_the_help_names_the_variants(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark._parse(["--help"])
    assert "onnx, openvino, openvino-bf16, pt2, aoti, onnx-int8" in " ".join(capsys.readouterr().out.split())
