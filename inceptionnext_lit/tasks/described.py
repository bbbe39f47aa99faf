"""What a checkpoint says about its classifier: the model, its arguments, its classes and its input."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing


def model_arguments(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the task's arguments in a checkpoint that create its model and describe its use.

    Args:
        content: The checkpoint's dictionary.
        path: The file, for messages.

    Returns:
        ``name``, ``data_spec`` and ``kwargs``, the last of which may be None.

    Raises:
        UserError: If it is not a checkpoint of a classifier.
    """
    arguments = content.get("hyper_parameters")
    if "state_dict" not in content or not isinstance(arguments, Mapping) or not _describe_model(arguments):
        raise UserError(
            f"{path} is not a checkpoint of a classifier: it does not name its model. "
            f"Use it with fit directly: --model.name NAME --model.pretrained {path}."
        )
    return {key: arguments.get(key) for key in ("name", "data_spec", "kwargs")}


def _describe_model(arguments: Mapping[str, Any]) -> bool:
    spec = arguments.get("data_spec")
    if not isinstance(spec, Mapping):
        return False
    preprocessing = spec.get("preprocessing")
    return (
        isinstance(arguments.get("name"), str)
        and isinstance(spec.get("num_classes"), int)
        and isinstance(arguments.get("kwargs"), Mapping | None)
        and isinstance(preprocessing, Mapping | None)
        and (preprocessing is None or Preprocessing.__required_keys__ <= preprocessing.keys())
    )
