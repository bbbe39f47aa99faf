"""What the parts of ``scripts/gpu_check.py`` measure, with clocks, runs of pytest and benchmarks that are not real."""

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from gpu_checks import fitting, kernels, photos, speed
from gpu_checks.environment import copy_rate, describe_machine
from gpu_checks.kernels import Clock, Sides
from gpu_checks.reporting import PartFailed, Work
from gpu_checks.settings import CPU, GPU
from gpu_checks.shapes import DTYPES, exact, find_shapes
from gpu_checks.testing import Recorder, marked_files
from PIL import Image
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.benchmark.case import Case
from inceptionnext_lit.reports.benchmark.measurement import Measurement
from tests.recipes import REPO


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(CPU, tmp_path / "report.json", tmp_path)


def reported(work: Work) -> Any:
    return json.loads(work.file.read_text("utf-8"))["result"]


def test_the_machine_is_described(work: Work) -> None:
    describe_machine(work)
    found = reported(work)
    assert found["versions"]["torch"] == torch.__version__
    assert found["smi"] is None
    assert found["matmul_tflop_per_s"].keys() == {"bf16", "fp32"}
    assert min(*found["matmul_tflop_per_s"].values(), found["copy_gb_per_s"]) > 0


def test_a_copy_counts_bytes_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_checks.environment.seconds_of", lambda device, step, count: 0.001 * count)
    assert copy_rate(torch.device("cpu"), 1) == pytest.approx(2 * 2**20 / 0.001 / 1e9)


def test_files_with_tests_for_gpus_are_found() -> None:
    names = [Path(name).name for name in marked_files(REPO / "tests")]
    assert "test_gpu.py" in names
    assert "test_project.py" not in names


def report(name: str, when: str, outcome: str) -> Any:
    return SimpleNamespace(nodeid=f"tests/a.py::{name}", when=when, outcome=outcome)


def test_the_outcome_of_each_test_is_reported(work: Work) -> None:
    recorder = Recorder(work)
    recorder.pytest_collectreport(SimpleNamespace(nodeid="tests/b.py", outcome="failed"))
    recorder.pytest_collectreport(SimpleNamespace(nodeid="tests/a.py", outcome="passed"))
    ends = {
        "good": [("setup", "passed"), ("call", "passed"), ("teardown", "passed")],
        "bad": [("setup", "passed"), ("call", "failed"), ("teardown", "passed")],
        "skipped": [("setup", "skipped"), ("teardown", "passed")],
        "unprepared": [("setup", "failed"), ("teardown", "passed")],
        "untidy": [("setup", "passed"), ("call", "passed"), ("teardown", "failed")],
        "endless": [("setup", "passed")],
    }
    for name, reports in ends.items():
        recorder.pytest_runtest_logstart(f"tests/a.py::{name}")
        for when, outcome in reports:
            recorder.pytest_runtest_logreport(report(name, when, outcome))
    assert reported(work)["outcomes"] == {
        "tests/b.py": "failed", "tests/a.py::good": "passed", "tests/a.py::bad": "failed",
        "tests/a.py::skipped": "skipped", "tests/a.py::unprepared": "failed", "tests/a.py::untidy": "failed",
        "tests/a.py::endless": "did not end",
    }  # fmt: skip
    told = r"^5 of 7 tests failed: tests/b\.py, bad, unprepared, untidy, endless$"
    with pytest.raises(PartFailed, match=told):
        recorder.check()


def test_no_test_is_a_failure(work: Work) -> None:
    recorder = Recorder(work)
    recorder.pytest_runtest_logreport(report("a", "setup", "skipped"))
    with pytest.raises(PartFailed, match="no test ran"):
        recorder.check()
    recorder.pytest_runtest_logreport(report("b", "call", "passed"))
    recorder.check()


def test_what_is_measured_in_turn() -> None:
    found = speed.cases(GPU, "infer_tiny")
    assert [(case.model, case.variant) for case in found] == [
        *(("inceptionnext_tiny", form) for form in ("eager", "compile", "kernels", "compile+kernels")),
        *(("convnext_tiny", form) for form in ("eager", "compile")),
        *(("inception_next_tiny", form) for form in ("eager", "compile")),
        ("inceptionnext_tiny", "deploy+compile"),
        ("inceptionnext_tiny", "deploy+compile+kernels"),
        ("convnext_tiny", "deploy+compile"),
    ]
    assert {(case.mode, case.precision, case.layout, case.batch_size, case.image_size) for case in found} == {
        ("infer", "bf16", "channels_last", 128, 224)
    }
    assert [case.variant for case in speed.cases(GPU, "train_small")] == [
        "eager", "compile", "kernels", "compile+kernels"
    ]  # fmt: skip
    assert {case.variant for group in speed.GROUPS for case in speed.cases(CPU, group)} == {"eager"}


