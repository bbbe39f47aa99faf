"""Cost of models, compared with the paper and with a reference model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import Any, Literal

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import VARIANTS, IsotropicMetaNeXt, model_names
from inceptionnext_lit.models.cost import Cost, Count, Size, count_model, count_segmenter
from inceptionnext_lit.models.segmenter import DecoderName
from inceptionnext_lit.reports.budget.paper import TABLES, PaperRow, PaperTable

Job = tuple[str, Size, str | None]  # a model, its image size, and its decoder
Agreement = Literal["once", "twice", "off"]

PARAMS_UNIT, MACS_UNIT = 10**6, 10**9  # of the papers' values
SEGMENTED = 256  # counts of segmenters are exact for multiples of this side
PAPER_DECODERS: dict[DecoderName, tuple[str, Size]] = {
    "upernet": ("UperNet", (512, 2048)),
    "semantic_fpn": ("SemanticFPN", (512, 512)),
}
"""The paper's names of the decoders, and the sizes that it counts them at."""

_DEIT = {192: "deit_tiny_patch16_224", 384: "deit_small_patch16_224", 768: "deit_base_patch16_224"}  # by width


@dataclass(frozen=True)
class BudgetRow:
    """A row of a report.

    Attributes:
        label: The model's name in the paper, or else in timm.
        model: Its name in timm, with its decoder.
        size: Height and width of the image in pixels.
        cost: Our count.
        paper: The paper's row; None if it has none.
        table: Heading of the paper's table; None if it has none.
        verdict: ``ok``, ``ok (rounded twice)``, or a verdict with its reason: ``known difference: …``, ``off: …``,
            ``not counted: …``, ``no paper figure``.
        against: Name of the reference model, if any.
        reference: Cost of the reference model.
    """

    label: str
    model: str
    size: Size
    cost: Cost
    paper: PaperRow | None
    table: str | None
    verdict: str
    against: str | None = None
    reference: Cost | None = None

    @property
    def failed(self) -> bool:
        """Whether the row is an error: a model of ours that is off, or any model that is not fully counted."""
        return self.verdict.startswith("not counted") or (is_ours(self.model) and self.verdict.startswith("off"))

    def record(self) -> dict[str, Any]:
        """Return the row as plain values under the report's stable names."""
        paper, cost = self.paper, self.cost
        return {
            "model": self.model,
            "image_size": self.size[0] if self.size[0] == self.size[1] else list(self.size),
            "params": cost.params,
            "macs": cost.macs,
            "activations": cost.activations,
            "paper_params_m": float(paper.params) if paper and paper.params else None,
            "paper_macs_g": float(paper.macs) if paper and paper.macs else None,
            "paper_top1": paper.top1 if paper else None,
            "table": self.table,
            "verdict": self.verdict,
        }


def is_ours(model: str) -> bool:
    """Return whether a model, alone or with a decoder, belongs to this family."""
    return architecture(model.partition(" + ")[0]) in model_names()


def architecture(name: str) -> str:
    """Return a model's name without the tag of its weights."""
    return name.partition(".")[0]


def agreement(count: int, unit: int, printed: str) -> Agreement:
    """Check whether a count rounds to a printed value.

    Args:
        count: Our count.
        unit: Unit of the printed value, such as 10⁶.
        printed: The value with the paper's digits.

    Returns:
        ``"once"`` if it does; ``"twice"`` if it does after rounding to one more digit, if that leaves a tie (28.052 to
        28.05 to 28.0), as for a value cut from a longer one; ``"off"`` if not.
    """
    value, target = Decimal(count) / unit, Decimal(printed)
    step = Decimal(1).scaleb(int(target.as_tuple().exponent))
    if value.quantize(step, ROUND_HALF_UP) == target:
        return "once"
    longer = value.quantize(step / 10, ROUND_HALF_EVEN)
    return "twice" if abs(longer - target) * 2 == step else "off"


def judge(count: Count, paper: PaperRow | None) -> str:
    """Return the verdict on a count compared with the paper's values.

    Args:
        count: Our count.
        paper: The paper's row; None if it has none.
    """
    verdict = _compare(count, paper)
    return f"{verdict}; counted in the merged form" if count.merged else verdict


def _compare(count: Count, paper: PaperRow | None) -> str:
    if count.uncounted:
        operators = ", ".join(f"{name} (×{times})" for name, times in sorted(count.uncounted.items()))
        return f"not counted: {operators}"
    if paper is None:
        return "no paper figure"
    values = [
        ("M parameters", count.total.params, PARAMS_UNIT, paper.params),
        ("G MACs", count.total.macs, MACS_UNIT, paper.macs),
    ]
    found = {what: agreement(value, unit, printed) for what, value, unit, printed in values if printed}
    if not found:
        return f"no paper figure: {paper.note}"
    if "off" in found.values():
        if paper.note:
            return f"known difference: {paper.note}"
        off = [f"{v / u:.2f} {what}, not {p}" for what, v, u, p in values if found.get(what) == "off"]
        return f"off: {' and '.join(off)}"
    return "ok (rounded twice)" if "twice" in found.values() else "ok"


