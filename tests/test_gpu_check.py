"""``scripts/gpu_check.py``: parts that fail, hang or do not fit, and what is written of them."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu_check
import psutil
import pytest
from gpu_checks import documents, parts, running, tables
from gpu_checks.documents import Run
from gpu_checks.reporting import PartFailed, Work, work_on
from gpu_checks.running import Outcome, Part, Stopped
from gpu_checks.settings import CPU, GPU

from tests.processes import wait_until
from tests.recipes import REPO

ABOUT = Run("python scripts/gpu_check.py", "cuda", 128, "abc1234", "2026-12-01")
WRITE = "import json, sys; json.dump({'result': {'x': 1}}, open(sys.argv[1], 'w'))\n"
Statuses = list[dict[str, str]]


def part(name: str, code: str, **options: Any) -> Part:
    """Return a part that runs code, whose argument is the file for the result, without the time to import anything."""
    command = [sys.executable, "-S", "-c", code]
    return Part(name, f"the {name} part", lambda file: [*command, str(file)], **({"limit": 100.0} | options))


def run(*stages: list[Part], seconds: float = 1000, **options: Any) -> tuple[dict[str, Outcome], Statuses, list[str]]:
    """Run parts, and return the outcomes, the statuses at each save, and what was told."""
    saved: Statuses = []
    told: list[str] = []

    def save(outcomes: Mapping[str, Outcome]) -> None:
        saved.append({name: outcome.status for name, outcome in outcomes.items()})

    return running.run(stages, seconds, save, told.append, **options), saved, told


def late_after(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour pass as soon as a file exists."""
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * ready.exists(), sleep=time.sleep)
    monkeypatch.setattr(running, "time", clock)


@pytest.mark.parametrize(
    ("code", "reason", "result"),
    [
        (WRITE, "", {"x": 1}),
        (WRITE + "raise ValueError('no such thing')", "ValueError: no such thing", {"x": 1}),
        (
            WRITE + "json.dump({'result': 5, 'failure': '2 of 3 are wrong'}, open(sys.argv[1], 'w')); sys.exit(1)",
            "2 of 3 are wrong", 5,
        ),
        (WRITE + "json.dump({'result': 5, 'failure': 'odd'}, open(sys.argv[1], 'w'))", "odd", 5),
        ("import sys; sys.exit(3)", "exit code 3", None),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL, most often for lack of memory", None),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV", None),
        ("print('hello')", "it wrote no result", None),
        (WRITE + "open(sys.argv[1], 'w').write('{')", "its result cannot be read: Expecting property name", None),
        (WRITE + "open(sys.argv[1], 'w').write('{\"result\": NaN}')", "its result cannot be read: NaN is not", None),
        (WRITE + "open(sys.argv[1], 'w').write('[1]')", "its result cannot be read: list indices must be", None),
        (WRITE + "open(sys.argv[1], 'wb').write(b'\\xff')", "its result cannot be read: 'utf-8' codec can't", None),
    ],
)  # fmt: skip
def test_a_part_ends(code: str, reason: str, result: Any) -> None:
    outcomes, saved, told = run([part("one", code)])
    outcome = outcomes["one"]
    status = "failed" if reason else "passed"
    assert (outcome.status, outcome.result) == (status, result)
    assert outcome.reason.startswith(reason)
    assert saved == [{"one": status}]
    assert told[0] == "one: the one part"
    assert told[1].startswith(f"one: {outcome.text} (")
    if "ValueError" in reason:
        assert outcome.log[0] == "Traceback (most recent call last):"


def test_a_long_reason_is_cut_and_a_long_log_has_its_end() -> None:
    outcomes, _, _ = run([part("one", "for n in range(100): print(n)\nraise ValueError('x' * 1000)")])
    assert len(outcomes["one"].reason) == 200
    assert len(outcomes["one"].log) == 20
    assert outcomes["one"].log[-1] == "ValueError: " + 1000 * "x"


def test_a_part_over_its_limit_is_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping = f"[{sys.executable!r}, '-S', '-c', 'import time; time.sleep(1000)']"
    started = f"import subprocess, time; a = subprocess.Popen({sleeping}, start_new_session={{}}).pid\n"
    code = WRITE + started.format(True) + started.format(False).replace("a =", "b =")
    code += f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{a}} {{b}}'); open({str(tmp_path / 'ready')!r}, 'w')\n"
    late_after(tmp_path / "ready", monkeypatch)
    outcomes, _, _ = run([part("one", code + "time.sleep(1000)", limit=10.0)], [part("two", WRITE)], seconds=9999)
    assert (outcomes["one"].reason, outcomes["one"].result) == ("killed after 10 s, its limit", {"x": 1})
    assert outcomes["two"].status == "passed"
    for number in map(int, (tmp_path / "pids").read_text().split()):
        wait_until(lambda number=number: not is_alive(number), seconds=10)  # type: ignore[misc]