def test_a_group_is_measured_without_what_cannot_be(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant that this version does not have is never measured, as another would be measured under its name."""
    work = replace(work, settings=GPU)
    given: list[Case] = []

    def measure(
        cases: Sequence[Case], rounds: int, seconds: float, tick: Any, *, at_once: int, leave_out: Callable[..., None]
    ) -> list[Measurement]:
        given.extend(cases)
        assert (rounds, seconds, at_once) == (GPU.rounds, GPU.seconds, GPU.at_once)
        leave_out(cases[1], UserError("no memory"))
        return [Measurement(cases[0], "channels_last", "cuda", [10.0, 20.0], [1.0, 1.0], None, 1.0, 5.0, None)]

    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(speed, "TORCH_VARIANTS", ("eager", "compile"))
    with pytest.raises(PartFailed) as failed:
        speed.measure_group(work, "train_iso")
    iso, deit = "inceptionnext_iso_small", "deit_small_patch16_224"
    assert str(failed.value) == (f"3 of 6 cannot be measured: {iso} kernels, {iso} compile+kernels, {iso} compile")
    assert [(case.model, case.variant) for case in given] == [
        (iso, "eager"), (iso, "compile"), (deit, "eager"), (deit, "compile")
    ]  # fmt: skip
    found = reported(work)
    [record] = found["records"]
    assert (record["model"], record["rates"], record["images_per_s"]) == (iso, [10, 20], 15)
    assert [one["reason"] for one in found["left_out"]] == [*2 * ["this version does not have it"], "no memory"]


def test_variants_that_cannot_run_here_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    eager, kernels_ = (replace(speed.cases(CPU, "train_tiny")[0], variant=variant) for variant in ("eager", "kernels"))

    def check_libraries(variants: Sequence[str]) -> None:
        if variants == ["kernels"]:
            raise UserError("no CUDA device")

    monkeypatch.setattr(speed, "check_libraries", check_libraries)
    monkeypatch.setattr(speed, "TORCH_VARIANTS", ("eager", "kernels"))
    assert (speed.why_not(eager), speed.why_not(kernels_)) == ("", "no CUDA device")
    monkeypatch.setattr(speed, "TORCH_VARIANTS", ("eager",))
    assert (speed.why_not(eager), speed.why_not(kernels_)) == ("", "this version does not have it")


def test_compiled_forms_are_prepared_in_processes_of_their_own(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def __init__(self, *_: Any, **options: Any) -> None:
            assert options == {"max_tasks_per_child": 1}

        def __enter__(self) -> "Pool":
            return self

        def __exit__(self, *_: object) -> None:
            return

        def submit(self, function: Any, case: Case) -> Any:
            assert function is speed.seconds_until_ready
            future = Future[float]()
            if case.model == "convnext_tiny":
                future.set_exception(RuntimeError("no compiler\nat all"))
            else:
                future.set_result(2.5)
            return future

    monkeypatch.setattr(speed, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(speed, "why_not", lambda case: "")
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "")
    work = replace(work, settings=GPU)
    with pytest.raises(PartFailed, match=r"^3 of 24 cannot be compiled: convnext_tiny "):
        speed.compile_all(work)
    found = reported(work)
    assert found["seconds"]["inceptionnext_tiny compile+kernels train"] == 2.5
    assert {one["reason"] for one in found["left_out"]} == {"RuntimeError: no compiler"}


def test_rounds_of_the_overhead_are_read() -> None:
    printed = (
        "round 1: bare 10.00 ms, fit 11.00 ms per step, ratio 1.1000\nmedian: bare 10.00 ms, fit 11.00 ms per step\n"
    )
    assert fitting.rounds_of(printed) == [{"bare_ms": 10, "fit_ms": 11, "ratio": 1.1}]


def test_the_loader_is_watched_after_the_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 4 take 3 s, of which the loop waits 1 s."""
    time = 0.0
    monkeypatch.setattr("inceptionnext_lit.training.bottleneck.time.monotonic", lambda: time)
    monkeypatch.setattr(fitting, "now", lambda: time)
    watch = fitting.LoaderWatch(str(tmp_path / "watched.json"), warm_up=2, steps=3)
    trainer: Any = SimpleNamespace(train_dataloader=SimpleNamespace(num_workers=5))
    module: Any = None
    batch = [torch.zeros(4, 3, 8, 8), torch.zeros(4)]
    for step in range(5):
        time += 100 if step < 2 else 1  # the first batches take longer
        watch.on_train_batch_start(trainer, module, batch, step)
        time += 2
        watch.on_train_batch_end(trainer, module, None, batch, step)
    found = json.loads((tmp_path / "watched.json").read_text())
    # the clock starts when the third batch is there: 3 × 2 s of work and 2 × 1 s of waiting
    assert found == {"images_per_s": 12 / 8, "share_of_waiting": 0.25, "images": 12, "loader_processes": 5}


def test_photos_fill_the_steps(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def __init__(self, *_: Any) -> None: ...

        def __enter__(self) -> "Pool":
            return self

        def __exit__(self, *_: object) -> None:
            return

        def map(self, function: Any, items: Any, chunksize: int) -> Any:
            return map(function, items)

    monkeypatch.setattr(photos, "ProcessPoolExecutor", Pool)
    work = replace(work, settings=replace(CPU, photos=20, photo_size=(24, 16), warm_up=4, steps=10, batch_size=3))
    photos.make_photos(work)
    files = sorted(photos.photos_folder(work).glob("train/*/*.jpg"))
    assert len(files) == 60 >= 14 * 3
    assert len({file.read_bytes() for file in files}) == 20
    assert len(list(photos.photos_folder(work).glob("val/*/*.jpg"))) == 10
    with Image.open(files[0]) as image:
        assert image.size == (24, 16)
    found = reported(work)
    assert (found["files"], found["distinct"]) == (60, 20)


@pytest.mark.slow
def test_the_shapes_of_the_models() -> None:
    found = [(shape.title, shape.record()["map"]) for shape in find_shapes(GPU)]
    maps = ["96×56×56", "192×28×28", "384×14×14", "768×7×7"]
    assert found == [(kernels_, one) for kernels_ in ("3×3, 1×11, 11×1", "7×7") for one in maps]
    users = {shape.record()["map"]: shape.record()["models"] for shape in find_shapes(GPU)[:4]}
    both = ["inceptionnext_tiny", "inceptionnext_small"]
    assert users == {**dict.fromkeys(maps, both), "384×14×14": [*both, "inceptionnext_iso_small"]}


def test_double_precision_is_what_the_mixers_compute() -> None:
    shapes = find_shapes(CPU)
    assert {shape.title for shape in shapes} == {"3×3, 1×11, 11×1", "7×7"}
    for shape in (shapes[0], shapes[-1]):
        sides = Sides.of(shape, 2, torch.device("cpu"), torch.float32)
        result, inputs = exact(sides.x, sides.convs)
        assert result.dtype == torch.float64
        torch.testing.assert_close(sides.torch().double(), result, rtol=1e-5, atol=1e-6)
        expected = torch.autograd.grad(result, inputs, sides.grad.double())
        for computed, gradient in zip(sides.gradients(sides.torch), expected, strict=True):
            torch.testing.assert_close(computed.double(), gradient, rtol=1e-4, atol=1e-5)


def test_parameters_are_exact_in_the_type() -> None:
    shape = find_shapes(CPU)[0]
    sides = Sides.of(shape, 2, torch.device("cpu"), DTYPES["bf16"])
    assert sides.x.is_contiguous(memory_format=torch.channels_last)
    assert sides.x.dtype == sides.torch().dtype == torch.bfloat16
    for parameter in sides.module.parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, parameter.bfloat16().float())
        assert parameter.abs().max() > 0


class FakeClock:
    """A clock that reads times of each step from a list."""

    def __init__(self, times: dict[Any, list[float]]) -> None:
        self.times = times
        self.order: list[Any] = []

    def seconds_per_run(self, step: Any) -> float:
        self.order.append(step)
        return self.times[step].pop(0)


def test_forms_are_timed_in_turn_after_a_warm_up() -> None:
    runs: list[str] = []

    def ours() -> None:
        runs.append("ours")

    def theirs() -> None:
        runs.append("theirs")

    clock = FakeClock({ours: [1e-6, 2e-6, 4e-6], theirs: [2e-6, 6e-6, 4e-6]})
    found = kernels.compare(cast(Any, clock), ours, theirs, rounds=3)
    assert runs == ["ours"] * 3 + ["theirs"] * 3
    assert clock.order == [ours, theirs] * 3
    assert found == pytest.approx({
        "triton_us": 2, "torch_us": 4, "ratio": 2, "ratio_lower_quartile": 1.5, "ratio_upper_quartile": 2.5
    })  # fmt: skip


def test_traffic_counts_each_number_once() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8)  # 80 numbers of 4 bytes
    sides = Sides(conv, [conv], torch.zeros(5, 8, 10, 10, dtype=torch.bfloat16), torch.zeros(0))
    found = kernels.traffic(sides, "forward", 2.0, 10.0)
    assert found["gb_per_s"] == pytest.approx((2 * 4000 * 2 + 320) / 2e-6 / 1e9)
    assert found["share_of_copy"] == pytest.approx(found["gb_per_s"] / 10)
    both = kernels.traffic(sides, "forward+backward", 2.0, 10.0)
    assert both["gb_per_s"] == pytest.approx((5 * 4000 * 2 + 3 * 320) / 2e-6 / 1e9)


