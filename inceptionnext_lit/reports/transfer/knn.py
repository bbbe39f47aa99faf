"""Weighted nearest neighbors on features, as DINO evaluates them (arXiv 2104.14294)."""

import numpy as np
import torch
from numpy.typing import NDArray

from inceptionnext_lit.reports.transfer.scores import Targets

NEIGHBORS = 20
TEMPERATURE = 0.07
_SIMILARITIES = 2**24  # at once, or votes; 64 MiB


def neighbor_votes(
    train: NDArray[np.float32],
    targets: Targets,
    test: NDArray[np.float32],
    num_classes: int,
    *,
    neighbors: int = NEIGHBORS,
    temperature: float = TEMPERATURE,
) -> NDArray[np.float32]:
    """Return the votes for each class of the nearest training images.

    A neighbor of cosine similarity s votes for its class, or for each of its labels, with weight ``exp(s / T)``.

    Args:
        train: Features of the training images, (N, D).
        targets: Their classes, (N,) or (N, K).
        test: Features of the images to classify, (M, D).
        num_classes: Number of classes K.
        neighbors: Number of neighbors; all training images if there are fewer.
        temperature: The temperature T.

    Returns:
        Votes, (M, K).
    """
    known = torch.nn.functional.normalize(torch.from_numpy(train), dim=1).T  # (D, N)
    labels = torch.from_numpy(np.asarray(targets))
    one_hot = torch.nn.functional.one_hot(labels, num_classes) if labels.ndim == 1 else labels
    one_hot = one_hot.to(torch.float32)  # (N, K)
    chunk = max(1, _SIMILARITIES // max(len(train), neighbors * num_classes))
    votes = []
    for first in range(0, len(test), chunk):
        asked = torch.nn.functional.normalize(torch.from_numpy(test[first : first + chunk]), dim=1)
        similarity, nearest = (asked @ known).topk(min(neighbors, len(train)), dim=1)  # (m, k)
        weights = (similarity / temperature).exp()
        votes.append(torch.einsum("mk,mkc->mc", weights, one_hot[nearest]))
    return torch.cat(votes).numpy()
