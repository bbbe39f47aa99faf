"""Predictions and the file they are written to."""

import csv
import json
from pathlib import Path
from typing import Any, TypedDict, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from inceptionnext_lit.errors import UserError


class Predictions(TypedDict):
    """What ``predict_step`` returns for a batch of N images; k is 5, or the number of classes if fewer.

    Attributes:
        paths: The N files.
        classes: Indices of the k most probable classes, shape (N, k), best first.
        probabilities: Their probabilities, shape (N, k).
    """

    paths: list[str]
    classes: Tensor
    probabilities: Tensor


class PredictionWriter(Callback):
    """Writes a row per image: ``path``, ``label``, ``probability`` and ``top5``, the best labels with theirs.

    In a CSV file the ``top5`` cell is a JSON object. The file appears when it is complete; an interrupted
    run leaves none.

    Args:
        output: Target file, ``.csv`` or ``.json``.

    Raises:
        UserError: If the ending is another, or the target is a folder.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        if self.output.suffix not in (".csv", ".json"):
            raise UserError(f"--output is {output}; it must end in .csv or .json.")
        if self.output.is_dir():
            raise UserError(f"--output is {output}, a folder; name a file in it.")
        self._rows: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse several processes; see :func:`check_single_process`."""
        check_single_process(trainer)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's rows."""
        predictions = cast(Predictions, outputs)
        names = cast(list[str], pl_module.class_names)
        for path, classes, probabilities in zip(
            predictions["paths"],
            predictions["classes"].tolist(),
            predictions["probabilities"].tolist(),
            strict=True,
        ):
            top5 = {names[index]: round(value, 6) for index, value in zip(classes, probabilities, strict=True)}
            label = names[classes[0]]
            self._rows.append({"path": path, "label": label, "probability": top5[label], "top5": top5})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file in one go.

        Raises:
            UserError: If the file cannot be written there.
        """
        partial = self.output.with_name(f".{self.output.name}.partial")
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", newline="", encoding="utf-8") as file:
                if self.output.suffix == ".json":
                    json.dump(self._rows, file, indent=1, ensure_ascii=False)
                else:
                    writer = csv.writer(file)
                    writer.writerow(["path", "label", "probability", "top5"])
                    for row in self._rows:
                        top5 = json.dumps(row["top5"], ensure_ascii=False)
                        writer.writerow([row["path"], row["label"], row["probability"], top5])
            partial.replace(self.output)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(f"The predictions could not be written to {self.output}: {error.strerror}.") from error
        Console(soft_wrap=True).print(
            f"{len(self._rows)} predictions written to {self.output}", highlight=False, markup=False
        )


def check_single_process(trainer: Trainer) -> None:
    """Refuse several processes, each of which would write its own share of the rows over the others'.

    Raises:
        UserError: If there is more than one.
    """
    if trainer.world_size > 1:
        raise UserError(f"predict runs on one device, not {trainer.world_size}; leave out --trainer.devices.")
