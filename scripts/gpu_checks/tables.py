"""Tables in Markdown, with results by the name of their part. Ratios are taken within a round of one run."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_checks.running import Outcome
from gpu_checks.settings import Settings
from inceptionnext_lit.reports.tables import render_table
from inceptionnext_lit.wording import count

Results = Mapping[str, Any]
Record = Mapping[str, Any]
_NO_WAIT = "test_a_training_step_never_waits_for_the_gpu[bf16-mixed"


@dataclass(frozen=True)
class Goal:
    """A ratio to reach.

    Attributes:
        text: The goal.
        group: The part that measures both sides.
        own: The field of :class:`Settings` with the faster model.
        own_forms: Its forms, of which the fastest counts.
        other: The field with the slower model.
        other_forms: Its forms, of which the fastest counts.
        ratio: The least ratio.
    """

    text: str
    group: str
    own: str
    own_forms: tuple[str, ...]
    other: str
    other_forms: tuple[str, ...]
    ratio: float


_EAGER, _COMPILED = ("eager", "kernels"), ("compile", "compile+kernels")
_DEPLOYED = ("deploy+compile", "deploy+compile+kernels")
GOALS = (
    Goal("T trains, beside ConvNeXt-T, both eager", "train_tiny", "tiny", _EAGER, "convnext", _EAGER, 1.57),
    Goal("T trains, beside ConvNeXt-T, both compiled", "train_tiny", "tiny", _COMPILED, "convnext", _COMPILED, 1.57),
    Goal("T trains, beside timm's T, eager", "train_tiny", "tiny", (*_EAGER, *_COMPILED), "timm", ("eager",), 2.0),
    Goal("T trains, beside timm's T, compiled", "train_tiny", "tiny", _COMPILED, "timm", ("compile",), 1.3),
    Goal("T infers, beside ConvNeXt-T, both eager", "infer_tiny", "tiny", _EAGER, "convnext", _EAGER, 1.3),
    Goal("T infers, beside ConvNeXt-T, both compiled", "infer_tiny", "tiny", _COMPILED, "convnext", _COMPILED, 1.3),
    Goal(
        "T infers, beside ConvNeXt-T, both `deploy+compile`",
        "infer_tiny",
        "tiny",
        _DEPLOYED,
        "convnext",
        _DEPLOYED,
        1.3,
    ),
    Goal("isotropic S trains, beside DeiT-S, both eager", "train_iso", "iso", _EAGER, "deit", _EAGER, 1.0),
    Goal("isotropic S trains, beside DeiT-S, both compiled", "train_iso", "iso", _COMPILED, "deit", _COMPILED, 1.0),
    Goal("isotropic S infers, beside DeiT-S, both eager", "infer_iso", "iso", _EAGER, "deit", _EAGER, 1.0),
    Goal("isotropic S infers, beside DeiT-S, both compiled", "infer_iso", "iso", _COMPILED, "deit", _COMPILED, 1.0),
    Goal(
        "isotropic S infers, beside DeiT-S, both `deploy+compile`",
        "infer_iso",
        "iso",
        _DEPLOYED,
        "deit",
        _DEPLOYED,
        1.0,
    ),
)


def parts(titles: Mapping[str, str], outcomes: Mapping[str, Outcome]) -> str:
    """Return what became of each part."""
    lines = []
    for name, title in titles.items():
        outcome = outcomes.get(name)
        spent = "–" if outcome is None or outcome.seconds is None else f"{outcome.seconds:.0f}"
        lines.append([f"`{name}`", title, "not run yet" if outcome is None else _cell(outcome.text), spent])
    return _table(["part", "what", "result", "s"], lines, ["s"])


def bounds(results: Results, settings: Settings) -> str:
    """Return the versions, and what the card can do."""
    if (found := results.get("environment")) is None:
        return ""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items() if number is not None)
    lines = [["card", found["card"]], ["versions", versions]]
    for when, key in (("", "smi"), (" after the products", "smi_after_products")):
        if said := found.get(key):
            lines.append([f"`nvidia-smi`{when}", ", ".join(f"{name} {value}" for name, value in said.items())])
    for precision, rate in found.get("matmul_tflop_per_s", {}).items():
        lines.append([f"matrix products, {precision}", f"{_figures(rate)} TFLOP/s"])
    if (copied := found.get("copy_gb_per_s")) is not None:
        lines.append(["copy, bytes read and written", f"{copied:,.0f} GB/s"])
    return _table(["", ""], lines)


def tests(results: Results, settings: Settings) -> str:
    """Return how many tests passed, and which did not."""
    if (found := results.get("tests")) is None:
        return ""
    outcomes: Mapping[str, str] = found["outcomes"]
    kinds = ("passed", "failed", "skipped", "did not end")
    counts = [f"{number} {kind}" for kind in kinds if (number := list(outcomes.values()).count(kind))]
    text = f"`pytest -m gpu`: {', '.join(counts) or 'none ran'}."
    waits = [outcome for name, outcome in outcomes.items() if _NO_WAIT in name]
    if waits:
        text += f" No step waits for the GPU in `bf16-mixed` with gradient clipping: {waits.count('passed')} of "
        text += f"{len(waits)} passed."
    return "\n".join(
        [text, "", *(f"- `{name}` {one}" for name, one in outcomes.items() if one not in ("passed", "skipped"))]
    )


def goals(results: Results, settings: Settings) -> str:
    """Return the goals beside what was reached: the fastest form of each side that the goal allows."""
    measured = [record for goal in GOALS for record in results.get(goal.group, {}).get("records", [])]
    if not measured or settings.device == "cpu":  # tiny models stand for those of the goals
        return ""
    lines = []
    for goal in GOALS:
        records = results.get(goal.group, {}).get("records", [])
        own = _fastest(records, getattr(settings, goal.own), goal.own_forms)
        other = _fastest(records, getattr(settings, goal.other), goal.other_forms)
        if own is None or other is None:
            lines.append([goal.text, f"{goal.ratio:.2f}", "not measured", "–", "–"])
            continue
        lower, middle, upper = quartiles(own["rates"], other["rates"])
        verdict = "yes" if middle >= goal.ratio else "no"
        forms = f"{own['variant']} / {other['variant']}"
        lines.append([goal.text, f"{goal.ratio:.2f}", f"{middle:.2f} ({lower:.2f}–{upper:.2f})", forms, verdict])
    head = ["goal", "at least", "ratio (quartiles)", "forms", "reached"]
    sizes = {(record["batch_size"], settings.batch_size) for record in measured}
    others = [
        f"The goals are for batch size {goal}, but this is batch size {size}.\n\n"
        for size, goal in sizes
        if size != goal
    ]
    return "".join(others) + _table(head, lines, ["at least"])


def speed(results: Results, settings: Settings) -> str:
    """Return images/s of each model in each form, a table for each run."""
    found = []
    for name, result in results.items():
        if not name.startswith(("train_", "infer_")) or not result.get("records"):
            continue
        records: Sequence[Record] = result["records"]
        first = records[0]
        forms = [form for form in settings.variants if any(record["variant"] == form for record in records)]
        rates = {(record["model"], record["variant"]): record["images_per_s"] for record in records}
        shares = {(record["model"], record["variant"]): record["share_of_matmul"] for record in records}
        lines = [
            [f"`{model}`", *(_rate(rates.get((model, form)), shares.get((model, form))) for form in forms)]
            for model in dict.fromkeys(record["model"] for record in records)
        ]
        what = {"train": "training", "infer": "inference"}[first["mode"]]
        about = f"{what}, {first['precision']}, batch size {first['batch_size']}, {first['image_size']} pixels, "
        about += f"channels-last, {first['rounds']} rounds"
        found.append(f"`{name}`: images/s in {about}; in parentheses the share of matrix products.\n")
        found.append(_table(["model", *forms], lines, forms))
    return "\n".join(found)


def memory(results: Results, settings: Settings) -> str:
    """Return the peak memory of a training step with and without the kernels."""
    lines = []
    for name in ("train_tiny", "train_small", "train_iso"):
        records = results.get(name, {}).get("records", [])
        peaks = {(record["model"], record["variant"]): record["peak_memory_mib"] for record in records}
        for (model, form), peak in peaks.items():
            other = peaks.get((model, "kernels" if form == "eager" else f"{form}+kernels"))
            if peak and other:
                lines.append([f"`{model}`", form, f"{peak:,.0f}", f"{other:,.0f}", f"{other / peak:.2f}"])
    head = ["model", "form", "without kernels, MiB", "with, MiB", "ratio"]
    return _table(head, lines, head[2:]) if lines else ""


def kernel_times(results: Results, settings: Settings) -> str:
    """Return the times of the kernels beside torch's."""
    if (found := results.get("kernel_times")) is None:
        return ""
    lines = []
    for one in found["records"]:
        about = [one["kernels"], one["map"], ", ".join(one["models"]), one["type"], one["mode"]]
        if "error" in one:
            lines.append([*about, _cell(one["error"]), "–", "–", "–", "–"])
            continue
        spread = f"{one['ratio_lower_quartile']:.2f}–{one['ratio_upper_quartile']:.2f}"
        rate = [f"{one['gb_per_s']:,.0f}", f"{one['share_of_copy']:.0%}"]
        lines.append(
            [*about, _figures(one["triton_us"]), _figures(one["torch_us"]), f"{one['ratio']:.2f} ({spread})", *rate]
        )
    head = [
        "kernels",
        "map",
        "models",
        "type",
        "pass",
        "Triton, µs",
        "torch, µs",
        "ratio (quartiles)",
        "GB/s",
        "of copy",
    ]
    text = f"Batch size {found['batch_size']}, channels-last; a ratio above 1 means that the kernels are faster. GB/s "
    text += "count each number as read and written once. Maps are read from memory, but small results may stay in a "
    text += "cache. A copy reaches "
    return f"{text}{found['copy_gb_per_s']:,.0f} GB/s.\n\n{_table(head, lines, head[5:])}"


