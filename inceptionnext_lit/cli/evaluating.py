"""What ``validate`` and ``test`` print in the end."""

from collections import ChainMap
from collections.abc import Mapping, Sequence

from lightning.pytorch import LightningModule

from inceptionnext_lit.cli.continuing import say
from inceptionnext_lit.reports.evaluation import evaluation_lines


def print_figures(model: LightningModule, results: Sequence[Mapping[str, float]]) -> None:
    """Print a line for each kind of weights, and which of them ``predict`` uses.

    Args:
        model: The task; of one that cannot predict nothing is said of that.
        results: What Lightning's trainer returns.
    """
    has_average = getattr(model, "model_ema", None) is not None if getattr(model, "can_predict", False) else None
    if getattr(model, "hparams", {}).get("test_time_flip"):
        say("Each image is averaged with its mirror image, as in predict (model.test_time_flip).")
    for line in evaluation_lines(ChainMap(*map(dict, results)), has_average=has_average):
        say(line)
