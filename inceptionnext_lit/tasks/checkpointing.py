"""Checkpoints that hold all that evaluation, prediction and conversion need."""

from dataclasses import asdict
from typing import Any

from lightning.pytorch import LightningModule

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
        check_finite(checkpoint["state_dict"], "The checkpoint")
        stored = checkpoint.get("hyper_parameters", {}).get("class_names")
        if stored is not None and stored != self.class_names:
            raise UserError(
                f"The checkpoint was trained on the classes {', '.join(stored)}; the data has "
                f"{', '.join(self.class_names)}. Use the data that it was trained on, or start a new head from its "
                "weights with --model.pretrained CHECKPOINT in the place of --ckpt_path."
            )
