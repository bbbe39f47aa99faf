"""The benchmark: what it measures, how results follow from rounds, and what is refused."""

import errno
import json
import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from inceptionnext_lit.cli.commands import benchmark
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.cost import count_model
from inceptionnext_lit.models.mixers import InceptionDWConv2d
from inceptionnext_lit.reports.benchmark import measure as measuring
from inceptionnext_lit.reports.benchmark.case import PRODUCTS, Case
from inceptionnext_lit.reports.benchmark.measure import measure
from inceptionnext_lit.reports.benchmark.measurement import Measurement, MeasurementInterrupt
from inceptionnext_lit.reports.benchmark.rendering import describe_unsteady, render
from inceptionnext_lit.reports.benchmark.torch_bench import Bench
from tests.forked import as_script, forked, forking
from tests.processes import wait_until
from tests.recipes import REPO

MICRO, NANO = "inceptionnext_iso_micro", "inceptionnext_iso_nano"
QUICK = ["--image_size", "28", "--batch_size", "2", "--rounds", "2", "--seconds", "0.01", "--threads", "1"]
SMALL_PRODUCTS = ((64, 16, 8), (32, 32, 32))


@pytest.fixture(autouse=True)
def _forked_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases' processes are forked from one that has the libraries, and multiply small matrices."""
    monkeypatch.setattr(measuring, "multiprocessing", SimpleNamespace(get_context=lambda _: forking()))
    ask = measuring._Worker.ask

    def with_small_products(worker: measuring._Worker, name: str, *arguments: object) -> object:
        if name == "matmul_gflop_per_s":
            assert arguments == (PRODUCTS,)
            arguments = (SMALL_PRODUCTS,)
        return ask(worker, name, *arguments)

    monkeypatch.setattr(measuring._Worker, "ask", with_small_products)


def case(**options: Any) -> Case:
    given: dict[str, Any] = {"model": MICRO, "variant": "eager", "mode": "infer", "precision": "fp32"}
    given |= {"layout": "channels_last", "batch_size": 2, "image_size": 28, "threads": 1, "keeps_memory": False}
    return Case(**(given | options))


def test_results_follow_from_the_rounds() -> None:
    measurement = Measurement(
        case(), "channels_last", "cpu", rates=[10.0, 30.0, 20.0], ratios=[1.0, 1.5, 2.0], matmul=[50.0, 40.0, 60.0],
        warm_up_s=1.5, peak_memory_mib=7.0, gflop_per_image=0.5,
    )  # fmt: skip
    record = measurement.record()
    assert (record["images_per_s"], record["images_per_s_min"], record["images_per_s_max"]) == (20, 10, 30)
    assert (record["ratio"], record["gflop_per_s"], record["share_of_matmul"]) == (1.5, 10, 0.2)
    assert (record["images_per_s_bound"], record["peak_memory_mib"]) == (100, 7)


@pytest.mark.parametrize(
    ("rates", "sentence"),
    [
        ([[10.0, 14.9], [5.0]], ""),
        ([[10.0, 15.0, 12.0], [500.0, 2000.0]],
         f"The speed of {MICRO} (deploy) varied from 500 to 2000 images per second between rounds, so other programs "
         "may be using this machine; repeat the benchmark when it is idle."),
    ],
)  # fmt: skip
def test_rounds_that_differ_too_much_are_named(rates: list[list[float]], sentence: str) -> None:
    measured = [
        Measurement(case(variant=variant), None, "cpu", some, [1.0], None, 1.0, None, None)
        for variant, some in zip(("eager", "deploy"), rates, strict=True)
    ]
    assert describe_unsteady(measured) == sentence


