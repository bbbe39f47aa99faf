"""Settings that a library cannot use: its error as one sentence."""

import difflib
import re
import traceback

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import StrategyRegistry

from inceptionnext_lit.errors import UserError


def explain_setting(error: BaseException) -> UserError | None:
    """Say in one sentence what a library says of a setting that it cannot use.

    Args:
        error: What was raised.

    Returns:
        The error to show instead; None if it is none that a library raises for its arguments.
    """
    if not isinstance(error, (ValueError, TypeError, MisconfigurationException)):
        return None
    text = " ".join(str(error).split())
    for pattern, sentence in _MEANINGS.items():
        if found := re.search(pattern, text):
            return UserError(sentence.format(*found.groups()))
    if found := re.search(r"invalid strategy name: `strategy='(.*?)'`", text):
        known = StrategyRegistry.available_strategies()
        near = difflib.get_close_matches(found[1], known, n=3) or ["auto", *known]
        return UserError(f"There is no trainer.strategy {found[1]!r}; choose {' or '.join(near)}.")
    innermost = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    package = next((str(frame.f_globals.get("__name__")).partition(".")[0] for frame in innermost), "")
    if package not in _LIBRARIES or not text:
        return None
    return UserError(f"{text.rstrip('.')}. (An error of {package}; --debug shows where it comes from.)")


_LIBRARIES = ("jsonargparse", "lightning", "lightning_fabric", "timm", "torch", "torchmetrics", "torchvision")
_MEANINGS = {  # what libraries say, and what it means here
    r"Expected more than 1 value per channel when training": (
        "BatchNorm cannot train on a single value per channel, which is what a batch of 1 image has on a feature map "
        "of 1×1; choose a --data.batch_size of 2 or more, or a larger --data.image_size."
    ),
    r"`val_check_interval` \((\d+)\) must be less than or equal to the number of the training batches \((\d+)\)": (
        "trainer.val_check_interval is {0}, but an epoch has only {1} batches; choose {1} or less, or count over "
        "epochs with --trainer.check_val_every_n_epoch null."
    ),
    r"`Trainer\(barebones=True": (
        "trainer.barebones switches off the logs, checkpoints and progress that belong to every run here; leave it out."
    ),
}
