"""``cross_validate``: train once per fold, and report the mean and spread of the metrics."""

import contextlib
import io
import json
import math
import os
import re
import shlex
import signal
import statistics
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.recipes.default_recipe import add_default_recipe, say_recipe
from inceptionnext_lit.cli.relay import Relay
from inceptionnext_lit.cli.runs.best_epoch import best_epoch
from inceptionnext_lit.cli.runs.run_folder import TELL, versions
from inceptionnext_lit.cli.tools import sentence
from inceptionnext_lit.console import report_console
from inceptionnext_lit.data.sources.embedded import SAMPLE
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.program import as_called, exact_name, restart_command
from inceptionnext_lit.renamed import new_key
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.wording import printable

FOLDS = 5
_SET_ELSEWHERE = {
    "--find_lr": ("lr",),
    "--optimizer": ("optimizer", "lr", "weight_decay"),
    "--lr_scheduler": ("schedule",),
}
HELP = f"""\
usage: python cli.py cross_validate [--config RECIPE] [--data.split.num_folds N] [--KEY VALUE ...]

{sentence(TOOLS["cross_validate"])}

Takes every key of fit (python cli.py fit --help) except data.split.fold. --data.split.num_folds is {FOLDS} unless a
recipe or the command line sets it. Each fold is a run of its own, NAME_fold0 and so on, with its own checkpoints, and
reports the metrics of its best epoch. The predictions for the held-back images are kept in oof.parquet, which
evaluate --predictions reads. With --ckpt_path last, finished folds are kept and the others continue.

examples:
  python cli.py cross_validate --config finetune/small_data --data.root MY_IMAGES --data.split.num_folds 5
"""


def run(words: list[str]) -> int:
    """Run the command.

    Args:
        words: Command-line arguments after ``cross_validate``.

    Returns:
        The exit code of a fold that failed, or 0.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    if any(word in ("-h", "--help") for word in words):
        print(as_called(HELP), end="")
        return 0
    if any(re.match(r"--data\.split\.fold(=|$)", word) for word in words):
        raise UserError("cross_validate runs all folds; leave out --data.split.fold, or train one fold with fit.")
    if any(word.startswith("--print_config") for word in words):
        raise UserError("cross_validate does not take --print_config; fit prints the recipe that each fold has.")
    [_, *words], recipe = add_default_recipe(["fit", *words])
    if recipe is not None:
        say_recipe(recipe, words)
    config = _resolve(words)
    split = config["data"]["init_args"]["split"]
    folds = split["num_folds"] or FOLDS
    if folds < 2:
        raise UserError(f"data.split.num_folds is {folds}; a cross-validation needs 2 or more.")
    name = config["run_name"] or _recipe(words) or config["model"]["init_args"]["name"]
    root = Path(config["trainer"]["default_root_dir"])
    split["num_folds"] = folds
    if continues(words):
        for fold in range(folds):
            check_fold(root / f"{name}_fold{fold}", config, fold, ignored=_found_by_folds(words))
    results, code = _train(words, name, folds)
    if code:
        return code
    report = summarize(results)
    path = root / f"{name}_cross_validation.json"
    with replacing(path) as partial:
        partial.write_text(json.dumps(_with_nulls(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    show(report)
    print(f"Written to {printable(str(path))}")
    _keep_predictions([Path(result["run"]) for result in results], root / f"{name}_cross_validation")
    return 0


def _keep_predictions(runs: list[Path], folder: Path) -> None:
    """Write the predictions for the held-back images, and say how to evaluate them."""
    import_heavy("inceptionnext_lit.cli.evaluate.out_of_fold")
    from inceptionnext_lit.cli.evaluate.out_of_fold import write_out_of_fold

    if not all((run / "checkpoints/best.ckpt").is_file() for run in runs):
        print("The predictions for the held-back images are not kept: a fold has no best.ckpt.")
        return
    written = write_out_of_fold(runs, folder)
    print(f"Predictions for the held-back images: {printable(str(written))}")
    words = shlex.join(["evaluate", "--predictions", str(written), "--output", str(folder / "report")])
    print(f"Evaluate:   {exact_name()} {words}")


def continues(words: list[str]) -> bool:
    """Return whether the arguments include ``--ckpt_path last``."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    given = [after if word == "--ckpt_path" else word for word, after in pairs if re.match(r"--ckpt_path(=|$)", word)]
    return bool(given) and given[-1].removeprefix("--ckpt_path=") == "last"


def _found_by_folds(words: list[str]) -> set[str]:
    """Return the task options that other arguments set, or that each fold finds itself."""
    has = {key: any(re.match(rf"{key}([.=]|$)", word) for word in words) for key in _SET_ELSEWHERE}
    return {name for key, names in _SET_ELSEWHERE.items() if has[key] for name in names}