def is_alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_rest_is_left_out_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late_after(tmp_path / "ready", monkeypatch)
    code = WRITE + f"open({str(tmp_path / 'ready')!r}, 'w'); import time; time.sleep(1000)"
    outcomes, saved, told = run([part("one", code)], [part("two", WRITE)], seconds=90)
    assert outcomes["one"].reason.startswith("killed after ")
    assert outcomes["one"].reason.endswith(" s, what was left of the total time")
    assert (outcomes["one"].result, outcomes["two"]) == ({"x": 1}, Outcome("not run", "no time left"))
    assert saved == [{"one": "failed"}, {"one": "failed", "two": "not run"}]
    assert told[-1] == "two: not run: no time left"


def test_a_part_that_does_not_fit_makes_room_for_a_shorter_one() -> None:
    long, short = part("long", WRITE, least=1001.0), part("short", WRITE, least=5.0)
    outcomes, _, _ = run([long], [short])
    assert [outcome.text for outcome in outcomes.values()] == ["not run: no time left", "passed"]


def test_a_part_that_cannot_run_here_is_not_started() -> None:
    outcomes, _, told = run([part("one", WRITE, why_not="needs a GPU")])
    assert outcomes == {"one": Outcome("not run", "needs a GPU")}
    assert told == ["one: not run: needs a GPU"]


def test_the_parts_of_a_stage_run_at_the_same_time(tmp_path: Path) -> None:
    """Each waits for the other's file."""
    code = "import os, sys, time\nopen({!r}, 'w')\nwhile not os.path.exists({!r}): time.sleep(0.01)\n"
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    outcomes, saved, _ = run([part("one", code.format(a, b) + WRITE), part("two", code.format(b, a) + WRITE)])
    assert [outcome.status for outcome in outcomes.values()] == ["passed", "passed"]
    assert len(saved) == 2


def test_parts_get_their_environment() -> None:
    code = "import json, os, sys; json.dump({'result': os.environ['GPU_TEST']}, open(sys.argv[1], 'w'))"
    outcomes, _, _ = run([part("one", code, environment={"GPU_TEST": "yes"})])
    assert outcomes["one"].result == "yes"


