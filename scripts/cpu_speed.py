"""Images per second of models on this CPU in every form, in turn, as the tables of docs/guides/cpu-speed.md.

    python scripts/cpu_speed.py
    python scripts/cpu_speed.py --models inceptionnext_tiny,convnext_tiny --batch_sizes 1 --rounds 3
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python scripts/cpu_speed.py --columns deploy,openvino,openvino-int8

Models have random weights. Those of a pair are measured in the same rounds, and so are both batch sizes of the fastest
form at the end. Prints Markdown: medians with ratios, the bound by matrix products, and the ratios that matter with the
least and the most of the rounds.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace

from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.reports.benchmark.case import VARIANTS, Case, Precision
from inceptionnext_lit.reports.benchmark.exporting import exported
from inceptionnext_lit.reports.benchmark.measure import measure
from inceptionnext_lit.reports.benchmark.measurement import Measurement

MODELS = "inceptionnext_tiny,convnext_tiny,inceptionnext_iso_small,deit_small_patch16_224"
TIMMS = {"inceptionnext_tiny": "inception_next_tiny"}  # whose eager form is timm's
COLUMNS: dict[str, tuple[str, Precision]] = {
    "eager": ("eager", "fp32"),
    "eager-bf16": ("eager", "bf16"),
    "deploy": ("deploy", "fp32"),
    "deploy-bf16": ("deploy", "bf16"),
    "openvino": ("openvino", "fp32"),
    "openvino-bf16": ("openvino-bf16", "bf16"),
    "openvino-int8": ("openvino-int8", "int8"),
    "onnx": ("onnx", "fp32"),
    "onnx-int8": ("onnx-int8", "int8"),
}
Found = dict[tuple[str, str], Measurement]  # by model and column


def make_cases(
    models: Sequence[str], columns: Sequence[str], options: argparse.Namespace
) -> dict[tuple[str, str], Case]:
    """Return the cases by model and column.

    Args:
        models: The models.
        columns: The columns.
        options: Those of the command line.
    """
    return {
        (model, column): Case(
            model=TIMMS.get(model, model) if column.startswith("eager") else model,
            variant=COLUMNS[column][0],
            mode="infer",
            precision=COLUMNS[column][1],
            layout="best",
            batch_size=1,
            image_size=options.image_size,
            threads=options.threads,
            keeps_memory=True,
        )
        for model in models
        for column in columns
    }


def tell(what: str) -> None:
    """Print what happens next on stderr."""
    print(what, file=sys.stderr, flush=True)


def ratio(one: Measurement, other: Measurement) -> str:
    """Return the median of the ratios of two measurements of the same rounds, with the least and the most."""
    ratios = [first / second for first, second in zip(one.rates, other.rates, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def speed_table(found: Found, models: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return the medians, and the ratios to the first column, as lines of Markdown."""
    lines = [f"| | {' | '.join(columns)} |", f"|---{'|--:' * len(columns)}|"]
    for model in models:
        rates = [found[model, column].record()["images_per_s"] for column in columns]
        lines.append(f"| `{model}` | {' | '.join(f'{rate:.1f}' for rate in rates)} |")
        others = [ratio(found[model, column], found[model, columns[0]]) for column in columns[1:]]
        lines.append(f"| ratio | 1 | {' | '.join(others)} |")
    return lines


