"""The short help of ``fit``, ``validate``, ``test`` and ``predict``: the most common keys."""

from inceptionnext_lit.cli import COMMANDS
from inceptionnext_lit.cli.tools import sentence
from inceptionnext_lit.program import usage_name

_DEVICE = {
    "trainer.accelerator": "cpu, gpu, mps …; auto takes the best one available",
    "trainer.precision": "32-true, bf16-mixed, 16-mixed …",
}
_WEIGHTS = {
    "model.name NAME": "instead of a checkpoint: any model name of timm, including this family's",
    "model.pretrained": "its weights: true for the published ones, or a file",
}
_EVALUATION = {
    "ckpt_path FILE": "the checkpoint; last: that of a recipe's newest run",
    **_WEIGHTS,
    "data.root ROOT": "the images: class folders, with or without splits, a manifest, or sample",
    "data.batch_size N": "images per batch (default: 64)",
    "data.num_workers N": "processes that load images (default: one per core, at most 8)",
    **_DEVICE,
    "output FILE": "write the metrics, unrounded, to a .json file too",
    "overwrite": "replace an existing output",
    "config RECIPE": "use the settings of a recipe too",
}
SCREENS = {
    "fit": {
        "config RECIPE": "a YAML file, or a name from the command recipes; later ones win, and keys over all",
        "data.root ROOT": "the images: class folders, with or without splits, a manifest, or sample",
        "data.image_size S": "side of the model's input in pixels, or [HEIGHT,WIDTH]",
        "data.batch_size N": "images per batch and device, or auto",
        "data.augmentation": "none, light, medium or strong, or its individual keys",
        "model.name NAME": "any model name of timm, including this family's",
        "model.pretrained": "true: published weights; a file: its weights; false: random weights",
        "model.lr LR": "peak learning rate, or auto",
        "trainer.max_epochs N": "number of epochs",
        "trainer.devices N": "number of devices, or auto",
        **_DEVICE,
        "checkpoint.monitor": "the metric that selects the epoch of best.ckpt, such as val/acc1 (default: auto)",
        "checkpoint.patience": "stop after this many validations without an improvement (default: never)",
        "ckpt_path last": "continue the newest run of the recipe; a file starts a new run from it",
        "run_name NAME": "folder below runs/ (default: the recipe's name)",
        "find_lr": "find model.lr by a range test of 100 steps first",
        "report": "evaluate the best checkpoint on the validation images after training (command evaluate)",
        "seed_everything N": "seed of all random numbers; true draws one (default: 0)",
        "print_config": "print all settings as a recipe, and stop",
    },
    "validate": _EVALUATION | {"data.real_labels FILE": "ReaL labels for ImageNet's validation images, real.json"},
    "test": _EVALUATION
    | {"model.execution.test_time_flip": "average each image's probabilities with its mirror image's"},
    "predict": {
        "ckpt_path FILE": "the checkpoint, with the model, the classes and the preprocessing",
        **_WEIGHTS,
        "output FILE": "output file: .csv, .jsonl, .json or .parquet (default: predictions.csv)",
        "resume": "continue an existing output, skipping images that it has or lists as unreadable",
        "overwrite": "replace an existing output",
        "probabilities all": "write the probability of every class too, as columns prob_CLASS or a JSON object",
        "unsure_below P": "mark images whose best probability is below P, in a column unsure",
        "compile": "compile the model first (seconds to minutes); for many images on a GPU",
        "model.execution.test_time_flip": "average each image's probabilities with its mirror image's",
        "data.batch_size N": "images per batch (default: 64)",
        "data.num_workers N": "processes that load images (default: one per core, at most 8)",
        **_DEVICE,
    },
}
_WORDS = {"predict": "IMAGE_OR_FOLDER_OR_PATTERN_OR_MANIFEST ... "}


def usage(command: str) -> str:
    """Return a command's usage."""
    return f"{usage_name()} {command} {_WORDS.get(command, '')}[--config RECIPE] [--KEY VALUE ...]"


def first_screen(command: str) -> str:
    """Return a command's short help, without importing any library."""
    keys = SCREENS[command]
    width = max(map(len, keys))
    lines = [f"  --{key:<{width}}  {meaning}" for key, meaning in keys.items()]
    every = f"{usage_name()} {command} --help all lists every key."
    return "\n".join([f"usage: {usage(command)}", "", sentence(COMMANDS[command]), "", *lines, "", every, ""])
