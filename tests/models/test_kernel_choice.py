"""The choice between torch's form of a mixer and a Triton kernel, with kernels and times that tests give."""

import importlib
import json
import multiprocessing
import random
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from inceptionnext_lit.machine import CACHE_VARIABLE
from inceptionnext_lit.models.kernels import choice
from inceptionnext_lit.models.kernels.choice import Form, units, use, why_not
from inceptionnext_lit.models.kernels.recording import Case, record
from inceptionnext_lit.models.kernels.remembered import Remembered
from inceptionnext_lit.models.kernels.trials import Step, Verdict, choose, judge, time_alternately
from inceptionnext_lit.models.metanext import MetaNeXtBlock
from inceptionnext_lit.models.mixers import DepthwiseConv2d, InceptionDWConv2d
from inceptionnext_lit.training.batchnorm import CrossRankBatchNorm
from tests.recipes import BACKENDS

CPU = torch.device("cpu")
Timer = Callable[[Mapping[Form, Step], torch.device], Mapping[Form, float]]


def small(name: str = "inceptionnext_nano", **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, depths=(1, 1, 2, 1), dims=(16, 32, 64, 128), **arguments)


def timer(torch_ms: float, triton_ms: float) -> Timer:
    return lambda steps, device: {"torch": torch_ms, "triton": triton_ms}


class Mixer(DepthwiseConv2d):
    """A mixer whose kernel adds a number, or raises an error."""

    wrong: float | Exception = 0.0

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.kernels != "triton":
            return out
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return out + self.wrong


def case_of(mixer: nn.Module, x: Tensor, *, compiled: bool = False) -> Case:
    model = nn.Sequential(nn.Conv2d(x.shape[1], x.shape[1], 1), mixer)
    [case] = record(model, lambda: model(x), compiled=compiled).values()
    return case


BLOCKS = [f"stages.{stage}.blocks.{block}" for stage, block in ((0, 0), (1, 0), (2, 0), (2, 1), (3, 0))]


def test_blocks_without_dilation_have_kernels() -> None:
    assert list(units(small())) == BLOCKS
    assert list(units(small(output_stride=16))) == BLOCKS[:-1]
    assert not units(timm.create_model("resnet10t"))
    assert not units(timm.create_model("metanext_attn_nano", depth=1, dim=48))
    assert list(units(timm.create_model("convnext_iso_nano", depth=2, dim=32))) == ["blocks.0", "blocks.1"]
    assert list(units(InceptionDWConv2d(16))) == [""]


def test_mixers_in_other_systems_have_kernels() -> None:
    with torch.device("meta"):
        model = timm.create_model("convformer_s18_inception")
    assert all(isinstance(unit, InceptionDWConv2d) for unit in units(model).values())
    assert len(units(model)) == 28


def test_use_sets_the_form_of_some_or_all_blocks() -> None:
    model = small(output_stride=16)
    assert use(model, "triton", [BLOCKS[0], "head"]) == [BLOCKS[0]]
    blocks = [model.get_submodule(name) for name in BLOCKS]
    assert [block.token_mixer.kernels for block in blocks] == ["triton", "torch", "torch", "torch", "torch"]
    assert [block.mlp.kernels for block in blocks] == ["triton", "torch", "torch", "torch", "torch"]
    assert use(model, "triton") == BLOCKS[:-1]
    assert [block.token_mixer.kernels for block in blocks] == ["triton"] * 4 + ["torch"]
    use(model, "torch")
    assert {block.token_mixer.kernels for block in blocks} == {"torch"}
    assert not [key for key in model.state_dict() if "kernels" in key]


def test_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(choice.importlib, "import_module", lambda name: None)
    assert why_not("cpu") == "no CUDA device"
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert why_not("cuda") == "Triton needs a GPU of compute capability 7.0, and this one has 6.1"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert why_not("cuda:1") == ""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert why_not("cpu") == ""

    def broken(name: str) -> None:
        raise OSError("libtriton.so: undefined symbol\nmore")

    monkeypatch.setattr(choice.importlib, "import_module", broken)
    assert why_not("cuda") == "Triton cannot be imported: libtriton.so: undefined symbol"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert why_not("cuda") == "Triton is not installed"


