"""The study of mixers and MLPs: budgets, and runs of a few steps."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import run_script
from tests.recipes import REPO

# in a process of its own, since importing the study registers its models
COSTS = """
import sys
sys.path.insert(0, "examples")
import design_study
for group, systems in design_study.GROUPS.items():
    for system in systems:
        cost = design_study.cost(system)
        print(group, system.name, cost.params, cost.macs)
"""


@pytest.mark.slow
def test_the_budgets_of_a_group_are_within_two_percent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COSTS], capture_output=True, text=True, cwd=REPO, timeout=300, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 17
    first: dict[str, tuple[int, int]] = {}
    for group, _, params, macs in rows:
        base = first.setdefault(group, (int(params), int(macs)))
        assert abs(int(params) / base[0] - 1) < 0.02
        assert abs(int(macs) / base[1] - 1) < 0.02
    assert len(first) == 5


@pytest.mark.slow
def test_runs_are_kept_and_tabulated(tmp_path: Path) -> None:
    words = ["--groups", "caformer", "--seeds", 2, "--rounds", 1, "--seconds", 0.1, "--output", tmp_path / "out"]
    fit = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1]
    tables = []
    for _ in range(2):
        done = run_script(REPO / "examples/design_study.py", [*words, *fit], tmp_path)
        assert done.returncode == 0, done.stderr
        tables.append([line for line in done.stdout.splitlines() if line.startswith("| caformer")])
    assert "epoch 1/1" not in done.stdout  # nothing is trained twice
    header, first, second = map(cells, tables[1])
    assert header[3:5] == ["fashion (%)", "digits (%)"]
    assert [row[0] for row in (first, second)] == ["caformer_nano", "caformer_nano_inception"]
    scores = [float(row[place].split(" ± ")[0]) for row in (first, second) for place in (3, 4)]
    assert all(0 <= score <= 60 for score in scores)
    assert [row[1:5] for row in map(cells, tables[0])] == [row[1:5] for row in map(cells, tables[1])]
    assert re.search(r"<svg", (tmp_path / "out/design_study.svg").read_text())
    results = sorted(path.parent.name for path in (tmp_path / "out").glob("*/result.json"))
    assert len(results) == 8


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
