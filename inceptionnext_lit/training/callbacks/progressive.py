"""Change the size of the training images between epochs, for data modules with ``progressive`` sizes."""

from copy import deepcopy
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.preprocessing import Size, height_and_width, in_pixels
from inceptionnext_lit.wording import first_line


class ProgressiveImages(Callback):
    """Build the training loader again for each size of the training images.

    Loaders that are not for the next epoch's size are replaced before that epoch begins; all others are kept.
    """

    def __init__(self) -> None:
        self._every_n_epochs: int | None = None  # the user's own reloading, while a new size is due

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse sizes that the model does not take."""
        progressive = _sizes(trainer)
        preprocessing, model = (getattr(pl_module, name, None) for name in ("preprocessing", "model"))
        if stage == "fit" and progressive is not None and preprocessing and isinstance(model, nn.Module):
            check_model(model, len(preprocessing["mean"]), height_and_width(preprocessing), progressive.sizes)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Request another loader if the next epoch has another size."""
        progressive, epoch = _sizes(trainer), trainer.current_epoch
        if progressive is not None and progressive.stage(epoch) != progressive.stage(epoch + 1):
            self._every_n_epochs = cast(Any, trainer).reload_dataloaders_every_n_epochs
            cast(Any, trainer).reload_dataloaders_every_n_epochs = 1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a new size."""
        if self._every_n_epochs is None:
            return
        cast(Any, trainer).reload_dataloaders_every_n_epochs, self._every_n_epochs = self._every_n_epochs, None
        progressive = _sizes(trainer)
        if progressive is not None:
            size = in_pixels(progressive.size(trainer.current_epoch))
            rank_zero_info(f"The training images have {size} from epoch {trainer.current_epoch + 1}.")


def check_model(
    model: nn.Module,
    channels: int,
    full: Size,
    sizes: tuple[Size, ...],
    *,
    refusal: str = "The model cannot be trained on",
) -> None:
    """Refuse sizes that a model does not take although it takes the evaluation's.

    Args:
        model: The model; it is not changed.
        channels: Channels of its images.
        full: Height and width of the evaluation's images.
        sizes: Height and width of the training images in each stage.
        refusal: How the message about a size begins.

    Raises:
        UserError: If a forward pass without data fails at one of the sizes.
    """
    traced = deepcopy(model).to("meta").eval()
    if _error(traced, channels, full) is not None:  # cannot be run without data
        return
    for size in sizes:
        if (error := _error(traced, channels, size)) is not None:
            raise UserError(
                f"{refusal} images of {in_pixels(size)} (data.progressive_size): "
                f"{first_line(error)}. Leave that size out; models with position embeddings only take "
                f"{in_pixels(full)}."
            )


def _error(model: nn.Module, channels: int, size: Size) -> Exception | None:
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, *size, device="meta"))
    except Exception as error:  # any module may raise any error
        return error
    return None


def _sizes(trainer: Trainer) -> Any:
    """Return the data module's sizes by epoch (:class:`ProgressiveSize`), if any."""
    return getattr(datamodule_of(trainer), "progressive", None)