def check_fold(root: Path, config: dict[str, Any], fold: int, ignored: Collection[str] = ()) -> None:
    """Check that a fold's earlier run belongs to this cross-validation.

    Args:
        root: Folder of the fold's runs.
        config: The resolved config of this cross-validation.
        fold: Index of the fold, from 0.
        ignored: Names of options that may differ.

    Raises:
        UserError: If its newest run has other folds, data or task options.
    """
    if not (numbers := sorted(versions(root))):
        return
    path = root / f"version_{numbers[-1]}/config.yaml"
    if not path.is_file():
        return
    before, now = _options(yaml.safe_load(path.read_text(encoding="utf-8"))), _options(config)
    left_out = {"data.split.fold", "data.num_workers", *(f"model.{name}" for name in ignored)}
    for key in sorted(now.keys() & before.keys()):
        if key in left_out or key.startswith(tuple(f"{name}." for name in left_out)):
            continue
        is_place = key == "data.root" and not {None, SAMPLE} & {now[key], before[key]}
        if is_place and os.path.realpath(now[key]) == os.path.realpath(before[key]):
            continue  # another spelling of the same path
        if now[key] not in (None, "auto") and now[key] != before[key]:
            raise UserError(
                f"Fold {fold + 1} in {path.parent} was trained with {key} {before[key]}, but this cross-validation has "
                f"{now[key]}; leave out --ckpt_path last, or give another --run_name."
            )


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the data and the task by their full keys, with old names replaced by the current ones."""
    from inceptionnext_lit.training.callbacks.settings import flatten  # imports torch

    options = flatten({part: config[part]["init_args"] for part in ("data", "model")})
    return {new_key(key): value for key, value in options.items()}


def _train(words: list[str], name: str, folds: int) -> tuple[list[dict[str, Any]], int]:
    """Run fit for each fold; return the best epochs, and the exit code of the fold or signal that ended it, or 0."""
    results: list[dict[str, Any]] = []
    with Relay() as relay, tempfile.TemporaryDirectory() as told:
        for fold in range(folds):
            print(f"Fold {fold + 1} of {folds}", flush=True)
            added = ["--data.split.num_folds", str(folds), "--data.split.fold", str(fold)]
            added += ["--run_name", f"{name}_fold{fold}"]
            place = Path(told, str(fold))
            code = relay.run([*restart_command(), "fit", *words, *added], {TELL: str(place)})
            if relay.received is not None:
                by = signal.Signals(relay.received).name
                print(
                    f"Stopped by {by} in fold {fold + 1} of {folds}; the same command with --ckpt_path last continues."
                )
                return results, 128 + relay.received
            if code:
                print(f"Fold {fold + 1} of {folds} failed; continue with --ckpt_path last.", file=sys.stderr)
                return results, code
            results.append({"fold": fold} | best_epoch(Path(place.read_text(encoding="utf-8"))))
    return results, 0


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Combine the folds' metrics with their mean and sample standard deviation.

    Args:
        results: The result of :func:`best_epoch` for each fold.

    Returns:
        ``monitor``, ``folds``, ``mean`` and ``std``.
    """
    names = [name for name in results[0]["figures"] if all(name in result["figures"] for result in results)]
    values = {name: [result["figures"][name] for result in results] for name in names}
    folds = [{key: value for key, value in result.items() if key != "monitor"} for result in results]
    return {
        "monitor": results[0]["monitor"],
        "folds": folds,
        "mean": {name: statistics.fmean(of_folds) for name, of_folds in values.items()},
        "std": {name: statistics.stdev(of_folds) for name, of_folds in values.items()},
    }


def show(report: dict[str, Any]) -> None:
    """Print a line per metric: mean ± standard deviation, and the values of the folds."""
    table = Table("metric", "mean ± std", "folds")
    for name in sorted(report["mean"], key=lambda name: name != report["monitor"]):
        of_folds = " ".join(f"{fold['figures'][name]:.4f}" for fold in report["folds"])
        table.add_row(Text(printable(name)), f"{report['mean'][name]:.4f} ± {report['std'][name]:.4f}", of_folds)
    report_console().print(table)


def _with_nulls(value: Any) -> Any:
    """Replace values that are NaN or infinite by null, such as the mAP of images without a label."""
    if isinstance(value, dict):
        return {key: _with_nulls(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nulls(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _resolve(words: list[str]) -> dict[str, Any]:
    """Return the arguments of fit as fit would resolve them."""
    from inceptionnext_lit.cli.commands.fit import run as run_command

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        run_command(["fit", *words, "--print_config"])
    resolved = yaml.safe_load(printed.getvalue())
    if not isinstance(resolved, dict):
        sys.exit(2)  # the parser has printed the error
    return resolved


def _recipe(words: list[str]) -> str | None:
    """Return the name of the first recipe on the command line."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--config" or word.startswith("--config="):
            return Path(word.partition("=")[2] or following).stem
    return None