def test_a_table_has_three_digits_of_any_rate() -> None:
    rates = {(512, 2048): 0.5534, (224, 224): 2.259, (28, 28): 1234.5, (64, 64): 45.67}
    measurements = [
        Measurement(case(image_size=height, width=width), "channels_last", "cpu", [rate], [1.0], [speed], 1.0, 7.0, 2.0)
        for ((height, width), rate), speed in zip(rates.items(), [40.4, 50.6, 45.0, 44.0], strict=True)
    ]
    title, _, *lines = render(measurements, "table").splitlines()
    assert title.endswith("; matrix products reach 40–51 GFLOP/s in fp32")
    assert [line.split()[7:9] for line in lines] == [
        ["0.553", "0.553–0.553"],
        ["2.26", "2.26–2.26"],
        ["1234", "1234–1234"],
        ["45.7", "45.7–45.7"],
    ]
    assert [line.split()[13] for line in lines] == ["20.2", "25.3", "22.5", "22.0"]


@pytest.mark.slow
def test_cases_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    first, second = measure([case(), case(model=NANO)], rounds=2, seconds=0.01, tick=told.append)
    assert told == [
        *(f"preparing {name} eager" for name in (MICRO, NANO)),
        *(f"round {number} of 2: {name} eager" for number in (1, 2) for name in (MICRO, NANO)),
    ]
    assert first.ratios == [1.0, 1.0]
    assert second.ratios == [b / a for a, b in zip(first.rates, second.rates, strict=True)]
    assert second.gflop_per_image == pytest.approx(2e-9 * count_model(NANO, (28, 28))[0].total.macs)
    assert first.peak_memory_mib is not None
    assert first.peak_memory_mib > 0


@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["eager", "deploy"])
def test_every_form_runs(mode: str, precision: str, variant: str) -> None:
    if mode == "train" and variant == "deploy":
        variant = "eager"
    bench = Bench(case(mode=mode, precision=precision, variant=variant, layout="best"))
    assert bench.layout in ("channels_last", "contiguous")
    assert bench.images_per_s(0.01) > 0
    assert bench.matmul_gflop_per_s(SMALL_PRODUCTS) > 0


def test_the_bound_is_that_of_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, sizes = Bench(case()), []

    def took(product: Callable[[], object], steps: int) -> float:
        left, right = product.__defaults__
        assert left.dtype == right.dtype == torch.float32
        sizes.append((len(left), left.shape[1], len(right)))
        return steps * (0.1 if len(left) == 64 else 0.01)

    monkeypatch.setattr(bench, "_time", took)
    assert bench.matmul_gflop_per_s(SMALL_PRODUCTS) == pytest.approx(2e-9 * 32 * 32 * 32 / 0.01)
    assert set(sizes) == set(SMALL_PRODUCTS)
    assert max(PRODUCTS) == (50176, 96, 384)  # 56² positions of 16 images


@pytest.mark.parametrize(
    ("mode", "variant", "compiles", "is_deployed"),
    [
        ("infer", "kernels", 0, False),
        ("train", "kernels", 0, False),
        ("train", "compile+kernels", 1, False),
        ("infer", "deploy+kernels", 0, True),
        ("infer", "deploy+compile+kernels", 1, True),
    ],
)
def test_variants_with_kernels(
    monkeypatch: pytest.MonkeyPatch, mode: str, variant: str, compiles: int, is_deployed: bool
) -> None:
    """The mixers are set to Triton; on a CPU, torch computes them."""
    compiled, forms = [], set()
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(model) or model)
    forward = InceptionDWConv2d.forward

    def noting(mixer: InceptionDWConv2d, x: torch.Tensor) -> torch.Tensor:
        forms.add((mixer.kernels, mixer.dwconv_w.weight.requires_grad))
        return forward(mixer, x)

    monkeypatch.setattr(InceptionDWConv2d, "forward", noting)
    bench = Bench(case(mode=mode, variant=variant))
    assert bench.images_per_s(0.001) > 0
    assert len(compiled) == compiles
    assert forms == {("triton", not is_deployed)}


