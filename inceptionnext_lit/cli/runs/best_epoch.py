"""The metrics of a run's best epoch."""

import csv
from pathlib import Path
from typing import Any

import yaml

from inceptionnext_lit.errors import UserError


def best_epoch(run_folder: Path) -> dict[str, Any]:
    """Return the metrics of a run's best epoch.

    Args:
        run_folder: Its folder, with ``config.yaml`` and ``metrics.csv``.

    Returns:
        ``run``, ``monitor``, and ``figures``: the metrics by name.

    Raises:
        UserError: If it has not been validated.
    """
    if not (run_folder / "config.yaml").is_file() or not (run_folder / "metrics.csv").is_file():
        raise UserError(f"{run_folder} has no validation; train for at least one epoch.")
    kept = yaml.safe_load((run_folder / "config.yaml").read_text(encoding="utf-8"))["checkpoint"]
    with (run_folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get(kept["monitor"], "nan") not in ("", "nan")]
    if not rows:
        raise UserError(f"{run_folder} has no validation with {kept['monitor']}; train for at least one epoch.")
    best = (max if kept["mode"] == "max" else min)(rows, key=lambda row: float(row[kept["monitor"]]))
    metrics = {key: float(value) for key, value in best.items() if key.startswith("val") and value}
    return {"run": str(run_folder), "monitor": kept["monitor"], "figures": metrics}
