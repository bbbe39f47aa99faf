"""The first screen of help of ``fit``, ``validate``, ``test`` and ``predict``: the keys that people set most."""

from inceptionnext_lit.cli import COMMANDS
from inceptionnext_lit.cli.tools import sentence
from inceptionnext_lit.program import usage_name

_DEVICE = {
    "trainer.accelerator": "cpu, gpu, mps …; auto takes the best one that is there",
    "trainer.precision": "32-true, bf16-mixed, 16-mixed …",
}
_EVALUATION = {
    "ckpt_path FILE": "the checkpoint; last is the newest of a recipe's runs",
    "data.root ROOT": "the images: a folder of class folders, with splits or without, or a manifest; or sample",
    "data.batch_size N": "images per batch (default: 64)",
    "data.num_workers N": "processes that load images (default: one per core, at most 8)",
    **_DEVICE,
    "config RECIPE": "take the settings of a recipe too",
}
SCREENS = {
    "fit": {
        "config RECIPE": "a YAML file or a name that the command recipes lists; later ones win, and keys over all",
        "data.root ROOT": "the images: a folder of class folders, with splits or without, or a manifest; or sample",
        "data.image_size S": "pixels of a side of the model's input, or [HEIGHT,WIDTH]",
        "data.batch_size N": "images per batch and device, or auto",
        "data.augmentation": "none, light, medium or strong, or single keys of it",
        "model.name NAME": "any name that timm knows, this family's among them",
        "model.pretrained": "true: published weights; a file: those in it; false: random ones",
        "model.lr LR": "peak learning rate, or auto",
        "trainer.max_epochs N": "epochs of the run",
        "trainer.devices N": "how many devices, or auto",
        **_DEVICE,
        "checkpoint.monitor": "the figure that decides which epoch is best.ckpt, such as val/acc1 (default: auto)",
        "checkpoint.patience": "stop after so many validations without a better figure (default: never)",
        "ckpt_path last": "continue the newest run of the recipe; with a file, begin a new run from it",
        "run_name NAME": "folder below runs/ (default: the recipe's name)",
        "find_lr": "find model.lr by a range test of 100 steps first",
        "seed_everything N": "seed of everything random; true draws one (default: 0)",
        "print_config": "print all settings as a recipe, and stop",
    },
    "validate": _EVALUATION,
    "test": _EVALUATION
    | {"model.execution.test_time_flip": "average each image's probabilities with its mirror image's"},
    "predict": {
        "ckpt_path FILE": "the checkpoint; it knows the model, the classes and the preprocessing",
        "output FILE": "what to write, .csv, .jsonl, .json or .parquet (default: predictions.csv)",
        "resume": "go on with an output that is there; images that it has or lists as unreadable are skipped",
        "overwrite": "replace an output that is there",
        "compile": "compile the model first (seconds to minutes); for many images on a GPU",
        "model.execution.test_time_flip": "average each image's probabilities with its mirror image's",
        "data.batch_size N": "images per batch (default: 64)",
        "data.num_workers N": "processes that load images (default: one per core, at most 8)",
        **_DEVICE,
    },
}
_WORDS = {"predict": "IMAGE_OR_FOLDER_OR_PATTERN_OR_MANIFEST ... "}


def usage(command: str) -> str:
    """How a command is called."""
    return f"{usage_name()} {command} {_WORDS.get(command, '')}[--config RECIPE] [--KEY VALUE ...]"


def first_screen(command: str) -> str:
    """The help of a command on one screen; it needs no library."""
    keys = SCREENS[command]
    width = max(map(len, keys))
    lines = [f"  --{key:<{width}}  {meaning}" for key, meaning in keys.items()]
    every = f"{usage_name()} {command} --help all lists every key."
    return "\n".join([f"usage: {usage(command)}", "", sentence(COMMANDS[command]), "", *lines, "", every, ""])
