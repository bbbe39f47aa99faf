"""Checkpoints that hold all that evaluation, prediction and conversion need."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_load import check_finite
from inceptionnext_lit.tasks.backbone import WEIGHT_SOURCES

# arguments that are dataclasses of their own
NESTED = ("mix", "optimizer", "schedule", "finetuning", "execution")


class SelfContained(LightningModule):
    """A task whose checkpoints hold its constructor's arguments as plain data, and its class names.

    Attributes:
        class_names: The classes' names in the order of the indices.
    """

    class_names: list[str]

    @property
    def plain_hparams(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, without those that would fetch weights again."""
        plain = dict(self.hparams)
        plain["pretrained"] = False
        plain["kwargs"] = {key: value for key, value in (plain["kwargs"] or {}).items() if key not in WEIGHT_SOURCES}
        for name in NESTED:
            plain[name] = asdict(getattr(self, name))
        plain["class_names"] = self.class_names
        return plain

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint self-contained.

        Args:
            checkpoint: Lightning's dictionary, changed in place.
        """
        plain = self.plain_hparams
        # The form in which LightningCLI stores arguments, so that load_from_checkpoint rebuilds the nested ones.
        plain["_class_path"] = f"{type(self).__module__}.{type(self).__qualname__}"
        plain["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
        checkpoint["hyper_parameters"] = plain
        # Lightning notes "kwargs" here for arguments by keyword, which its loader would take for our kwargs
        checkpoint.pop("hparams_name", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes, or whose weights are no numbers.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If its classes are not this task's, in this order, or a weight is NaN or infinite.
        """
        check_finite(checkpoint.get("state_dict", {}), "The checkpoint")  # a sharded one's weights are in other files
        self.check_classes(checkpoint)

    def check_classes(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of other classes.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If its classes are not this task's, in this order.
        """
        stored = checkpoint.get("hyper_parameters", {}).get("class_names")
        if stored is not None and stored != self.class_names:
            raise UserError(
                f"The checkpoint was trained on the classes {', '.join(stored)}; the data has "
                f"{', '.join(self.class_names)}. Use the data that it was trained on, or start a new head from its "
                "weights with --model.pretrained CHECKPOINT in the place of --ckpt_path."
            )


def match_average(checkpoint: dict[str, Any], *, wanted: bool) -> None:
    """Begin the average of the weights in a checkpoint that has none, or leave it out, and say so.

    Args:
        checkpoint: Lightning's dictionary, changed in place.
        wanted: Whether the task keeps an average.
    """
    if "state_dict" not in checkpoint:  # a sharded one's weights are in other files
        return
    state, average = checkpoint["state_dict"], "model_ema.module."
    stored = [key for key in state if key.startswith(average)]
    if stored and not wanted:
        rank_zero_info("model.ema_decay is off: the checkpoint's averaged weights are not used.")
        checkpoint["state_dict"] = {key: value for key, value in state.items() if key not in stored}
    elif wanted and not stored:
        rank_zero_info("model.ema_decay is on: the average starts from the checkpoint's weights, which have none.")
        weights = {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
        checkpoint["state_dict"] = state | {average + key: value for key, value in weights.items()}