def bound_table(found: Found, models: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return how far each form is from the bound by matrix products, as lines of Markdown."""
    lines = ["| | GFLOP/s of products | " + " | ".join(f"`{model}`: bound, share" for model in models) + " |"]
    lines.append(f"|---{'|--:' * (len(models) + 1)}|")
    for column in columns:
        records = [found[model, column].record() for model in models]
        if records[0]["matmul_gflop_per_s"] is None:
            continue
        cells = [
            "–" if record["images_per_s_bound"] is None
            else f"{record['images_per_s_bound']:.0f}, {record['share_of_matmul']:.0%}"
            for record in records
        ]  # fmt: skip
        lines.append(f"| {column} | {records[0]['matmul_gflop_per_s']:.0f} | {' | '.join(cells)} |")
    return lines


def goals(found: Found) -> list[str]:
    """Return the ratios that matter, as far as they were measured."""
    tiny, convnext, iso, deit = MODELS.split(",")
    asked = [
        ("T int8 over timm's eager fp32", (tiny, "openvino-int8"), (tiny, "eager")),
        ("T int8 over our bf16 in OpenVINO", (tiny, "openvino-int8"), (tiny, "openvino-bf16")),
        ("T int8 over our bf16 in torch", (tiny, "openvino-int8"), (tiny, "deploy-bf16")),
        ("T int8 over ConvNeXt-T's", (tiny, "openvino-int8"), (convnext, "openvino-int8")),
        ("iso S int8 over DeiT-S's", (iso, "openvino-int8"), (deit, "openvino-int8")),
        ("T int8 in ONNX Runtime over timm's eager fp32", (tiny, "onnx-int8"), (tiny, "eager")),
        ("T int8 in ONNX Runtime over ConvNeXt-T's", (tiny, "onnx-int8"), (convnext, "onnx-int8")),
        ("iso S int8 in ONNX Runtime over DeiT-S's", (iso, "onnx-int8"), (deit, "onnx-int8")),
    ]
    return [
        f"- {name}: {ratio(found[one], found[other])}" for name, one, other in asked if one in found and other in found
    ]


def gains(found: Found, models: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return how many times as fast as ``deploy``, which ``predict`` runs, each later form is: least and most model."""
    if "deploy" not in columns:
        return []
    lines = []
    for column in columns[columns.index("deploy") + 1 :]:
        medians = [
            statistics.median(
                one / other for one, other in zip(found[model, column].rates, found[model, "deploy"].rates, strict=True)
            )
            for model in models
        ]
        lines.append(f"- {column} over deploy: {min(medians):.2f} to {max(medians):.2f}")
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="two at a time are measured together")
    known = [column for column, (variant, _) in COLUMNS.items() if variant in VARIANTS]
    parser.add_argument("--columns", default=",".join(known), help=f"any of {', '.join(known)}")
    parser.add_argument("--batch_sizes", default="16,1")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="minimum for each in a round")
    options = parser.parse_args()
    models, columns = options.models.split(","), options.columns.split(",")
    if unknown := [column for column in columns if column not in known]:
        parser.error(f"{unknown[0]!r} is not a column; choose from {', '.join(known)}")
    sizes = [int(size) for size in options.batch_sizes.split(",")]
    cases = make_cases(models, columns, options)
    print(f"{options.image_size} px, {options.threads} threads, medians of {options.rounds} rounds in turn")
    with exported(list(cases.values()), tell) as ready:
        files = dict(zip(cases, ready, strict=True))
        for size in sizes:
            found: Found = {}
            for start in range(0, len(models), 2):
                own = {
                    key: replace(case, batch_size=size)
                    for key, case in files.items()
                    if key[0] in models[start : start + 2]
                }
                found |= dict(zip(own, measure(list(own.values()), options.rounds, options.seconds, tell), strict=True))
            print(f"\nImages/s, batch {size}\n")
            lines = [*speed_table(found, models, columns), "", *bound_table(found, models, columns), ""]
            print("\n".join([*lines, *goals(found), *gains(found, models, columns)]), flush=True)
        if len(sizes) > 1:
            fastest = "openvino-int8" if "openvino-int8" in columns else columns[-1]
            both = [replace(files[model, fastest], batch_size=size) for model in models for size in sizes]
            measured = measure(both, options.rounds, options.seconds, tell)
            print(f"\nBatch {sizes[1]} over batch {sizes[0]}, {fastest}\n")
            for place, model in enumerate(models):
                one, other = measured[place * len(sizes)], measured[place * len(sizes) + 1]
                print(f"- `{model}`: {ratio(other, one)}")


if __name__ == "__main__":
    main()
