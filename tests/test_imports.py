import subprocess
import sys


def loaded_after(statement: str) -> set[str]:
    """Names of the top-level packages that a fresh interpreter has loaded after a statement."""
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_models_need_torch_and_timm_but_not_lightning() -> None:
    loaded = loaded_after("import inceptionnext_lit.models")
    assert {"torch", "timm"} <= loaded
    assert not {"lightning", "lightning_fabric", "pytorch_lightning", "torchmetrics"} & loaded
