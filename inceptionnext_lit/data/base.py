"""The base class of data modules: batches, steps, sharding across ranks, and loaders."""

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, cast

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from inceptionnext_lit.data.checks import check
from inceptionnext_lit.data.defaults import default_workers
from inceptionnext_lit.data.global_batch import plan_accumulation
from inceptionnext_lit.data.loaders import build_loader
from inceptionnext_lit.data.samplers import Draw, EvaluationSampler, TrainingSampler
from inceptionnext_lit.data.sources.fingerprint import Fingerprint
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.seeding import run_seed, seed_generators


class BaseDataModule(LightningDataModule):
    """Data module whose batches do not depend on the number of ranks, and which resumes within an epoch.

    A subclass sets ``train_set``, ``val_set`` and ``test_set``, in its constructor or in ``setup``: map-style data sets
    of samples that ``default_collate`` accepts. Random augmentation must draw from torch, NumPy or ``random``, which
    are seeded with the run's seed, the epoch and the sample's index.

    Args:
        batch_size: Samples per batch and device.
        global_batch_size: Samples per optimizer step over all devices and nodes; the trainer accumulates batches to
            match. ``None``: one batch per device, or ``trainer.accumulate_grad_batches`` batches.
        num_workers: Loader processes; ``None``: the cores available to this process, at most 8.

    Raises:
        UserError: If a value is out of its range.
    """

    train_set: Dataset[Any]
    val_set: Dataset[Any]
    test_set: Dataset[Any]

    def __init__(
        self, batch_size: int = 64, global_batch_size: int | None = None, num_workers: int | None = None
    ) -> None:
        super().__init__()
        check("batch_size", batch_size, batch_size >= 1, "1 image or more, or auto")
        is_step = global_batch_size is None or global_batch_size >= 1
        check("global_batch_size", global_batch_size, is_step, "1 image or more, or null")
        check("num_workers", num_workers, num_workers is None or num_workers >= 0, "0 or more, or null")
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers
        self._plan: _StepPlan | None = None

    def describe(self, stage: str) -> list[str]:
        """Return lines that the command line prints about the data before a stage begins; none by default.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``, already set up.
        """
        return []

    def evaluates_run(self, run: Mapping[str, Any], images: Mapping[str, Fingerprint]) -> None:
        """Choose the samples that ``validate`` and ``test`` use for a checkpoint; by default the same for every run.

        Args:
            run: The settings of the checkpoint's run, such as ``data.root``.
            images: The fingerprints of its training and validation images.
        """

    def uncounted(self, sample: Any) -> Any:
        """Mark a padding sample, so that metrics ignore it.

        Args:
            sample: A sample of ``val_set`` or ``test_set`` that another rank evaluates.

        Returns:
            For example, the same image with labels that the metrics ignore.

        Raises:
            UserError: Unless a subclass overrides it.
        """
        raise UserError(
            f"The samples cannot be divided evenly among {self._share['replicas']} ranks. Define "
            f"{type(self).__name__}.uncounted to mark the ones that metrics should ignore, or evaluate on one device."
        )

    @property
    def step_size(self) -> int:
        """Samples per optimizer step over all devices."""
        return self.global_batch_size or self.batch_size * self._share["replicas"] * self.accumulated

    @property
    def accumulated(self) -> int:
        """Batches of ``batch_size`` per optimizer step and device."""
        if self._plan is not None and self._plan.trainer is self.trainer:
            return self._plan.accumulated
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def batches_at_once(self, epoch: int) -> int:
        """Return how many of a step's accumulated batches the loader joins into one in an epoch; 1 by default."""
        return 1

    def training_batch_size(self, epoch: int) -> int:
        """Return the samples per training batch and device in an epoch."""
        return self.batch_size * self.batches_at_once(epoch)

    def resume_at(self, epoch: int) -> None:
        """Start training at an epoch; called before the first training loader is built.

        Args:
            epoch: Finished epochs of the resumed run.
        """
        self._plan_steps().first_epoch = epoch

    @property
    def _epoch(self) -> int:
        """The epoch that the next training loader is for."""
        now = self.trainer.current_epoch if self.trainer else 0
        return max(now, self._plan_steps().first_epoch)

    def _plan_steps(self) -> "_StepPlan":
        """Set the trainer's gradient accumulation to match the global batch, once per trainer.

        Raises:
            UserError: If a step has more samples than the training set, or is not a multiple of a batch.
        """
        if self._plan is None or self._plan.trainer is not self.trainer:
            accumulated = plan_accumulation(
                images=len(cast(Sized, self.train_set)),
                batch_size=self.batch_size,
                devices=self._share["replicas"],
                global_batch=self.global_batch_size,
                asked=self.trainer.accumulate_grad_batches if self.trainer else 1,
            )
            self._plan = _StepPlan(self.trainer, accumulated)
            if self.trainer:
                self.trainer.accumulate_grad_batches = accumulated
        return self._plan

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches of the training set, without the samples of an incomplete last step."""
        return self._training_loader(_Seeded(self.train_set, run_seed()), default_collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return batches of the validation set, in order."""
        return self._evaluation_loader(_Counted(self.val_set, self.uncounted), default_collate)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return batches of the test set, in order."""
        return self._evaluation_loader(_Counted(self.test_set, self.uncounted), default_collate)

    @property
    def _share(self) -> dict[str, int]:
        """The number of ranks, and this process's rank."""
        if self.trainer is None:
            return {"replicas": 1, "rank": 0}
        return {"replicas": self.trainer.world_size, "rank": self.trainer.global_rank}

    def _training_loader(
        self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], **options: Any
    ) -> DataLoader[Any]:
        """Build the loader of a data set indexed by :class:`Draw`; ``options`` are the sampler's."""
        at_once = self.batches_at_once(self._epoch)
        if self.trainer:
            self.trainer.accumulate_grad_batches = self.accumulated // at_once
        shuffle = not getattr(self.trainer, "overfit_batches", 0)  # overfitting repeats the same images
        options |= {"seed": run_seed(), "shuffle": shuffle, **self._share}
        sampler = TrainingSampler(len(cast(Sized, dataset)), self.step_size, **options)
        return self._loader(dataset, collate, sampler, batch_size=self.batch_size * at_once)

    def _evaluation_loader(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any]) -> DataLoader[Any]:
        sampler = EvaluationSampler(len(cast(Sized, dataset)), self.batch_size, **self._share)
        return self._loader(dataset, collate, sampler)

    def _loader(
        self,
        dataset: Dataset[Any],
        collate: Callable[[list[Any]], Any],
        sampler: Sampler[Any] | None = None,
        batch_size: int | None = None,
    ) -> DataLoader[Any]:
        size = batch_size or self.batch_size
        return build_loader(dataset, collate, sampler, batch_size=size, num_workers=self.num_workers)


@dataclass
class _StepPlan:
    """How a trainer's optimizer steps are made up, and the first epoch that it trains."""

    trainer: Any
    accumulated: int
    first_epoch: int = 0


class _Seeded(Dataset[Any]):
    """Training set indexed by draws, whose random numbers depend only on the draw."""

    def __init__(self, samples: Dataset[Any], seed: int) -> None:
        self.samples = samples
        self.seed = seed

    def __len__(self) -> int:
        return len(cast(Sized, self.samples))

    def __getitem__(self, draw: Draw) -> Any:
        with isolate_rng(include_cuda=False):  # loader processes cannot use CUDA
            seed_generators(self.seed, "sample", draw.epoch, draw.image, draw.repeat)
            return self.samples[draw.image]


class _Counted(Dataset[Any]):
    """Evaluation set indexed by draws."""

    def __init__(self, samples: Dataset[Any], uncounted: Callable[[Any], Any]) -> None:
        self.samples = samples
        self.uncounted = uncounted

    def __len__(self) -> int:
        return len(cast(Sized, self.samples))

    def __getitem__(self, draw: Draw) -> Any:
        sample = self.samples[draw.image]
        return sample if draw.counts else self.uncounted(sample)