def test_asked_to_stop_it_kills_and_keeps_what_was_measured(tmp_path: Path) -> None:
    ready, saved = tmp_path / "ready", dict[str, Outcome]()
    code = WRITE + f"open({str(ready)!r}, 'w').write(str(__import__('os').getpid())); import time; time.sleep(1000)"
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        running.run(
            [[part("one", code), part("two", "input()")], [part("three", WRITE)]], 1000, saved.update,
            lambda _: None, lambda: signal.SIGTERM if ready.exists() and ready.read_text() else None,
        )  # fmt: skip
    assert (saved["one"].text, saved["one"].result) == ("failed: stopped by SIGTERM", {"x": 1})
    assert saved.keys() >= {"one", "two"}
    assert "three" not in saved
    assert not is_alive(int(ready.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command(tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    ready = tmp_path / "ready"
    stages = [[part("one", WRITE)], [part("two", WRITE + f"open({str(ready)!r}, 'w'); import time; time.sleep(1000)")]]

    def send() -> None:
        wait_until(ready.exists)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    sender = threading.Thread(target=send)
    sender.start()
    assert gpu_check.check(stages, 1000, tmp_path / "out", ABOUT) == 128 + number
    sender.join()
    assert signal.getsignal(number) is before
    name = signal.Signals(number).name
    found = json.loads((tmp_path / "out/gpu_check.json").read_text())["parts"]
    assert [one["status"] for one in found.values()] == ["passed", "failed"]
    assert (found["two"]["reason"], found["two"]["result"]) == (f"stopped by {name}", {"x": 1})
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f" s] stopped by {name}; what was measured is in {tmp_path / 'out'}")


@pytest.mark.parametrize(("code", "exit_code"), [(WRITE, 0), ("raise ValueError", 1)])
def test_results_are_on_disk_after_each_part(tmp_path: Path, code: str, exit_code: int) -> None:
    """The second part reads them."""
    file = tmp_path / "out/gpu_check.json"
    second = f"import json, sys; json.dump({{'result': json.load(open({str(file)!r}))}}, open(sys.argv[1], 'w'))"
    skipped = part("three", WRITE, why_not="needs a GPU")
    stages = [[part("one", code)], [part("two", second)], [skipped]]
    assert gpu_check.check(stages, 100, tmp_path / "out", ABOUT) == exit_code
    found = json.loads(file.read_text())
    assert {key: found[key] for key in ("command", "device", "batch_size", "commit", "date", "seconds_allowed")} == {
        "command": "python scripts/gpu_check.py", "device": "cuda", "batch_size": 128, "commit": "abc1234",
        "date": "2026-12-01", "seconds_allowed": 100,
    }  # fmt: skip
    read = found["parts"]["two"]["result"]["parts"]
    assert list(read) == ["one"]
    assert read["one"] == found["parts"]["one"]
    assert found["parts"]["three"]["status"] == "not run"
    page = (tmp_path / "out/gpu_check.md").read_text()
    assert "| `three` | the three part | not run: needs a GPU | – |" in page
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["gpu_check.json", "gpu_check.md"]


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu_check, "has_gpu", lambda: False)
    assert gpu_check.main([]) == 2
    told = "There is no CUDA device here; run this where there is one, or try it out with --device cpu.\n"
    assert capsys.readouterr() == (told, "")


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_check.main(["--parts", "trian_tiny"])
    assert "invalid choice: 'trian_tiny' (choose from " in capsys.readouterr().err


def test_the_command_line_chooses_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(gpu_check, "check", lambda *given_: given.append(given_) or 1)
    monkeypatch.setattr(gpu_check, "commit", lambda: None)
    words = ["--device", "cpu", "--parts", "tests", "infer_iso", "--output", str(tmp_path), "--seconds", "7"]
    assert gpu_check.main(words) == 1
    [(stages, seconds, output, about)] = given
    assert [[(one.name, one.why_not) for one in stage] for stage in stages] == [
        [("tests", "needs a GPU")],
        [("infer_iso", "")],
    ]
    assert (seconds, output, about.device, about.batch_size, about.commit) == (7, tmp_path, "cpu", 2, None)
    assert about.command == f"python scripts/gpu_check.py {' '.join(words)}"


def test_every_part_calls_a_function() -> None:
    functions = {row.function for row in parts.ROWS.values()}
    for function in functions:
        module, _, name = function.partition(":")
        assert callable(getattr(importlib.import_module(f"gpu_checks.{module}"), name))
    assert sum(map(len, parts.STAGES)) == len(parts.ROWS)


def test_parts_are_commands_of_the_script(tmp_path: Path) -> None:
    [[one]] = parts.stages("cpu", 2, tmp_path, ["kernels_fp32"])
    words = ["--device", "cpu", "--batch_size", "2", "--folder", tmp_path, "--part", "kernels_fp32", "--report", "r"]
    assert one.command(Path("r")) == [sys.executable, str(REPO / "scripts/gpu_check.py"), *map(str, words)]
    assert one.environment == {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}
    assert one.limit == 20 * parts.ROWS["kernels_fp32"].limit
    [[one]] = parts.stages("cuda", 128, tmp_path, ["kernels_bf16"])
    assert (one.limit, one.why_not, one.environment) == (150, "", {})


def test_a_part_reports_its_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(CPU, tmp_path / "report.json", tmp_path)

    def passes(given: Work, word: str) -> None:
        given.report(word)

    def fails(given: Work) -> None:
        given.report([1])
        raise PartFailed("1 of 2 is wrong")

    def breaks(given: Work) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setitem(sys.modules, "fake_part", SimpleNamespace(passes=passes, fails=fails, breaks=breaks))  # type: ignore[arg-type]
    assert work_on("fake_part:passes", ("word",), work) == 0
    assert json.loads(work.file.read_text()) == {"result": "word", "failure": ""}
    assert work_on("fake_part:fails", (), work) == 1
    assert json.loads(work.file.read_text()) == {"result": [1], "failure": "1 of 2 is wrong"}
    work = replace(work, file=tmp_path / "other.json")
    assert work_on("fake_part:breaks", (), work) == 1
    assert json.loads(work.file.read_text()) == {"result": None, "failure": "RuntimeError: first line"}
    with pytest.raises(ValueError, match="Out of range float"):
        work.report(float("nan"))


@pytest.fixture
def results() -> dict[str, Any]:
    """What the parts of a run report, with round numbers."""

    def record(model: str, variant: str, mode: str, rates: list[float], mib: float | None = 1000.0) -> dict[str, Any]:
        rate = sorted(rates)[len(rates) // 2]
        about = {"mode": mode, "precision": "bf16", "batch_size": 128, "image_size": 224, "rounds": len(rates)}
        share = {"images_per_s": rate, "rates": rates, "share_of_matmul": rate / 20000, "peak_memory_mib": mib}
        return {"model": model, "variant": variant, **about, **share}

    tiny, iso, deit = "inceptionnext_tiny", "inceptionnext_iso_small", "deit_small_patch16_224"
    train = [
        record(tiny, "eager", "train", [3000, 3100, 3200]),
        record(tiny, "kernels", "train", [5000, 5200, 5400], 800.0),
        record(tiny, "compile", "train", [4000, 4100, 4200], 900.0),
        record("convnext_tiny", "eager", "train", [2500, 2600, 3000]),
        record("convnext_tiny", "compile", "train", [3000, 3000, 3000]),
        record("inception_next_tiny", "eager", "train", [2500, 2500, 2500]),
    ]
    shape = {"kernels": "3×3, 1×11, 11×1", "map": "96×56×56", "models": [tiny, tiny], "type": "bf16"}
    errors = {"output": 2e-3, "input_grad": 1e-3, "parameter_grads": 1e-5}
    time = {"triton_us": 50.4, "torch_us": 151.2, "ratio": 3.0, "ratio_lower_quartile": 2.9}
    time |= {"ratio_upper_quartile": 3.2, "gb_per_s": 3059.0, "share_of_copy": 0.711}
    return {
        "environment": {
            "card": "NVIDIA H200", "versions": {"torch": "2.11.0", "triton": None, "cudnn": "91002"},
            "smi": {"driver_version": "580.1", "clocks.sm": "345 MHz"}, "smi_after_products": None,
            "matmul_tflop_per_s": {"bf16": 690.2, "tf32": 338.4, "fp32": 49.04}, "copy_gb_per_s": 4301.7,
        },
        "tests": {
            "outcomes": {
                "tests/a.py::test_a": "passed", "tests/a.py::test_b": "failed", "tests/a.py::test_c": "did not end",
                "tests/test_gpu.py::test_a_training_step_never_waits_for_the_gpu[bf16-mixed-plain-False]": "passed",
            }
        },
        "train_tiny": {"records": train, "left_out": []},
        "infer_iso": {
            "records": [
                record(iso, "eager", "infer", [99.0, 98.0], None), record(deit, "eager", "infer", [100.0, 100.0], None)
            ],
            "left_out": [],
        },
        "kernel_times": {
            "batch_size": 128, "copy_gb_per_s": 4301.7,
            "records": [
                {**shape, "mode": "forward", **time}, {**shape, "mode": "forward+backward", "error": "Error: a|b"},
            ],
        },
        "kernels_bf16": {
            "records": [
                {**shape, "triton": errors, "torch": errors | {"output": 4e-3}, "repeats": True, "right": True},
                {**shape, "right": False, "error": "RuntimeError: no"},
            ]
        },
        "fit_overhead": {
            "words": ["--model", tiny],
            "rounds": [{"bare_ms": 20, "fit_ms": 22, "ratio": 1.1}, {"bare_ms": 21, "fit_ms": 21.42, "ratio": 1.02}],
        },
        "fit_loader": {
            "words": ["--data.batch_size", "128"], "images_per_s": 2900.4, "share_of_waiting": 0.024, "images": 3840,
            "loader_processes": 14,
        },
    }  # fmt: skip


def test_the_tables(results: dict[str, Any]) -> None:
    outcomes = {name: Outcome("passed", "", 10.4, result) for name, result in results.items()}
    outcomes["tests"] = Outcome("failed", "2 of 4 tests failed: a|b", 61.0, results["tests"])
    outcomes["train_small"] = Outcome("not run", "no time left")
    titles = {name: f"what {name} does" for name in ("environment", "tests", "train_small", "infer_small")}
    written = documents.page(ABOUT, titles, outcomes, 480, 412.3)
    assert written == (REPO / "tests/gpu_check_page.md").read_text(encoding="utf-8")


def test_a_trial_on_a_cpu_compares_nothing_with_the_goals(results: dict[str, Any]) -> None:
    outcomes = {name: Outcome("passed", "", 1.0, result) for name, result in results.items()}
    written = documents.page(replace(ABOUT, device="cpu"), {}, outcomes, 480, 5)
    assert written.startswith(
        "# GPU check\n\n**A trial of the script on tiny models; no figure here says anything about a"
    )
    assert "## Goals" not in written
    assert "## Training and inference" in written


def test_goals_of_another_batch_size_are_marked(results: dict[str, Any]) -> None:
    for name in ("train_tiny", "infer_iso"):
        for record in results[name]["records"]:
            record["batch_size"] = 32
    written = tables.goals(results, GPU)
    assert written.startswith("The goals are for batch size 128, but this is batch size 32.\n\n| goal | at least |")


def test_tables_of_an_empty_run() -> None:
    written = documents.page(ABOUT, {}, {}, 480, 0)
    assert written.startswith(
        "# GPU check\n\nOn an unknown card, commit abc1234, 2026-12-01. The parts took 0 of 480 s"
    )
    assert "## " not in written


def test_a_result_of_another_form_does_not_keep_others_from_the_page(results: dict[str, Any]) -> None:
    results |= {"kernel_times": [], "infer_iso": {"rows": 1}, "environment": "odd"}
    outcomes = {name: Outcome("passed", "", 1.0, result) for name, result in results.items()}
    written = documents.page(ABOUT, {}, outcomes, 480, 5)
    errors = [line for line in written.splitlines() if line.startswith("This table cannot be written: ")]
    assert len(errors) == 2
    assert errors[0].endswith("TypeError: string indices must be integers, not 'str'. See gpu_check.json.")
    assert errors[1].endswith("TypeError: list indices must be integers or slices, not str. See gpu_check.json.")
    assert "| T trains, beside timm's T, eager | 2.00 | 2.08 (2.04–2.12) | kernels / eager | yes |" in written


def test_ratios_are_taken_within_a_round() -> None:
    assert tables.quartiles([10, 40, 30], [10, 20, 10]) == [1.5, 2.0, 2.5]
    assert tables.quartiles([30], [10]) == [3, 3, 3]


def test_goals_name_fields_of_the_settings() -> None:
    from gpu_checks.speed import GROUPS, cases

    for goal in tables.GOALS:
        measured = {(case.model, case.variant) for case in cases(GPU, goal.group)}
        assert {(getattr(GPU, goal.own), form) for form in goal.own_forms} <= measured
        assert (getattr(GPU, goal.other), goal.other_forms[0]) in measured
        assert goal.group in GROUPS


def run_script(folder: Path, *words: str) -> dict[str, Any]:
    """Run the real script on a CPU, and return what became of each part."""
    command = [sys.executable, str(REPO / "scripts/gpu_check.py"), "--device", "cpu", "--output", str(folder), *words]
    done = subprocess.run([*command, "--seconds", "3600"], cwd=folder.parent, capture_output=True, text=True)
    found: dict[str, Any] = json.loads((folder / "gpu_check.json").read_text())["parts"]
    wrong = {name: part["reason"] for name, part in found.items() if part["status"] == "failed"}
    assert (wrong, done.returncode, done.stderr) == ({}, 0, "")
    assert "cannot be written" not in (folder / "gpu_check.md").read_text()
    return found


@pytest.mark.slow
def test_the_script_on_a_cpu(tmp_path: Path) -> None:
    """Everything that needs neither a GPU nor Triton, on tiny models."""
    kernels = {"kernels_bf16", "kernels_fp16", "kernels_fp32", "kernel_times"}
    found = run_script(tmp_path / "out", "--parts", *(name for name in parts.ROWS if name not in kernels))
    needs_gpu = {name for name, part in found.items() if part["reason"] == "needs a GPU"}
    assert needs_gpu == {"tests", "compiling"}
    assert {part["status"] for name, part in found.items() if name not in needs_gpu} == {"passed"}
    assert found["environment"]["result"]["copy_gb_per_s"] > 0
    models = [record["model"] for record in found["train_tiny"]["result"]["records"]]
    assert models == [CPU.tiny, CPU.convnext, CPU.timm]
    assert found["fit_overhead"]["result"]["rounds"][0]["fit_ms"] > 0
    watched = found["fit_loader"]["result"]
    assert watched["images"] == CPU.steps * CPU.batch_size
    assert 0 <= watched["share_of_waiting"] < 1
    page = (tmp_path / "out/gpu_check.md").read_text()
    for title in ("Bounds", "Training and inference", "Fit"):
        assert f"\n## {title}\n" in page


@pytest.mark.slow
def test_the_kernels_in_the_interpreter(tmp_path: Path) -> None:
    found = run_script(tmp_path / "out", "--parts", "kernels_fp32", "kernels_fp16", "kernel_times")
    assert found["kernels_fp16"]["reason"] == "needs a GPU"
    assert all(record["right"] for record in found["kernels_fp32"]["result"]["records"])
    assert all(record["triton_us"] > 0 for record in found["kernel_times"]["result"]["records"])
    page = (tmp_path / "out/gpu_check.md").read_text()
    assert "\n## Errors of the kernels\n" in page
    assert "\n## Times of the kernels\n" in page
