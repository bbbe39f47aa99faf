"""The execution switches change how a model is computed, not its results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import SharedError, UserError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.callbacks.settings import differences
from inceptionnext_lit.training.execution import CompileMode, Execution
from tests.recipes import SMALL

MODELS = ["inceptionnext_nano", "inceptionnext_iso_micro", "metanext_attn_nano", "resnet10t"]


def gradients(name: str, execution: Execution) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    task = ClassificationTask(name, data_spec=DataSpec(num_classes=3), execution=execution).train()
    images = torch.randn(4, 3, 64, 64)
    logits = task.model(task._lay_out(images))
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    return logits.detach(), {key: p.grad for key, p in task.model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("execution", [Execution(channels_last=False), Execution(grad_checkpointing=True)])
def test_layout_and_checkpointing_leave_the_gradients(name: str, execution: Execution) -> None:
    logits, expected = gradients(name, Execution())
    other, found = gradients(name, execution)
    torch.testing.assert_close(other, logits, rtol=1e-4, atol=1e-5)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize(("on", "expected"), [(True, torch.channels_last), (False, torch.contiguous_format)])
def test_channels_last_is_a_switch(on: bool, expected: torch.memory_format) -> None:
    task = ClassificationTask(
        "inceptionnext_nano", data_spec=DataSpec(num_classes=3), execution=Execution(channels_last=on)
    )
    assert task._lay_out(torch.randn(2, 3, 8, 8)).is_contiguous(memory_format=expected)


def test_checkpointing_saves_no_activations_of_blocks() -> None:
    def saved(execution: Execution) -> int:
        task = ClassificationTask(
            "inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3), execution=execution
        ).train()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            task.model(torch.randn(2, 3, 28, 28))
        return sum(kept)

    assert saved(Execution(grad_checkpointing=True)) < saved(Execution()) / 3


def test_a_model_without_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"'mine' does not support gradient checkpointing; leave out model\.execution"):
        Execution(grad_checkpointing=True).prepare(nn.Linear(2, 2), "mine")


def test_a_mode_needs_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as error:
        Execution(compile_mode="reduce-overhead")
    assert str(error.value) == (
        "model.execution.compile_mode is reduce-overhead, but the model is not compiled; add --model.execution.compile "
        "true, or leave it out."
    )
    given = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: given.append(options))
    for execution in (
        Execution(),
        Execution(compile=True),
        Execution(compile=True, compile_mode="max-autotune"),
    ):
        execution.start(nn.Identity())
    assert given == [{"mode": "default"}, {"mode": "max-autotune"}]


def test_options_of_earlier_runs() -> None:
    now = {"model.execution.kernels": "torch", "model.execution.compile_mode": "default", "model.lr": 0.1}
    assert differences({"model.lr": 0.1}, now) == []
    assert differences({"model.lr": 0.1}, now | {"model.execution.kernels": "auto"}) == [
        "model.execution.kernels torch → auto"
    ]
    assert differences({"model.lr": 0.1}, {"model.lr": 0.1}) == []  # of another task


def fit(mode: CompileMode, **options: Any) -> ClassificationTask:
    images = torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.arange(8) % 3), batch_size=2)
    torch.manual_seed(0)
    task = ClassificationTask(
        "inceptionnext_iso_micro",
        kwargs={"depth": 1, "dim": 16},
        data_spec=DataSpec(num_classes=3),
        execution=Execution(compile=True, compile_mode=mode),
    )
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(task, loader, loader)
    return task


def test_cuda_graphs_are_for_training_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[bool] = []
    marked: list[int] = []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        return lambda *arguments: (ran.append(torch.is_grad_enabled()), graph(*arguments))[1]

    compile_ = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: compile_(module, backend=backend))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marked.append(len(ran)))
    fit("reduce-overhead", default_root_dir=tmp_path)
    assert ran == [True] * 4
    assert marked == [0, 1, 2, 3]


def test_cuda_graphs_do_not_accumulate(tmp_path: Path) -> None:
    with pytest.raises(SharedError) as error:
        fit("max-autotune", accumulate_grad_batches=4, default_root_dir=tmp_path)
    assert str(error.value) == (
        "model.execution.compile_mode max-autotune uses CUDA graphs, which cannot accumulate the gradients of 4 "
        "batches; raise --data.batch_size until a step is one batch, or leave the mode out."
    )


@pytest.mark.slow
def test_all_switches_by_config(cli: Callable[..., None], make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    cli(
        "fit", *SMALL, "--data.root", root, "--data.batch_size", 3, "--data.global_batch_size", 6,
        "--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", 0.5, "--trainer.max_epochs", 1,
        "--model.execution.grad_checkpointing", "true", "--model.execution.channels_last", "false",
        "--model.optimizer.name", "lamb", "--model.optimizer.layer_decay", 0.8, "--model.loss.name", "bce",
        "--model.loss.mix.cutmix", 1.0, "--data.augmentation.repeats", 2, "--model.ema_decay", 0.99,
    )  # fmt: skip
    stored = torch.load(tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)
    assert stored["global_step"] == 4
    assert stored["hyper_parameters"]["execution"] == {
        "channels_last": False, "compile": False, "grad_checkpointing": True, "dist_bn": "reduce",
        "test_time_flip": False, "compile_mode": "default", "kernels": "torch",
    }  # fmt: skip
    assert stored["run"]["trainer.precision"] == "bf16-mixed"
    assert stored["run"]["data.augmentation.repeats"] == 2
    rates = {group["initial_lr"] for group in stored["optimizer_states"][0]["param_groups"]}
    assert sorted(rates) == pytest.approx([3e-3 * 0.8**layer for layer in range(4, -1, -1)])
    assert all(value.isfinite().all() for value in stored["state_dict"].values())


@pytest.mark.slow
def test_a_compiled_run_has_plain_checkpoints(
    cli: Callable[..., None], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    words = ["fit", *SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.max_epochs", 1]
    words += ["--model.optimizer.name", "sgd", "--model.lr", 0.05]  # Adam makes a step of a rounding error
    cli(*words)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    cli(*words, "--model.execution.compile", "true")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    plain, compiled = (
        torch.load(tmp_path / f"runs/quickstart/version_{i}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for i in (0, 1)
    )
    assert list(compiled) == list(plain)
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-3, atol=1e-3)
    cli("predict", "--ckpt_path", "last", "--run_name", "quickstart", "--data.root", root / "val")
    assert (tmp_path / "predictions.csv").read_text().count("\n") == 10
