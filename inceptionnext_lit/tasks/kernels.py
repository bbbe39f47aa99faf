"""Choose between Triton kernels and torch's operators when a run begins (``model.execution.kernels``)."""

import csv
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from inceptionnext_lit.console import LineConsole
from inceptionnext_lit.models.kernels.choice import units, use, why_not
from inceptionnext_lit.models.kernels.recording import Case, record
from inceptionnext_lit.models.kernels.remembered import Remembered
from inceptionnext_lit.models.kernels.trials import Timer, Verdict, judge, time_alternately
from inceptionnext_lit.program import relative
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.training.clock import Timekeeper
from inceptionnext_lit.training.execution import Kernels
from inceptionnext_lit.training.finetuning import trainable
from inceptionnext_lit.wording import count, first_line, listed

KEY = "kernels"  # in checkpoints
NAME = "kernels.csv"
_COLUMNS = ("layers", "kernels", "shape", "dtype", "form", "torch_ms", "triton_ms", "reason")


@dataclass(frozen=True)
class Row:
    """The form of the parts of a model that compute the same.

    Attributes:
        layers: Their names in the model.
        case: What they compute.
        verdict: Their form, and why.
    """

    layers: tuple[str, ...]
    case: Case
    verdict: Verdict

    def stored(self) -> dict[str, Any]:
        """Return what a checkpoint has of it, as plain data."""
        return {"layers": list(self.layers), "case": self.case.key, **vars(self.verdict)}

    def record(self) -> dict[str, Any]:
        """Return its columns in the run's table."""
        case, verdict = self.case, self.verdict
        shown = {of: "" if ms is None else f"{ms:.4f}" for of, ms in
                 (("torch_ms", verdict.torch_ms), ("triton_ms", verdict.triton_ms))}  # fmt: skip
        return {
            "layers": " ".join(self.layers),
            "kernels": " ".join(case.kernels),
            "shape": "×".join(map(str, case.shape)),
            "dtype": case.computed_in,
            "form": verdict.form,
            **shown,
            "reason": verdict.reason,
        }