def test_kernels_are_refused_where_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="it has no mixer that a kernel replaces"):
        Bench(case(model="resnet10t", variant="kernels"))
    monkeypatch.setattr("inceptionnext_lit.reports.benchmark.subjects.why_not", lambda device: "no CUDA device")
    with pytest.raises(UserError) as error:
        measure([case(), case(variant="compile+kernels")], rounds=1, seconds=0.01)
    assert str(error.value) == (
        "The variant compile+kernels cannot be measured here: no CUDA device. Leave it out, or measure it on a machine "
        "with a GPU and Triton."
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"variant": "compile"}, {"variant": "deploy+compile"}, {"mode": "train"}])
def test_compiled_forms_run(options: dict[str, str]) -> None:
    bench = Bench(case(**({"variant": "compile"} | options)))
    assert bench.images_per_s(0.01) > 0


@pytest.mark.slow
def test_json_has_a_row_per_model_and_variant(
    cli: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("benchmark", MICRO, *QUICK, "--variants", "eager,deploy", "--format", "json")
    rows = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["variant"]) for row in rows] == [(MICRO, "eager"), (MICRO, "deploy")]
    for row in rows:
        assert (row["mode"], row["precision"], row["rounds"]) == ("infer", "fp32", 2)
        assert row["images_per_s_min"] <= row["images_per_s"] <= row["images_per_s_max"]
        assert row["share_of_matmul"] == pytest.approx(row["gflop_per_s"] / row["matmul_gflop_per_s"])
        assert {"ratio", "peak_memory_mib", "layout", "warm_up_s"} <= row.keys()
    cli("benchmark", MICRO, *QUICK, "--output", "speed.json")
    [row] = json.loads((tmp_path / "speed.json").read_text())
    assert row["ratio"] == 1
    assert statistics.median([row["images_per_s_min"], row["images_per_s_max"]]) == pytest.approx(row["images_per_s"])


def test_the_bound_is_the_best_of_a_precision() -> None:
    rates: dict[measuring._Kind, list[float | None]] = {
        measuring._Kind("cpu", "fp32", "torch"): [5.0, 9.0],
        measuring._Kind("cpu", "int8", "pt2"): [None, None],
        measuring._Kind("cpu", "fp32", "onnx"): [7.0, 6.0],
        measuring._Kind("cpu", "bf16", "openvino"): [20.0, 21.0],
    }
    assert measuring._bounds(rates) == {("cpu", "fp32"): [7.0, 9.0], ("cpu", "bf16"): [20.0, 21.0]}


def test_the_allocator_is_a_separate_case(cli: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    cli("benchmark", MICRO, *QUICK, "--allocator", "as_it_comes,keep")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(MICRO)]
    assert [line.split()[4] for line in lines] == ["freed", "kept"]


