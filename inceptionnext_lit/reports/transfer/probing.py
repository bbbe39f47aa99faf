"""The protocols that need only features: nearest neighbors and logistic regression."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from inceptionnext_lit.data.sources.sample_table import Indices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.fitting import classifier_tensors
from inceptionnext_lit.reports.transfer.cells import Protocol, Result, short_hash
from inceptionnext_lit.reports.transfer.dataset import TransferData
from inceptionnext_lit.reports.transfer.features import FeatureFiles, Precision, Speed, extract
from inceptionnext_lit.reports.transfer.knn import NEIGHBORS, TEMPERATURE, neighbor_votes
from inceptionnext_lit.reports.transfer.linear import MAX_ITERATIONS, PENALTIES, fit_best
from inceptionnext_lit.reports.transfer.scores import measure
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.wording import count

_FEATURES_VERSION = 1  # of the computation of features; files of another one are not used


@dataclass(frozen=True)
class ProbeOptions:
    """How features are computed and kept, and classifiers are fitted to them.

    Attributes:
        cache: Folder of the features.
        precision: Type of the numbers on disk.
        device: Device to run on.
        batch_size: Images per batch.
        num_workers: Loader processes.
        max_iter: Maximum number of L-BFGS's iterations per penalty.
    """

    cache: Path
    precision: Precision
    device: torch.device
    batch_size: int
    num_workers: int
    max_iter: int = MAX_ITERATIONS

    def identity(self, protocol: Protocol) -> dict[str, Any]:
        """What a protocol's results depend on, as plain data."""
        if protocol == "knn":
            return {"precision": self.precision, "neighbors": NEIGHBORS, "temperature": TEMPERATURE}
        return {"precision": self.precision, "penalties": list(PENALTIES), "max_iter": self.max_iter}


@dataclass(frozen=True)
class Probe:
    """The features of a model on a data set, and the classifiers that are fitted to them.

    Attributes:
        data: The data set.
        files: The features.
        speed: How long it took to compute them; None if they were there.
        unreadable: Indices of the images that could not be read, and the reasons.
    """

    data: TransferData
    files: FeatureFiles
    speed: Speed | None
    unreadable: dict[int, str] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        task: ClassificationTask,
        data: TransferData,
        options: ProbeOptions,
        tick: Callable[[int], object] = lambda images: None,
    ) -> "Probe":
        """Compute the features that are not on disk yet.

        Args:
            task: The model.
            data: The data set.
            options: How to compute and keep them.
            tick: Called with the number of images of each batch.

        Raises:
            UserError: If no image can be read, or the model does not pool its features.
        """
        about = {
            "version": _FEATURES_VERSION,
            "model": task.hparams["name"],
            "kwargs": task.hparams["kwargs"],
            "weights": _hash_weights(task.inference_model),
            "preprocessing": dict(task.preprocessing or {}),
            "files": data.files,
            "precision": options.precision,
        }
        files = FeatureFiles(options.cache / short_hash(about), len(data.samples), options.precision)
        files.describe(about | {"data": str(data.root.absolute), "images": len(data.samples)})
        speed = extract(
            task,
            data.samples.paths,
            files,
            device=options.device,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            tick=tick,
        )
        unreadable = files.unreadable()
        if len(unreadable) == len(data.samples):
            first = min(unreadable)
            path = data.samples.paths[first]
            raise UserError(f"None of the images can be read for this model; {path}: {unreadable[first]}.")
        return cls(data, files, speed, unreadable)

    def knn(self) -> Result:
        """Classify the test images by their nearest training and validation images."""
        start = time.perf_counter()
        data = self.data
        train, test = self._readable(data.trained_on(), "training"), self._readable(data.test, "test")
        votes = neighbor_votes(
            self.files.rows(train), data.targets(train), self.files.rows(test), len(data.class_names)
        )
        notes = self._notes()
        if len(train) < NEIGHBORS:
            notes.append(f"only {len(train)} neighbors, since there are no more training images")
        value = measure(data.metric, votes, data.targets(test))
        details = {"train_images": len(train), "test_images": len(test)}
        return Result(value, time.perf_counter() - start, details, notes)

    def linear(self, seed: int, max_iter: int = MAX_ITERATIONS) -> Result:
        """Classify the test images by a logistic regression.

        Args:
            seed: Seed of the validation images, if they are held back.
            max_iter: Maximum number of L-BFGS's iterations per penalty.
        """
        start = time.perf_counter()
        data = self.data
        train, val = (self._readable(part, "training") for part in data.selection(seed))
        test = self._readable(data.test, "test")
        fit = fit_best(
            data.metric,
            len(data.class_names),
            (self.files.rows(train), data.targets(train)),
            (self.files.rows(val), data.targets(val)),
            self.files.rows(test),
            max_iter,
        )
        notes = self._notes()
        if not fit.converged:
            notes.append(f"L-BFGS did not converge within {max_iter:,} iterations with the chosen penalty")
        value = measure(data.metric, fit.scores, data.targets(test))
        details = {
            "seed": seed,
            "penalty": fit.penalty,
            "val": max(fit.selection),
            "iterations": fit.iterations,
            "unconverged_penalties": fit.unconverged,
            "train_images": len(train),
            "val_images": len(val),
            "test_images": len(test),
        }
        return Result(value, time.perf_counter() - start, details, notes)

    def _readable(self, indices: Indices, what: str) -> Indices:
        if not self.unreadable:
            return indices
        readable: Indices = indices[~np.isin(indices, list(self.unreadable))]
        if not len(readable):
            raise UserError(f"None of the {what} images can be read.")
        return readable

    def _notes(self) -> list[str]:
        """Say which images were left out."""
        tested = int(np.isin(self.data.test, list(self.unreadable)).sum())
        return describe_lost(len(self.unreadable) - tested, tested, len(self.data.test))


def describe_lost(trained: int, tested: int, test_images: int) -> list[str]:
    """Say which images could not be read, if any.

    Args:
        trained: Number of training and validation images.
        tested: Number of test images.
        test_images: Number of test images with the unreadable ones.
    """
    notes = [f"{count(trained, 'training image')} could not be read and left out"] if trained else []
    if tested:
        notes.append(f"{tested:,} of {count(test_images, 'test image')} could not be read and left out of the metric")
    return notes


def _hash_weights(model: nn.Module) -> str:
    """Return a hash of all parameters and buffers on which features depend: without the classifier's."""
    digest = hashlib.sha256()
    left_out = classifier_tensors(model)
    for name, tensor in model.state_dict().items():
        if name in left_out:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
