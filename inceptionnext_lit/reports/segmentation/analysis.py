"""Everything that an evaluation says about one segmentation model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.confusion import Confusion, confusion_of
from inceptionnext_lit.reports.segmentation.metrics import SceneSummary, summarize_scenes
from inceptionnext_lit.reports.segmentation.table import SceneTable


@dataclass(frozen=True)
class SceneAnalysis:
    """An evaluation of one segmentation model.

    Attributes:
        table: Its predictions, with the weights that ``predict`` uses.
        weights: Which weights these are: ``raw`` or ``ema``.
        summary: Metrics over all images, per class, and of objects.
        other_weights: Metrics of the other weights by name, if there are any.
        confusion: Pixels by true and predicted class.
        palette: Color of each class.
        bootstrap: How intervals were computed.
    """

    table: SceneTable
    weights: str
    summary: SceneSummary
    other_weights: dict[str, SceneSummary]
    confusion: Confusion
    palette: Sequence[Sequence[int]]
    bootstrap: Bootstrap


def analyze_scenes(
    tables: Mapping[str, SceneTable], palette: Sequence[Sequence[int]], bootstrap: Bootstrap
) -> SceneAnalysis:
    """Evaluate predictions.

    Args:
        tables: The predictions of each set of weights by name, on the same images; the last one is analyzed, and of
            the others only metrics are computed.
        palette: Color of each class.
        bootstrap: How images are resampled.
    """
    *others, weights = tables
    table = tables[weights]
    return SceneAnalysis(
        table,
        weights,
        summarize_scenes(table, bootstrap),
        {name: summarize_scenes(tables[name], bootstrap) for name in others},
        confusion_of(table.matrix),
        palette,
        bootstrap,
    )