def test_a_gpu_is_timed_by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU waits until all is queued; each run is between its own marks, after the cache was flushed."""
    told: list[str] = []
    elapsed = iter([5.0, 9.0, 6.0])

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            told.append("mark")

        def elapsed_time(self, end: "Event") -> float:
            return next(elapsed)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("wait"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: told.append("sleep"), raising=False)
    clock = Clock(torch.device("cpu"), 3)
    clock._device = torch.device("cuda")
    monkeypatch.setattr(clock, "_flushed", SimpleNamespace(zero_=lambda: told.append("flush")))
    assert clock.seconds_per_run(lambda: told.append("run")) == 0.006
    assert told == ["wait", "sleep", *3 * ["flush", "mark", "run", "mark"], "wait"]


class Wrong:
    """Both forms of a mixer; the kernels are off by a factor."""

    def __init__(self, sides: Sides, factor: float) -> None:
        self._sides, self._factor = sides, factor
        self.x, self.convs, self.grad = sides.x, sides.convs, sides.grad
        self.torch, self.gradients = sides.torch, sides.gradients

    def triton(self) -> torch.Tensor:
        return self._sides.torch() * self._factor


@pytest.mark.parametrize(("factor", "right"), [(1.0, True), (1.001, False), (float("nan"), False)])
def test_wrong_kernels_are_found(work: Work, monkeypatch: pytest.MonkeyPatch, factor: float, right: bool) -> None:
    build = Sides.of
    monkeypatch.setattr(Sides, "of", lambda *given: Wrong(build(*given), factor))
    monkeypatch.setitem(sys.modules, kernels._TRITON, cast(Any, SimpleNamespace()))
    if right:
        kernels.check_kernels(work, "fp32")
    else:
        with pytest.raises(PartFailed, match=r"^\d of \d shapes are wrong: 3×3, 1×11, 11×1 on "):
            kernels.check_kernels(work, "fp32")
    records = reported(work)["records"]
    assert {record["right"] for record in records} == {right}
    assert all(record["repeats"] for record in records) or factor != factor
    assert max(record["torch"]["output"] for record in records) < 1e-5
    if factor == 1.001:
        assert records[0]["triton"]["output"] == pytest.approx(1e-3, rel=0.01)


def test_torch_is_not_compared_with_itself(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Sides.of
    monkeypatch.setattr(Sides, "of", lambda *given: Wrong(build(*given), 1.0))
    monkeypatch.delitem(sys.modules, kernels._TRITON, raising=False)
    with pytest.raises(PartFailed, match="the operator did not run Triton"):
        kernels.check_kernels(work, "fp32")


def test_a_shape_that_fails_does_not_stop_the_others(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Sides.of
    count = 0

    def of(*given: Any) -> Any:
        sides = Wrong(build(*given), 1.0)
        nonlocal count
        count += 1
        if count == 1:
            monkeypatch.setattr(sides, "triton", lambda: 1 / 0, raising=False)
        return sides

    monkeypatch.setattr(Sides, "of", of)
    monkeypatch.setitem(sys.modules, kernels._TRITON, cast(Any, SimpleNamespace()))
    with pytest.raises(PartFailed, match=r"^2 of \d+ cannot be measured \(ZeroDivisionError: division by zero\)$"):
        kernels.time_kernels(work)
    records = reported(work)["records"]
    assert [record.get("error") for record in records] == [
        *2 * ["ZeroDivisionError: division by zero"],
        *(len(records) - 2) * [None],
    ]
    assert all(record["triton_us"] > 0 for record in records[2:])
    assert [record["mode"] for record in records[:2]] == ["forward", "forward+backward"]
