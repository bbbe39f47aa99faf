"""A classifier that may have a teacher during training: what is saved of it, and when it is needed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.preprocessing import height_and_width
from inceptionnext_lit.seeding import derive, run_seed
from inceptionnext_lit.tasks.classification.calibration import CalibratedTask
from inceptionnext_lit.tasks.classification.distillation import Distill, Distillation, check_labels
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.teacher import Teacher, load_teacher
from inceptionnext_lit.training.callbacks.progressive import check_model
from inceptionnext_lit.training.sharding import shard

KEY = "distillation"  # in checkpoints, and the prefix of the projection's weights


class DistilledTask(CalibratedTask):
    """A classifier that may learn from a teacher.

    The teacher is loaded when training begins, and never for anything else. Checkpoints have the digest of its weights
    and, if features are compared, the projection, which nothing but a resumed run reads.

    Attributes:
        distill: What is learned from which teacher, if any.
        distillation: The same with the teacher loaded; None until training begins.
        loss: The training loss.
    """

    distill: Distill | None
    distillation: Distillation | None
    loss: LossOptions

    @property
    def teacher(self) -> Teacher | None:
        """The teacher, if it is loaded."""
        return None if self.distillation is None else self.distillation.teacher

    @property
    def trained_beside(self) -> nn.Module | None:
        """The projection of the student's features, which is trained and is not part of the model."""
        return None if self.distillation is None else self.distillation.projection

    def load_distillation(self) -> None:
        """Load the teacher, if there is one and it is not loaded yet.

        Raises:
            UserError: If it cannot be loaded, or does not fit the classes or the images.
        """
        if self.distill is None or self.distillation is not None:
            return
        multi_label = self.data_spec.multi_label
        check_labels(self.distill, multi_label=multi_label)
        # neither the teacher's initial weights nor the projection's change what the run draws
        with torch.random.fork_rng(devices=[]):
            given, name, as_features = self.distill.teacher, self.distill.name, self.distill.kind == "features"
            teacher = load_teacher(given, self.data_spec, name=name, as_features=as_features)
            torch.default_generator.manual_seed(derive(run_seed(), KEY))
            self.distillation = Distillation(
                self.distill,
                teacher,
                self.model,
                str(self.hparams.get("name")),
                teacher.preprocessing,
                loss=self.loss.name,
                multi_label=multi_label,
            )

    def setup(self, stage: str) -> None:
        """Load the teacher for training, and compile it with the model."""
        if stage == "fit":
            self.load_distillation()
            self._prepare_teacher()
        super().setup(stage)

    def _prepare_teacher(self) -> None:
        if (teacher := self.teacher) is None:
            return
        progressive = getattr(datamodule_of(self.trainer), "progressive", None)
        if progressive is not None:
            own = teacher.preprocessing
            check_model(
                teacher.model,
                len(own["mean"]),
                height_and_width(own),
                progressive.sizes,
                refusal="The teacher of model.distill does not take",
            )
        self.execution.start(teacher.model)

    def configure_model(self) -> None:
        """Shard the projection like the model; each rank has a whole teacher."""
        super().configure_model()
        if self.device_mesh is not None and (projection := self.trained_beside) is not None:
            shard(projection, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Move the teacher to the model's device, in the model's precision."""
        super().on_fit_start()
        if self.teacher is not None:
            self.teacher.move(next(self.model.parameters()))

    def teardown(self, stage: str) -> None:
        """Free the device's memory of the teacher."""
        super().teardown(stage)
        if stage == "fit" and self.teacher is not None:
            self.teacher.model.cpu()

    def with_teacher(
        self, loss: Tensor, images: Tensor, logits: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Add the distillation loss of a training batch to that of its labels, as :class:`Distill` says.

        Args:
            loss: The mean loss of the labels.
            images: The batch, shape (N, C, H, W), as the model has just seen it.
            logits: The model's, shape (N, K).
            weights: Weight of each image, shape (N,), if they differ.

        Returns:
            The training loss, and the distillation loss; the loss and None without a teacher.
        """
        if self.distillation is None:
            return loss, None
        distilled: Tensor = self.distillation(images, logits, weights)
        share = self.distillation.options.weight
        return (1 - share) * loss + share * distilled, distilled

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the digest of the teacher's weights.

        Args:
            checkpoint: Lightning's dictionary, changed in place.
        """
        super().on_save_checkpoint(checkpoint)
        if self.teacher is not None:
            checkpoint[KEY] = {"digest": self.teacher.digest}

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse to continue a checkpoint's run with another teacher.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If the teacher has other weights.
        """
        super().check_checkpoint(checkpoint)
        stored = checkpoint.get(KEY)
        if stored is not None and self.teacher is not None and stored["digest"] != self.teacher.digest:
            raise UserError(
                f"The teacher {self.teacher.title} has other weights than that of the checkpoint's run, which it "
                "cannot continue; give its own with --model.distill.teacher, or start a new run from the student's "
                "weights with --model.pretrained CHECKPOINT instead of --ckpt_path."
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out a projection that this run does not train.

        Args:
            checkpoint: Lightning's dictionary, changed in place.
        """
        super().on_load_checkpoint(checkpoint)
        if "state_dict" in checkpoint and self.trained_beside is None:
            checkpoint["state_dict"] = without_projection(checkpoint["state_dict"])


def without_projection(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's ``state_dict`` without the projection of a distilled run."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(f"{KEY}.")}