def paper_jobs(tables: Sequence[PaperTable] = TABLES) -> list[Job]:
    """Return everything that tables of the paper need counted, without repetitions."""
    rows = (row for table in tables for row in table.rows)
    return list(dict.fromkeys((row.model, row.image_size, row.decoder) for row in rows))


def tables_of(task: Literal["classify", "segment"] | None) -> list[PaperTable]:
    """Return the paper's tables of a task; all without one.

    Args:
        task: The task.
    """
    return [table for table in TABLES if task is None or (table.rows[0].decoder is not None) == (task == "segment")]


def paper_report(
    tables: Sequence[PaperTable] = TABLES, tick: Callable[[str], None] = lambda _: None
) -> list[BudgetRow]:
    """Count each model of the paper's tables.

    Args:
        tables: The tables.
        tick: Called with a model's name when its count begins.

    Returns:
        One row per row of the tables, in the same order.
    """
    counts: dict[Job, Count] = {}
    for job in paper_jobs(tables):
        tick(job[0])
        counts[job] = _count(job)
    return [_paper_row(row, table.name, counts) for table in tables for row in table.rows]


def model_report(
    names: Iterable[str], size: Size | None = None, against: str | None = None
) -> list[tuple[BudgetRow, Count]]:
    """Count models by name.

    Args:
        names: Any timm model names.
        size: Height and width of the image in pixels; each model's own by default.
        against: Name of the reference model; by default DeiT of the same width, for isotropic models.

    Returns:
        A row and its count for each name.

    Raises:
        UserError: If the model is unknown, or it cannot process images of this size.
    """
    report = []
    for name in names:
        count, used = count_model(name, size)
        paper, table = _paper_line(name, used, None)
        held_to = against or reference_of(name)
        reference = _reference(held_to, used) if held_to else None
        row = BudgetRow(name, name, used, count.total, paper, table, judge(count, paper), held_to, reference)
        report.append((row, count))
    return report


def segmenter_report(
    names: Iterable[str],
    decoders: Sequence[DecoderName] = ("upernet", "semantic_fpn"),
    size: Size | None = None,
    against: str | None = None,
) -> list[tuple[BudgetRow, Count]]:
    """Count models with segmentation decoders, for ADE20K's 150 classes.

    Args:
        names: Any timm model names.
        decoders: The decoders.
        size: Height and width of the image in pixels; by default the paper's: 512×2048 for UperNet, 512×512 for
            Semantic FPN.
        against: Name of the reference model, which gets the same decoder.

    Returns:
        A row and its count for each decoder and name.

    Raises:
        UserError: If the model is unknown, it has no feature maps for a decoder, or the sides of the images are not
            multiples of 256.
    """
    if size is not None and any(side % SEGMENTED for side in size):
        raise UserError(
            f"--image_size is {size[0]}×{size[1]}; with --task segment the sides must be multiples of {SEGMENTED}."
        )
    report = []
    for decoder in decoders:
        title, usual = PAPER_DECODERS[decoder]
        used = size or usual
        reference = None if against is None else _reference(against, used, title)
        for name in names:
            count = count_segmenter(name, title, used)
            paper, table = _paper_line(name, used, title)
            label = f"{name} + {title}"
            row = BudgetRow(label, label, used, count.total, paper, table, judge(count, paper), against, reference)
            report.append((row, count))
    return report


def _reference(name: str, size: Size, decoder: str | None = None) -> Cost:
    count = _count((name, size, decoder))
    if count.uncounted:
        raise UserError(f"{name} cannot be a reference: {judge(count, None)}; give another model with --against.")
    return count.total


def reference_of(name: str) -> str | None:
    """Return the reference of an isotropic model of this family: the DeiT of the same width, if there is one."""
    widths = {row.name: row.args["dim"] for row in VARIANTS if row.form is IsotropicMetaNeXt}
    return _DEIT.get(widths.get(architecture(name), 0))


def _count(job: Job) -> Count:
    model, size, decoder = job
    return count_segmenter(model, decoder, size) if decoder else count_model(model, size)[0]


def _paper_row(row: PaperRow, table: str, counts: dict[Job, Count]) -> BudgetRow:
    count = counts[row.model, row.image_size, row.decoder]
    name = f"{row.model} + {row.decoder}" if row.decoder else row.model
    return BudgetRow(row.label, name, row.image_size, count.total, row, table, judge(count, row))


def _paper_line(name: str, size: Size, decoder: str | None) -> tuple[PaperRow, str] | tuple[None, None]:
    for table in TABLES:
        for row in table.rows:
            if (row.model, row.image_size, row.decoder) == (architecture(name), size, decoder) and row.params:
                return row, table.name
    return None, None