def kernel_errors(results: Results, settings: Settings) -> str:
    """Return the errors of the kernels and of torch against double precision."""
    lines = []
    for kind in ("bf16", "fp32", "fp16"):
        for one in results.get(f"kernels_{kind}", {}).get("records", []):
            about = [one["kernels"], one["map"], one["type"]]
            if "error" in one:
                lines.append([*about, _cell(one["error"]), "–", "–", "–", "no"])
                continue
            pairs = [
                f"{one['triton'][key]:.0e} / {one['torch'][key]:.0e}"
                for key in ("output", "input_grad", "parameter_grads")
            ]
            lines.append([*about, *pairs, "yes" if one["repeats"] else "no", "yes" if one["right"] else "no"])
    head = ["kernels", "map", "type", "output", "input's gradient", "parameters' gradients", "repeatable", "right"]
    text = "Largest errors of Triton / torch, relative to the largest value in double precision.\n\n"
    return text + _table(head, lines) if lines else ""


def fit(results: Results, settings: Settings) -> str:
    """Return the overhead of ``fit``, and its speed with the loader."""
    found = []
    if (overhead := results.get("fit_overhead")) and (rounds := overhead["rounds"]):
        bare, fitted, ratio = (statistics.median(one[key] for one in rounds) for key in ("bare_ms", "fit_ms", "ratio"))
        command = f"python examples/fit_overhead.py {' '.join(overhead['words'])}"
        found.append(
            f"A step takes {bare:.1f} ms in a bare loop and {fitted:.1f} ms in `fit`, {100 * (ratio - 1):+.1f}% "
            f"(median of {count(len(rounds), 'round')} of `{command}`)."
        )
    if loaded := results.get("fit_loader"):
        command = f"python cli.py fit {' '.join(loaded['words'])}"
        found.append(
            f"`fit` trains {_figures(loaded['images_per_s'])} images/s and waits {loaded['share_of_waiting']:.0%} of "
            f"the time for {loaded['loader_processes']} loader processes ({loaded['images']:,} images after "
            f"{settings.warm_up} steps of `{command}`)."
        )
    return "\n\n".join(found)


def quartiles(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the quartiles of the ratios within rounds."""
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    return statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios


def _fastest(records: Sequence[Record], model: str, forms: Sequence[str]) -> Record | None:
    allowed = [record for record in records if record["model"] == model and record["variant"] in forms]
    return max(allowed, key=lambda record: record["images_per_s"], default=None)


def _rate(rate: float | None, share: float | None) -> str:
    if rate is None:
        return "–"
    return _figures(rate) if share is None else f"{_figures(rate)} ({share:.0%})"


def _figures(value: float) -> str:
    """Return a number with at least three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    return render_table(headers, lines, "markdown", numbers=numbers)