def test_recording_finds_what_mixers_compute() -> None:
    model = small().to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        cases = record(model, lambda: model(images), compiled=True)
    assert list(cases) == BLOCKS
    first, last = cases["stages.0.blocks.0"], cases["stages.3.blocks.0"]
    assert (first.shape, first.strides) == ((2, 16, 16, 16), (4096, 1, 256, 16))
    assert (first.computed_in, first.weights, first.layers[0]) == ("bfloat16", "float32", "MetaNeXtBlock 16")
    assert "token_mixer.dwconv_w HorizontalConv2d 2×1×1×11 2" in first.layers
    assert "norm BatchNorm2d 16 16 training" in first.layers
    assert first.kernels == ("3×3:2", "1×11:2", "11×1:2")
    assert (last.shape, last.compiled) == ((2, 128, 2, 2), True)
    assert str(first) == "2×16×16×16 in bfloat16"
    one, other = (cases[f"stages.2.blocks.{block}"] for block in range(2))
    assert (one.dtype, other.dtype) == ("bfloat16", "float32")  # of a convolution, and of a sum
    assert replace(one, dtype="float32") == other


def test_recording_changes_nothing() -> None:
    model = small(drop_path_rate=0.5, drop_rate=0.5).train()
    model.stages[0].eval()
    use(model, "triton")
    model.register_forward_pre_hook(lambda module, inputs: (torch.rand(()), None)[1])  # draws a number in any mode
    before = deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    record(model, lambda: model(torch.zeros(2, 3, 64, 64)), compiled=False)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for name, module in model.named_modules() if name)


def test_recording_restores_the_model_after_an_error() -> None:
    model = small().train()
    with pytest.raises(ValueError, match="mine"):
        record(model, lambda: (_ for _ in ()).throw(ValueError("mine")), compiled=False)
    assert model.stages[1].training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_gradients_are_those_that_the_run_needs() -> None:
    model = small()
    model.stem.requires_grad_(False)
    model.stages[0].requires_grad_(False)
    cases = list(record(model, lambda: model(torch.zeros(2, 3, 64, 64)), compiled=False).values())
    # the first trained block begins with its downsampling layer
    assert [(case.needs_input, case.needs_weights) for case in cases[:2]] == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("times", "form", "reason"),
    [
        ((1.0, 0.5), "triton", "faster"),
        ((1.04, 1.0), "triton", "faster"),
        ((1.02, 1.0), "torch", "not faster"),
        ((1.0, 2.0), "torch", "not faster"),
    ],
)
def test_a_kernel_must_be_worth_it(times: tuple[float, float], form: Form, reason: str) -> None:
    mixer, x = Mixer(8, 3), torch.randn(2, 8, 6, 6)
    assert judge(case_of(mixer, x), mixer, timer(*times)) == Verdict(form, reason, *times)
    assert mixer.kernels == "torch"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (0.5, r"its output differs from torch's by up to \d+\.\d% of the largest value"),
        (float("nan"), r"its output differs from torch's by up to nan% of the largest value"),
        (RuntimeError("out of resource: shared memory\nRequired: 300000"), "out of resource: shared memory"),
        (ValueError(""), "ValueError"),
    ],
)
@pytest.mark.parametrize("times", [None, (9.0, 1.0)])
def test_a_kernel_that_fails_loses(
    wrong: float | Exception, reason: str, times: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mixer, "wrong", wrong)
    mixer = Mixer(8, 3)
    verdict = judge(case_of(mixer, torch.randn(2, 8, 6, 6)), mixer, None if times is None else timer(*times))
    assert (verdict.form, verdict.failed, verdict.torch_ms) == ("torch", True, None)
    assert re.fullmatch(reason, verdict.reason)


