import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.recipes import REPO


def loaded_after(*statements: str) -> list[set[str]]:
    """Return the top-level packages that a new interpreter has imported after each of some statements."""
    told = "print(*{name.partition('.')[0] for name in sys.modules})"
    script = "\n".join(["import sys", *(line for statement in statements for line in (statement, told))])
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in run.stdout.splitlines()]


@pytest.mark.slow
def test_importing_the_package_with_timm_costs_little_more_than_timm() -> None:
    """In one interpreter, since starting one takes seconds; models need torch and timm, but not Lightning."""
    statements = ["import timm", "import inceptionnext_lit", "import inceptionnext_lit.models"]
    timm, package, models = loaded_after(*statements)
    assert package - timm == {"inceptionnext_lit", "wrapt"}
    assert {"torch", "timm"} <= models
    assert not {"lightning", "lightning_fabric", "pytorch_lightning", "torchmetrics"} & models


def test_the_doctor_needs_neither_lightning_nor_torch() -> None:
    [loaded] = loaded_after("import inceptionnext_lit.cli.commands.doctor, inceptionnext_lit.doctor.page")
    assert {"PIL", "numpy", "rich"} <= loaded
    assert not {"torch", "torchvision", "timm", "lightning"} & loaded


# Which other packages each package may import; imports have one direction.
ALLOWED = {
    "models": set(),
    "data": set(),
    "doctor": {"data"},
    "prepare": {"data"},
    "training": set(),
    "tasks": {"models", "training"},
    "predict": {"data", "export", "models", "tasks", "training"},
    "export": {"data", "models", "tasks", "training"},
    "reports": {"data", "export", "models", "tasks", "training"},
    "serve": {"data", "predict", "reports"},
    "cli": {"data", "doctor", "export", "models", "predict", "prepare", "reports", "serve", "tasks", "training"},
}
# what every package may import
FREE = {
    *("allocator", "choices", "console", "data_spec", "errors", "lightning_compat", "machine", "predictions"),
    *("preprocessing", "printing", "program", "renamed", "safe_load", "safe_save", "seeding", "wording"),
}


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_have_one_direction(package: str) -> None:
    for path in (REPO / "inceptionnext_lit" / package).rglob("*.py"):
        for name in re.findall(r"^\s*(?:from|import) inceptionnext_lit\.(\w+)", path.read_text(), re.MULTILINE):
            assert name in ALLOWED[package] | FREE | {package}, f"{path.name} imports {name}"


# which folders of cli each of them may import; they also import its modules
ALLOWED_IN_CLI = {
    "runs": set(),
    "recipes": {"runs"},
    "parsing": {"recipes", "runs"},
    "evaluate": {"runs"},
    "explain": set(),
    "transfer": {"runs"},
}


@pytest.mark.parametrize("package", ALLOWED_IN_CLI)
def test_imports_within_the_command_line_have_one_direction(package: str) -> None:
    folders = {path.parent.name for path in (REPO / "inceptionnext_lit/cli").glob("*/__init__.py")}
    assert folders == {*ALLOWED_IN_CLI, "commands"}
    for path in (REPO / "inceptionnext_lit/cli" / package).rglob("*.py"):
        found = set(re.findall(r"^\s*(?:from|import) inceptionnext_lit\.cli\.(\w+)", path.read_text(), re.MULTILINE))
        assert found & folders <= ALLOWED_IN_CLI[package] | {package}, path.name


def test_every_package_ships() -> None:
    shipped = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in (REPO / "inceptionnext_lit").rglob("__init__.py")}
    found = {".".join(folder.relative_to(REPO).parts) for folder in folders}
    assert sorted(shipped) == sorted([*found, "inceptionnext_lit.configs"])


def imports(path: Path, modules: Collection[str]) -> set[str]:
    """Return the package's modules that a module imports, at the top or in a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    own = found & set(modules)
    return {name for name in own if not any(other.startswith(f"{name}.") for other in own)}


@pytest.mark.slow
def test_there_are_no_import_cycles() -> None:
    root = REPO / "inceptionnext_lit"
    paths = {".".join(path.relative_to(REPO).with_suffix("").parts): path for path in root.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    order = TopologicalSorter({name: imports(path, modules) for name, path in modules.items()})
    order.prepare()  # raises a CycleError that names the cycle
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
    assert "inceptionnext_lit.doctor.report" in imports(modules["inceptionnext_lit.doctor.writing"], modules)


def test_what_a_command_imported_is_not_collected_at_its_end() -> None:
    script = (
        "import atexit, gc; from inceptionnext_lit.cli import import_heavy\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000, gc.isenabled()))\n"  # runs last
        "import_heavy('xml.dom.minidom')"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "True True\n"


def test_the_package_alone_imports_nothing_heavy() -> None:
    [loaded] = loaded_after("import inceptionnext_lit.cli")
    assert not {"torch", "timm", "lightning"} & loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import timm, inceptionnext_lit",
        "import inceptionnext_lit, timm",
        "import inceptionnext_lit; from timm.models import is_model",
        "import timm.layers; import inceptionnext_lit",
        "import inceptionnext_lit.models.mixers",
    ],
)
def test_models_are_registered_in_any_order_of_imports(statement: str) -> None:
    script = f"{statement}; import timm; print(timm.is_model('inceptionnext_iso_small'))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"
