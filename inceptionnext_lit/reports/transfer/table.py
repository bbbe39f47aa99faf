"""The table of a transfer run as Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from inceptionnext_lit.reports.transfer.cells import Cell, Protocol
from inceptionnext_lit.reports.transfer.scores import METRICS
from inceptionnext_lit.wording import count, printable

COLUMNS = ("protocol", "model", "data", "metric", "mean", "std", "runs", "values", "seconds", "failure", "notes")
MEANINGS: dict[Protocol, str] = {
    "finetune": "all layers are trained on the training images; the validation images choose the best epoch (and the "
    "learning rate, if a grid is given). A seed varies the new classifier, the order of the images, their augmentation "
    "and, without a validation split, the held-back images",
    "linear": "logistic regression (L-BFGS) on the features; the validation images choose the penalty, then it is "
    "fitted to training and validation images. A seed varies only the held-back images, so with a validation split "
    "there is one run and no ±",
    "knn": "20 nearest neighbors by cosine similarity among training and validation images, temperature 0.07. There is "
    "nothing that a seed could vary: one run and no ±",
}


def markdown(cells: Sequence[Cell], notes: Sequence[str], seeds: int) -> str:
    """Return the tables of all protocols, with models in rows and data sets in columns.

    Args:
        cells: All cells, in order.
        notes: Remarks on models and data sets, without periods.
        seeds: Number of seeds.
    """
    finished = sum(bool(cell.results) for cell in cells)
    lines = ["# Transfer", ""]
    over = f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    lines += [f"Percent on the test images; {over}. {finished} of {count(len(cells), 'cell')} finished.", ""]
    marks = _Marks()
    for protocol in dict.fromkeys(cell.protocol for cell in cells):
        own = [cell for cell in cells if cell.protocol == protocol]
        data = {cell.data: METRICS[cell.metric] for cell in own}
        lines += [f"## {protocol}", "", _row(["model", *(f"{name}, {metric}" for name, metric in data.items())])]
        lines.append("|---|" + "---:|" * len(data))
        for model in dict.fromkeys(cell.model for cell in own):
            of_data = {cell.data: cell for cell in own if cell.model == model}
            lines.append(_row([model, *(_shown(of_data[name], marks) for name in data)]))
        lines += ["", f"{protocol}: {MEANINGS[protocol]}.", ""]
    lines += [f"[{number}] {printable(note)}." for number, note in enumerate(marks.notes, start=1)]
    lines += [f"- {printable(note)}." for note in notes]
    return "\n".join(line for line in _spaced(lines)) + "\n"


def csv_text(cells: Iterable[Cell]) -> str:
    """Return one row per cell; means and standard deviations are fractions."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        row = record(cell)
        joined = {"values": " ".join(map(str, row["values"])), "notes": "; ".join(row["notes"])}
        writer.writerow({name: (row | joined)[name] for name in COLUMNS})
    return text.getvalue()


def record(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain data."""
    return {
        "protocol": cell.protocol,
        "model": cell.model,
        "data": cell.data,
        "metric": cell.metric,
        "mean": cell.mean,
        "std": cell.std,
        "runs": len(cell.results),
        "values": [one.value for one in cell.results],
        "seconds": round(sum(one.seconds for one in cell.results), 3),
        "failure": cell.failure,
        "notes": cell.notes,
        "results": [asdict(one) for one in cell.results],
    }


def percent(cell: Cell) -> str:
    """Return a cell's mean and standard deviation in percent, such as ``91.23 ± 0.45``."""
    if cell.mean is None:
        return "failed" if cell.failure else "–"
    return f"{100 * cell.mean:.2f}" + ("" if cell.std is None else f" ± {100 * cell.std:.2f}")


class _Marks:
    """Numbers of the footnotes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def of(self, note: str) -> str:
        if note not in self.notes:
            self.notes.append(note)
        return f"[{self.notes.index(note) + 1}]"


def _shown(cell: Cell, marks: _Marks) -> str:
    notes = [cell.failure.rstrip(".")] if cell.failure and not cell.results else cell.notes
    return " ".join([percent(cell), *map(marks.of, notes)])


def _row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(printable(text).replace("|", "\\|") for text in texts) + " |"


def _spaced(lines: Sequence[str]) -> Iterable[str]:
    """Put each footnote into a paragraph of its own."""
    for line in lines:
        yield line
        if line.startswith("["):
            yield ""
