import argparse
import ast
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonargparse
import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torchmetrics import MeanMetric

from inceptionnext_lit import lightning_compat as compat
from tests.recipes import REPO


def subclass_parser() -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--size", type=int | None)
    return parser


class Unparsed(LightningCLI):
    def parse_arguments(self, parser: Any, args: Any) -> None:
        raise InterruptedError


def cli() -> LightningCLI:
    made = Unparsed.__new__(Unparsed)
    with pytest.raises(InterruptedError):
        made.__init__(BoringModel, args=["fit"])  # type: ignore[misc]
    return made


def trainer() -> Trainer:
    return Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")


# creates the object that has the private names
OWNERS: dict[str, Callable[[], Any]] = {
    "argparse.ArgumentParser": argparse.ArgumentParser,
    "argparse": lambda: argparse,
    "jsonargparse.ActionTypeHint": lambda: compat.option(subclass_parser(), "size"),
    "jsonargparse": lambda: jsonargparse,
    "jsonargparse._loaders_dumpers": lambda: jsonargparse._loaders_dumpers,
    "LightningCLI": lambda: LightningCLI,
    "ExperimentWriter": lambda: ExperimentWriter,
    "CSVLogger": lambda: CSVLogger("."),
    "TensorBoardLogger": lambda: TensorBoardLogger("."),
    "ModelCheckpoint": ModelCheckpoint,
    "EarlyStopping": lambda: EarlyStopping("val/acc1"),
    "_Loop": lambda: _Loop,
    "_FitLoop": lambda: trainer().fit_loop,
    "_TrainingEpochLoop": lambda: trainer().fit_loop.epoch_loop,
    "Trainer": trainer,
    "DDPStrategy": DDPStrategy,
    "Metric": MeanMetric,
}


def missing(name: str) -> str | None:
    """Describe a private name that a library no longer has; None if it exists."""
    owner, _, attribute = name.rpartition(".")
    found = cli() if name == "LightningCLI._subcommand_parsers" else OWNERS[owner]()
    if hasattr(found, attribute):
        return None
    return (
        f"{name} is gone from the installed release: see what took its place, change inceptionnext_lit/"
        f"lightning_compat.py, and set the bound in pyproject.toml. Why it is used: {compat.PRIVATE_NAMES[name]}."
    )


@pytest.mark.parametrize("name", compat.PRIVATE_NAMES)
def test_the_installed_release_has_it(name: str) -> None:
    sentence = missing(name)
    assert sentence is None, sentence


def test_a_name_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(LightningCLI, "_parse_ckpt_path")
    assert str(missing("LightningCLI._parse_ckpt_path")).startswith("LightningCLI._parse_ckpt_path is gone from")


LIBRARIES_OF_THEIR_OWN = {  # private names of torch, fvcore and torchvision, each with its purpose
    *("_C", "_BatchNorm", "_conv_forward", "_dynamo", "_get_tracing_state", "_inductor", "_initialized"),
    *("_is_in_bad_fork", "_pytree", "_distributed_c10d", "_DEFAULT_SUPPORTED_OPS", "_step_supports_amp_scaling"),
    # ExecuTorch's reader and writer of files; tests/export/test_export_mobile.py uses them
    *("_deserialize_pte_binary", "_serialize", "_serialize_pte_binary"),
    # a layer's hooks, with which it must be called; tests/kernels/test_kernel_mixers.py registers some
    *("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks"),
    # the files of torchvision's data sets; tests/prepare reads each of them in small
    *("_ARCHIVES", "_FILES", "_image_files", "_images", "_samples"),
}
PUBLIC_IN_EFFECT = {"_exit", "_replace"}  # documented by Python: os._exit, namedtuple


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def private_names(tree: ast.AST) -> set[str]:
    """Return the private names of other modules that a module uses: attributes and imports."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, (*FUNCTIONS, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            own.add(node.attr)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - own
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("inceptionnext_lit"):
            used |= {part for alias in node.names for part in [*(node.module or "").split("."), alias.name]}
    return {name for name in used if name.startswith("_") and not name.startswith("__")}


def modules() -> dict[Path, ast.AST]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in (REPO / "inceptionnext_lit").rglob("*.py")}


def test_no_other_module_uses_private_names() -> None:
    trees = modules()
    ours = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS) and node.name.startswith("_")
    }
    ours |= {
        node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    here_alone = {name.rpartition(".")[2] for name in compat.PRIVATE_NAMES}
    allowed = LIBRARIES_OF_THEIR_OWN | PUBLIC_IN_EFFECT | (ours - here_alone)
    del trees[Path(compat.__file__)]
    found = {path.name: private_names(tree) - allowed for path, tree in trees.items()}
    assert {name: names for name, names in found.items() if names} == {}
    assert private_names(ast.parse("trainer._logger_connector; from lightning.pytorch.loops.loop import _Loop")) == {
        "_logger_connector",
        "_Loop",
    }


def test_every_private_name_has_its_reason() -> None:
    tree = modules()[Path(compat.__file__)]
    used = private_names(tree) | {
        node.name for node in ast.walk(tree) if isinstance(node, FUNCTIONS) and node.name.startswith("_")
    }
    used -= {"__init__"}
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    used |= {text for text in strings if text.startswith("_") and text.isidentifier()}
    stored = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    documented = {name.rpartition(".")[2] for name in compat.PRIVATE_NAMES}
    owners = {part for name in compat.PRIVATE_NAMES for part in name.split(".")}
    assert {name for name in used | stored if not name.startswith("__")} <= documented | owners
    assert all(reason and not reason.endswith(".") for reason in compat.PRIVATE_NAMES.values())


def test_upper_bounds_go_with_the_private_names() -> None:
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    bounded = ["lightning>=2.6,<2.7", "jsonargparse[signatures]>=4.53,<4.54", "torchmetrics>=1.4.1,<2"]
    for requirement in (*bounded, "executorch>=1.5.1,<1.6"):
        assert f'"{requirement}"' in text


def test_start_method_and_timeout_of_strategies() -> None:
    ddp, single = DDPStrategy(start_method="fork"), SingleDeviceStrategy("cpu")
    assert [compat.start_method(strategy) for strategy in (ddp, DDPStrategy(), single)] == ["fork", "popen", None]
    for strategy in (ddp, single):
        compat.set_timeout_of(strategy, timedelta(seconds=7))
    assert compat.timeout_of(ddp) == timedelta(seconds=7)
    assert compat.timeout_of(single) is None
