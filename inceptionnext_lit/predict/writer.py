"""Write the predictions of Lightning's ``predict``."""

from collections.abc import Sequence
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.data.masks.class_table import colormap
from inceptionnext_lit.data.transforms.pipeline import reader
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.output import PredictionOutput
from inceptionnext_lit.predict.row_output import RowOutput
from inceptionnext_lit.predict.scenes.output import SceneOutput


class _Writer(RowOutput[Any, Any], Callback):
    """Write one row per image."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse several ranks; see :func:`check_single_process`."""
        check_single_process(trainer)
        model = cast(Any, pl_module)
        self.lay_out(model.class_names, multi_label=model.data_spec.multi_label)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the previous batch while a GPU is busy with this one, and list unreadable images.

        Raises:
            UserError: If the files cannot be written.
            SystemExit: After a SIGTERM, which Lightning would not obey.
        """
        self.add(outputs, cast(list[str], pl_module.class_names), batch.unreadable)
        if trainer.received_sigterm:
            raise SystemExit(128 + 15)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the file; see :meth:`finish`."""
        self.finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what is written when the run is stopped, and say how to continue."""
        if not isinstance(exception, UserError):
            self.stop()


class PredictionWriter(PredictionOutput, _Writer):
    """Write one row per image; see :class:`PredictionOutput`."""


class SceneWriter(SceneOutput, _Writer):
    """Write the mask of each image, and one row; see :class:`SceneOutput`."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set how images are read and classes are colored; refuse several ranks."""
        super().setup(trainer, pl_module, stage)
        spec = cast(Any, pl_module).data_spec
        load = reader(spec.preprocessing, cast(Any, trainer).datamodule.bad_images.max_pixels)
        self.set_look(load, spec.palette or colormap(len(spec.names)))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the masks of all images, unless this was done."""
        if not self.has_names:
            paths: Sequence[str] = cast(Any, trainer).datamodule.predict_set.paths
            self.name_masks(paths)


def check_single_process(trainer: Trainer) -> None:
    """Refuse several ranks, each of which would overwrite the others' rows with its own.

    Raises:
        UserError: If there is more than one.
    """
    if trainer.world_size > 1:
        raise UserError(f"predict runs on one device, not {trainer.world_size}; leave out --trainer.devices.")