class KernelChoice(Callback):
    """Choose the form of each mixer before the first step, print the choice, and store it in checkpoints.

    The first batch passes the model once in evaluation mode to find out what its parts compute; this changes neither
    the model nor any random state. The first rank chooses for all.

    Args:
        asked: ``auto`` times both forms, unless an earlier run has; ``triton`` uses the kernels where they work.
        timer: Times both forms of a mixer; None for :func:`time_alternately`.
    """

    def __init__(self, asked: Kernels, timer: Timer | None = None) -> None:
        self._asked = asked
        self._timer = timer or time_alternately
        self._earlier: list[dict[str, Any]] | None = None
        self._rows: list[dict[str, Any]] = []
        self._due = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the forms, or those to continue with if the first batch is still to come."""
        rows = self._earlier if self._due else self._rows
        if rows is not None:
            checkpoint[KEY] = {"asked": self._asked, "rows": rows}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the forms of the run to continue, unless the option has changed."""
        stored = checkpoint.get(KEY)
        if stored is not None and stored["asked"] == self._asked == "auto":
            self._earlier = stored["rows"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out whether there is something to choose, and say why not."""
        model: nn.Module = pl_module.model  # type: ignore[assignment]
        reason = "" if units(model) else "the model has no mixer that a kernel replaces"
        reason = reason or why_not(pl_module.device)
        if trainer.strategy.reduce_boolean_decision(not reason):
            if self._asked == "auto" and self._earlier is None and torch.are_deterministic_algorithms_enabled():
                reason = "auto depends on times, which differ between runs, and trainer.deterministic is set"
        else:
            reason = reason or "another rank cannot run Triton"
        self._due = not reason
        if reason:
            _apply(pl_module, [])
            _say(trainer, f"torch's form of the mixers: {reason}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Choose, before the first batch."""
        if self._due:
            self._due = False
            started = time.monotonic()
            self._choose(trainer, pl_module, batch)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Timekeeper):
                    callback.leave_out(time.monotonic() - started)

    def _choose(self, trainer: Trainer, pl_module: Any, batch: Any) -> None:
        folder = trainer.log_dir  # a broadcast, so every rank must read it
        model, execution = pl_module.model, pl_module.execution
        with trainer.precision_plugin.train_step_context():
            try:
                with trainable(model, pl_module.phases.later):  # as after the linear probe
                    cases = record(model, lambda: model(pl_module.model_input(batch)), compiled=execution.compile)
            except Exception as error:  # a task of one's own may have any batches
                _say(trainer, f"torch's form of the mixers: the first batch cannot be run ({first_line(error)})")
                cases = {}
            rows = self._judge(trainer, model, cases) if trainer.is_global_zero else []
        rows = trainer.strategy.broadcast(rows)
        self._rows = [row.stored() for row in rows]
        _apply(pl_module, [name for row in rows if row.verdict.form == "triton" for name in row.layers])
        if rows and trainer.is_global_zero:
            _report(trainer, rows, None if folder is None else Path(folder) / NAME)

    def _judge(self, trainer: Trainer, model: nn.Module, cases: Mapping[str, Case]) -> list[Row]:
        """Return the form of each case."""
        layers: dict[Case, list[str]] = defaultdict(list)
        for name, case in cases.items():
            layers[case].append(name)
        times = self._asked == "auto" and self._earlier is None
        device = next(model.parameters()).device
        memory = Remembered(device, lambda problem: _say(trainer, problem)) if times and layers else None
        rows, measured = [], dict[Case, Verdict]()
        for case, names in layers.items():
            known = memory.find(case) if memory is not None else self._as_before(case, names)
            if known is not None and known.form == "torch":
                verdict = known
            else:
                verdict = judge(case, model.get_submodule(names[0]), self._timer if times and known is None else None)
                if known is None:
                    measured[case] = verdict
                elif not verdict.failed:
                    verdict = known
            rows.append(Row(tuple(names), case, verdict))
        if memory is not None:
            memory.keep(measured)
        return rows

    def _as_before(self, case: Case, names: Iterable[str]) -> Verdict | None:
        """Return the form in the run that is continued; None if there is none to keep."""
        if self._earlier is None:
            return None
        said = "as in the checkpoint's run"
        row = next((row for row in self._earlier if set(names) & set(row["layers"])), None)
        if row is None:
            return Verdict("torch", said)
        same = row["case"] == case.key
        return Verdict(row["form"], said, *((row["torch_ms"], row["triton_ms"]) if same else ()))


def _apply(pl_module: Any, names: list[str]) -> None:
    """Set the form of the mixers of the model and of its average."""
    average = getattr(pl_module, "model_ema", None)
    for model in (pl_module.model, *(() if average is None else (average.module,))):
        use(model, "torch")
        use(model, "triton", names)


def _report(trainer: Trainer, rows: list[Row], path: Path | None) -> None:
    """Print the choice, and write a table of it."""
    problems: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.verdict.failed:
            problems[row.verdict.reason][str(row.case)] = None
    for reason, shapes in problems.items():
        _say(trainer, f"torch's form for {listed(list(shapes))}, since the kernel fails: {reason}")
    used = [row for row in rows if row.verdict.form == "triton"]
    numbers = [sum(len(row.layers) for row in of) for of in (used, rows)]
    text = f"Triton for {numbers[0]} of {count(numbers[1], 'mixer')}"
    times = [(len(row.layers), row.verdict.torch_ms, row.verdict.triton_ms) for row in used]
    if times and all(before is not None and now is not None for _, before, now in times):
        ratio = sum(n * (before or 0) for n, before, _ in times) / sum(n * (now or 0) for n, _, now in times)
        text += f", there {ratio:.2f} times as fast as torch's form"
    if path is not None:
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(row.record() for row in rows)
        text += f"; details in {relative(str(path))}"
    _say(trainer, text)


def _say(trainer: Trainer, text: str) -> None:
    if trainer.is_global_zero:
        LineConsole().print(f"Kernels:    {text}")