def test_wrong_gradients_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(self: Mixer, x: Tensor) -> Tensor:
        out = DepthwiseConv2d.forward(self, x)
        return out if self.kernels == "torch" else 2 * out - out.detach()  # the same output

    monkeypatch.setattr(Mixer, "forward", doubled)
    mixer, x = Mixer(8, 3), torch.randn(2, 8, 6, 6)
    assert judge(case_of(mixer, x), mixer, None).reason.startswith("its input gradient differs from torch's by up to 1")
    model = nn.Sequential(mixer)
    [case] = record(model, lambda: model(x), compiled=False).values()
    assert not case.needs_input
    assert judge(case, mixer, None).reason.startswith("its weight gradient differs from torch's by up to 1")
    model.requires_grad_(False)
    [case] = record(model, lambda: model(x), compiled=False).values()
    assert judge(case, mixer, None) == Verdict("triton", "not timed")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_both_forms_of_a_block_see_the_same_numbers(precision: torch.dtype) -> None:
    """Also with drop path, which is random, and with norms in training."""
    block = MetaNeXtBlock(32, drop_path=0.5).train()
    model, x = nn.Sequential(nn.Conv2d(3, 32, 1), block), torch.randn(4, 3, 9, 9)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        [case] = record(model, lambda: model(x), compiled=False).values()
        assert judge(case, block, timer(2, 1)) == Verdict("triton", "faster", 2, 1)
    assert block.norm.running_mean.count_nonzero() == 0
    assert block.drop_path.training


def test_synchronized_norms_do_not_wait_for_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    forward = CrossRankBatchNorm.forward
    monkeypatch.setattr(CrossRankBatchNorm, "forward", lambda norm, x: modes.append(norm.training) or forward(norm, x))
    model, x = nn.Sequential(MetaNeXtBlock(8, norm_layer=CrossRankBatchNorm)).train(), torch.randn(2, 8, 6, 6)
    [case] = record(model, lambda: model(x), compiled=False).values()
    assert judge(case, model[0], None).form == "triton"
    assert set(modes) == {False}
    assert model[0].norm.training


def test_judging_changes_neither_the_mixer_nor_random_states() -> None:
    mixer, x = InceptionDWConv2d(16), torch.randn(2, 16, 6, 6)
    before, state = deepcopy(mixer.state_dict()), torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        assert judge(case_of(mixer, x), mixer, timer(2, 1)).form == "triton"
    case_state = torch.get_rng_state()
    assert all(torch.equal(value, before[key]) for key, value in mixer.state_dict().items())
    assert all(parameter.grad is None for parameter in mixer.parameters())
    torch.set_rng_state(state)
    nn.Conv2d(16, 16, 1)  # what case_of draws
    assert torch.equal(torch.get_rng_state(), case_state)


def test_compiled_models_are_timed_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: compiled.append(options) or call)
    mixer, x = Mixer(8, 3), torch.randn(2, 8, 6, 6)
    judge(case_of(mixer, x), mixer, timer(2, 1))
    assert not compiled
    judge(case_of(mixer, x, compiled=True), mixer, None)  # tried, but not timed
    assert not compiled
    judge(case_of(mixer, x, compiled=True), mixer, timer(2, 1))
    assert compiled == [{"dynamic": False}] * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_cases_are_compiled_than_dynamo_keeps_for_a_function(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **options: compile_(call, backend=backend, **options))
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in range(3, 6):
            mixer, x = Mixer(4, 3), torch.randn(2, 4, size, size)
            assert judge(case_of(mixer, x, compiled=True), mixer, timer(2, 1)).form == "triton"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 2 * 3


def test_times_are_medians_of_alternating_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    clock = [0.0]

    def step(form: Form, seconds: float) -> Step:
        def run() -> list[Tensor]:
            order.append(form)
            clock[0] += seconds if order.count(form) != 6 else 10 * seconds  # a slow one
            return []

        return run

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    found = time_alternately({"torch": step("torch", 0.010), "triton": step("triton", 0.020)}, CPU)
    assert found == pytest.approx({"torch": 10.0, "triton": 20.0})
    assert order[-4:] == ["torch", "triton", "torch", "triton"]