def test_growth_is_drawn(
    cli: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(benchmark._SIZES, "image_size", (28, 32))
    cli("benchmark", MICRO, *QUICK[2:], "--scaling", "image_size", "--output", "growth.svg")
    assert "<svg" in (tmp_path / "growth.svg").read_text()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(MICRO)]
    assert [line.split()[5] for line in lines] == ["28", "32"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["inceptionnext_tini"], 1, "inceptionnext_tiny"),
        ([MICRO, "--variants", "eager,fast"], 2, "'fast' is not a known variant; choose from eager, compile, deploy"),
        (
            [MICRO, "--mode", "train", "--variants", "deploy"],
            1,
            "Only the variants eager, compile, kernels and compile+kernels can be trained",
        ),
        ([MICRO, "--allocator", "jemalloc"], 2, "'jemalloc' is not a known allocator; choose from keep, as_it_comes"),
        ([MICRO, "--output", "x.pdf"], 1, "--output is x.pdf; it must end in .json or .txt."),
        ([MICRO, "--output", "none/x.json"], 1, "in a folder that does not exist"),
        (
            [MICRO, "--output", f"{'x' * 300}.json"],
            1,
            "x.json cannot be written: File name too long; give another one.",
        ),
        (
            [MICRO, "--image_size", "64", "--scaling", "image_size"],
            1,
            "--scaling image_size has sizes of its own; leave out --image_size.",
        ),
        (
            [MICRO, "--batch_size", "4", "--scaling", "batch_size"],
            1,
            "--scaling batch_size has sizes of its own; leave out --batch_size.",
        ),
        ([MICRO, "--batch_size", "1,2", "--scaling", "image_size"], 1, "--scaling has sizes of its own"),
        (["best.onnx"], 1, "There is no file 'best.onnx'; give a checkpoint, a file of export, or the name of a model"),
        ([MICRO, "--batch_size", "0"], 2, "--batch_size: '0' is not a number of 1 or more"),
        ([], 2, "needs MODEL"),
        ([MICRO, "--image_sise", "28"], 2, "did you mean --image_size?"),
    ],
)
def test_refused(
    cli: Callable[..., None], words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("benchmark", *words)
    assert exit_.value.code == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_a_file_of_weights_is_refused(
    cli: Callable[..., None], tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"stem.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(SystemExit) as exit_:
        cli("benchmark", "w.pth", "--task", task)
    assert exit_.value.code == 1
    assert capsys.readouterr().err == (
        "error: w.pth is a file of weights, not a checkpoint of fit; the speed does not depend on weights, so give the "
        "name of its model instead.\n"
    )


def test_what_was_measured_is_printed_if_it_cannot_be_written(
    cli: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(benchmark, "replacing", full)
    with pytest.raises(SystemExit) as exit_:
        cli("benchmark", MICRO, *QUICK, "--output", "speed.json")
    assert exit_.value.code == 1
    printed = capsys.readouterr()
    assert [row["model"] for row in json.loads(printed.out)] == [MICRO]
    assert "No space left on device" in printed.err
    assert not (tmp_path / "speed.json").exists()


def test_tf32_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="tf32 needs a GPU, and there is none here"):
        Bench(case(precision="tf32"))


def test_a_case_that_cannot_run_is_named() -> None:
    with pytest.raises(UserError, match=rf"^{MICRO} \(eager, infer, fp32\) cannot be measured: An image of 2×2 pixels"):
        measure([case(image_size=2)], rounds=1, seconds=0.01)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("moment", ["importing", pytest.param("measuring", marks=pytest.mark.slow)])
def test_interrupted_it_ends_at_once(tmp_path: Path, moment: str) -> None:
    with forked(long_benchmark, cwd=tmp_path) as run:
        needed = ["torch/lib/libtorch_cpu", "libgomp"][: 1 + (moment == "measuring")]
        found = wait_until(lambda: [pid for pid in children(run.pid) if has_opened(pid, needed)])
        time.sleep(2 if moment == "measuring" else 0)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        done = run.wait(30)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")
    assert done.stdout == "" or (moment == "measuring" and MICRO in done.stdout)  # a round may be complete
    wait_until(lambda: not [pid for pid in found if Path(f"/proc/{pid}").exists()], seconds=10)  # the system clears up


def interrupt_round(monkeypatch: pytest.MonkeyPatch, number: int, model: str = NANO) -> None:
    """Press Ctrl-C in a round of a model."""
    ask = measuring._Worker.ask

    def ask_or_stop(worker: measuring._Worker, name: str, *arguments: object) -> object:
        if (worker.case.model, name, len(worker.rates)) == (model, "images_per_s", number - 1):
            raise KeyboardInterrupt
        return ask(worker, name, *arguments)

    monkeypatch.setattr(measuring._Worker, "ask", ask_or_stop)


def test_interrupted_it_keeps_complete_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_round(monkeypatch, 3)
    with pytest.raises(MeasurementInterrupt) as stopped:
        measure([case(), case(model=NANO)], rounds=5, seconds=0.01)
    first, second = stopped.value.measured
    assert [len(one.rates) for one in (first, second)] == [2, 2]
    assert second.ratios == [b / a for a, b in zip(first.rates, second.rates, strict=True)]
    assert first.matmul is not None
    assert len(first.matmul) == 2


def test_interrupted_in_the_first_round_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_round(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt) as stopped:
        measure([case(model=NANO)], rounds=2, seconds=0.01)
    assert not isinstance(stopped.value, MeasurementInterrupt)


def test_interrupted_the_command_prints_what_it_has(
    cli: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_round(monkeypatch, 2)
    with pytest.raises(SystemExit) as exit_:
        cli("benchmark", MICRO, NANO, *QUICK, "--output", "speed.json")
    assert exit_.value.code == 130
    printed = capsys.readouterr()
    assert [(row["model"], row["rounds"]) for row in json.loads(printed.out)] == [(MICRO, 1), (NANO, 1)]
    assert "Interrupted." in printed.err
    assert not (tmp_path / "speed.json").exists()


def test_an_error_at_a_later_size_keeps_the_earlier_ones(
    cli: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(benchmark._SIZES, "image_size", (28, 2))
    with pytest.raises(SystemExit) as exit_:
        cli("benchmark", MICRO, *QUICK[2:], "--scaling", "image_size")
    assert exit_.value.code == 1
    printed = capsys.readouterr()
    assert [line.split()[5] for line in printed.out.splitlines() if line.startswith(MICRO)] == ["28"]
    assert "cannot be measured: An image of 2×2 pixels" in printed.err


def long_benchmark() -> None:
    """What a terminal starts."""
    os.setsid()
    as_script(REPO / "cli.py", "benchmark", MICRO, "--rounds", "500", "--image_size", "28")


def children(process: int) -> list[int]:
    return [child.pid for child in psutil.Process(process).children()]


def has_opened(process: int, libraries: list[str]) -> bool:
    try:
        mapped = Path(f"/proc/{process}/maps").read_text()
    except OSError:
        return False
    return all(library in mapped for library in libraries)


def test_cases_that_cannot_run_are_left_out() -> None:
    told, left_out = [], []
    cases = [case(image_size=2), case(), case(model=NANO), case(variant="compile", image_size=2)]
    first, second = measure(
        cases, rounds=2, seconds=0.01, tick=told.append, at_once=3,
        leave_out=lambda case, error: left_out.append((case, str(error))),
    )  # fmt: skip
    assert [one.case for one in (first, second)] == cases[1:3]
    assert [one for one, _ in left_out] == [cases[0], cases[3]]
    assert all("cannot be measured: An image of 2×2 pixels" in why for _, why in left_out)
    assert told[0] == f"preparing {MICRO} eager, {MICRO} eager, {NANO} eager"
    assert first.ratios == [1.0, 1.0]
    assert second.ratios == [b / a for a, b in zip(first.rates, second.rates, strict=True)]
    assert first.matmul == second.matmul
    assert first.matmul is not None


def test_a_case_that_fails_in_a_later_round_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = measuring._Worker.ask

    def ask_or_fail(worker: measuring._Worker, name: str, *arguments: object) -> object:
        if worker.case.model == MICRO and name == "images_per_s" and worker.rates:
            worker._process.kill()
        return ask(worker, name, *arguments)

    monkeypatch.setattr(measuring._Worker, "ask", ask_or_fail)
    left_out: list[str] = []
    [rest] = measure(
        [case(), case(model=NANO)], rounds=2, seconds=0.01, leave_out=lambda _, error: left_out.append(str(error))
    )
    assert (rest.case.model, len(rest.rates), rest.ratios) == (NANO, 2, [1.0, 1.0])
    assert rest.matmul is not None
    assert len(rest.matmul) == 2
    [reason] = left_out
    assert reason.startswith(f"{MICRO} (eager, infer, fp32) cannot be measured: its process has died, most often for")
