"""What a checkpoint says of its model and its data, as defaults of the command line."""

from typing import Any

from inceptionnext_lit.cli.parser import DEFAULT_CLASSES
from inceptionnext_lit.errors import UserError

# What flows from the data to the model; a checkpoint holds it for the data, not for the model's own keys.
LINKED = {
    "num_classes": "num_classes",
    "classes": "class_names",
    "preprocessing": "preprocessing",
    "multi_label": "multi_label",
}


def checkpoint_defaults(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the model and of the data as a checkpoint holds them.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.

    Returns:
        Defaults for the parser's keys ``model`` and ``data``.

    Raises:
        UserError: If the checkpoint does not say what it was made with.
    """
    arguments = dict(checkpoint.get("hyper_parameters", {}))
    preprocessing = arguments.get("preprocessing")
    if "_class_path" not in arguments or preprocessing is None:
        raise UserError("The checkpoint does not hold its model's arguments; it was not written by this toolkit's fit.")
    model = {key: value for key, value in arguments.items() if not key.startswith("_") and key not in LINKED.values()}
    data = {key: preprocessing[key] for key in ("image_size", "crop_pct", "mean", "std")}
    data["in_chans"] = len(preprocessing["mean"])
    data |= {key: arguments[key] for key in ("class_names", "multi_label")}
    return {
        "model": {"class_path": arguments["_class_path"], "init_args": model},
        "data": {"class_path": DEFAULT_CLASSES["data"].__name__, "init_args": data},
    }