@pytest.fixture
def case() -> Case:
    return case_of(Mixer(8, 3), torch.zeros(2, 8, 6, 6))


def memory(path: Path | None = None) -> tuple[Remembered, list[str]]:
    told: list[str] = []
    return Remembered(CPU, told.append, path), told


def test_times_are_remembered(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    first, _ = memory()
    assert first.find(case) is None
    first.keep({case: choose({"torch": 3.0, "triton": 1.5})})
    second, told = memory()
    assert second.find(case) == Verdict("triton", "faster, as timed by an earlier run", 3.0, 1.5)
    assert second.path == tmp_path / "cache/kernels.json"
    assert not told
    assert second.find(replace(case, shape=(2, 8, 6, 7))) is None
    assert second.find(replace(case, compiled=True)) is None
    monkeypatch.setattr(torch, "__version__", "0.1")
    assert memory()[0].find(case) is None
    monkeypatch.undo()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("inceptionnext_lit.models.kernels.remembered._source_hash", lambda: "other")
    assert memory()[0].find(case) is None


def test_failures_are_not_remembered(case: Case, tmp_path: Path) -> None:
    place = tmp_path / "kernels.json"
    memory(place)[0].keep({case: Verdict("torch", "out of resource", failed=True)})
    assert not place.exists()


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "it is not JSON"), ("[1]", "it is not a table of times"), ("", "it is not JSON")]
)
def test_a_broken_file_is_replaced(case: Case, tmp_path: Path, content: str, problem: str) -> None:
    place = tmp_path / "kernels.json"
    place.write_bytes(content.encode("latin-1"))
    remembered, told = memory(place)
    assert told == [f"earlier times in {place} are not used: {problem}"]
    assert remembered.find(case) is None
    remembered.keep({case: choose({"torch": 1.0, "triton": 2.0})})
    assert memory(place)[0].find(case) == Verdict("torch", "not faster, as timed by an earlier run", 1.0, 2.0)
    assert len(told) == 1


@pytest.mark.parametrize("entry", [3, {}, {"torch": 1.0}, {"torch": "1", "triton": 2.0}])
def test_a_broken_entry_is_measured_again(case: Case, tmp_path: Path, entry: object) -> None:
    place = tmp_path / "kernels.json"
    first, _ = memory(place)
    first.keep({case: choose({"torch": 1.0, "triton": 2.0})})
    place.write_text(json.dumps(dict.fromkeys(json.loads(place.read_text()), entry)))
    assert memory(place)[0].find(case) is None


def test_an_unwritable_folder_is_said(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remembered, told = memory(tmp_path / "file" / "kernels.json")
    remembered.keep({case: choose({"torch": 1.0, "triton": 2.0})})
    assert told == [f"the times cannot be remembered in {remembered.path}: File exists"]


def _keep(place: Path, case: Case, number: int) -> None:
    for width in range(20):
        memory(place)[0].keep({replace(case, shape=(number, width)): choose({"torch": 1.0, "triton": 2.0})})


def test_processes_may_write_at_once(case: Case, tmp_path: Path) -> None:
    place = tmp_path / "kernels.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_keep, args=(place, case, number)) for number in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    last, told = memory(place)
    assert not told
    assert any(last.find(replace(case, shape=(number, 19))) is not None for number in (1, 2))
    assert list(tmp_path.iterdir()) == [place]


def test_the_file_stays_small(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.models.kernels.remembered._MOST", 3)
    place = tmp_path / "kernels.json"
    for width in range(5):
        memory(place)[0].keep({replace(case, shape=(1, width)): choose({"torch": 1.0, "triton": 2.0})})
    known = [memory(place)[0].find(replace(case, shape=(1, width))) is not None for width in range(5)]
    assert known == [False, False, True, True, True]
