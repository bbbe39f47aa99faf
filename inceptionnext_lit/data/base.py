"""What every data module shares: batches, steps, the share of each process, and loaders."""

from collections.abc import Callable, Mapping, Sized
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
    """Data in batches that do not depend on the number of processes, and that a continued run goes on with.

    A subclass sets ``train_set``, ``val_set`` and ``test_set``, in its constructor or in ``setup``: map-style data sets
    of samples that ``default_collate`` takes. Random augmentation must draw from torch, NumPy or ``random``, which are
    seeded by the run's seed, the epoch and the sample's index.

    Args:
        batch_size: Samples per batch and device.
        global_batch_size: Samples per optimizer step over all devices and nodes; the trainer accumulates as many
            batches as that takes. ``None``: one batch per device, or as many as ``trainer.accumulate_grad_batches``
            says.
        num_workers: Processes that load samples; ``None``: the cores that this process may use, at most 8.

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

    def describe(self, stage: str) -> list[str]:
        """What the command line prints of the data before a stage begins, a line each; nothing by default.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``, which is set up.
        """
        return []

    def evaluates_run(self, run: Mapping[str, Any], images: Mapping[str, Fingerprint]) -> None:
        """Choose the samples that ``validate`` and ``test`` use for a checkpoint; by default they are those of any run.

        Args:
            run: The settings of the checkpoint's run, such as ``data.root``.
            images: The fingerprints of its training and validation images.
        """

    def uncounted(self, sample: Any) -> Any:
        """Mark a sample that only fills up the share of a process, so that metrics leave it out.

        Args:
            sample: One of ``val_set`` or ``test_set``, which another process evaluates.

        Returns:
            For instance the same image with labels that the metrics ignore.

        Raises:
            UserError: Unless a subclass overrides it.
        """
        raise UserError(
            f"The samples cannot be divided evenly among {self._share['replicas']} processes. Define "
            f"{type(self).__name__}.uncounted to mark the ones that metrics should ignore, or evaluate on one device."
        )

    @property
    def step_size(self) -> int:
        """Samples per optimizer step over all devices."""
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        return self.global_batch_size or self.batch_size * self._share["replicas"] * accumulated

    def _plan_steps(self) -> None:
        """Let the trainer accumulate what the global batch takes.

        Raises:
            UserError: If a step takes more samples than there are, or cannot be made of whole batches.
        """
        accumulated = plan_accumulation(
            images=len(cast(Sized, self.train_set)),
            batch_size=self.batch_size,
            devices=self._share["replicas"],
            global_batch=self.global_batch_size,
            asked=self.trainer.accumulate_grad_batches if self.trainer else 1,
        )
        if self.trainer:
            self.trainer.accumulate_grad_batches = accumulated

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of the training set; samples that make no full step are left out."""
        self._plan_steps()
        return self._training_loader(_Seeded(self.train_set, run_seed()), default_collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation set, in its order."""
        return self._evaluation_loader(_Counted(self.val_set, self.uncounted), default_collate)

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test set, in its order."""
        return self._evaluation_loader(_Counted(self.test_set, self.uncounted), default_collate)

    @property
    def _share(self) -> dict[str, int]:
        """How many processes share the data, and which of them this one is."""
        if self.trainer is None:
            return {"replicas": 1, "rank": 0}
        return {"replicas": self.trainer.world_size, "rank": self.trainer.global_rank}

    def _training_loader(
        self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], **options: Any
    ) -> DataLoader[Any]:
        """A loader of a data set whose items are asked for by a :class:`Draw`; ``options`` are the sampler's."""
        shuffle = not getattr(self.trainer, "overfit_batches", 0)  # which means: the same images again and again
        options |= {"seed": run_seed(), "shuffle": shuffle, **self._share}
        sampler = TrainingSampler(len(cast(Sized, dataset)), self.step_size, **options)
        return self._loader(dataset, collate, sampler)

    def _evaluation_loader(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any]) -> DataLoader[Any]:
        sampler = EvaluationSampler(len(cast(Sized, dataset)), self.batch_size, **self._share)
        return self._loader(dataset, collate, sampler)

    def _loader(
        self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], sampler: Sampler[Any] | None = None
    ) -> DataLoader[Any]:
        return build_loader(dataset, collate, sampler, batch_size=self.batch_size, num_workers=self.num_workers)


class _Seeded(Dataset[Any]):
    """A training set, asked by draws, whose random numbers are those of the draw alone."""

    def __init__(self, samples: Dataset[Any], seed: int) -> None:
        self.samples = samples
        self.seed = seed

    def __len__(self) -> int:
        return len(cast(Sized, self.samples))

    def __getitem__(self, draw: Draw) -> Any:
        with isolate_rng(include_cuda=False):  # which a loader process cannot use
            seed_generators(self.seed, "sample", draw.epoch, draw.image, draw.repeat)
            return self.samples[draw.image]


class _Counted(Dataset[Any]):
    """An evaluation's set, asked by draws."""

    def __init__(self, samples: Dataset[Any], uncounted: Callable[[Any], Any]) -> None:
        self.samples = samples
        self.uncounted = uncounted

    def __len__(self) -> int:
        return len(cast(Sized, self.samples))

    def __getitem__(self, draw: Draw) -> Any:
        sample = self.samples[draw.image]
        return sample if draw.counts else self.uncounted(sample)
