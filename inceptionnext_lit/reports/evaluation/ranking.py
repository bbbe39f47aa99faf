"""Areas under the curves of one class against the rest, for any weights of the images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Images in the order of their score for one class, with ties.

    Attributes:
        order: Images by ascending score, (N,).
        positive: Whether each of them has the class, in that order, (N,).
        start: Place of the first image with the same score, (N,).
        end: Place after the last image with the same score, (N,).
    """

    order: NDArray[np.int64]
    positive: NDArray[np.bool_]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> "Ranking":
        """Rank scores, float (N,)."""
        order = np.argsort(scores)
        ranked = scores[order]
        first = np.concatenate([[True], ranked[1:] != ranked[:-1]])
        starts = np.flatnonzero(first)
        tie = np.cumsum(first) - 1
        ends = np.append(starts[1:], len(ranked))
        return cls(order, positive[order], starts[tie], ends[tie])

    def auroc(self, weights: Array) -> Array:
        """Return the weighted area: the share of pairs in which the image with the class has the higher score.

        Args:
            weights: Weights of the images, (R, N).

        Returns:
            Shape (R,); NaN where no image has the class, or all have it.
        """
        ranked = weights[:, self.order]
        negative = np.cumsum(np.where(self.positive, 0.0, ranked), axis=1)
        negative = np.concatenate([np.zeros((len(ranked), 1)), negative], axis=1)  # before each place
        places = np.flatnonzero(self.positive)
        # a tie counts one half
        below = (negative[:, self.start[places]] + negative[:, self.end[places]]) / 2
        pairs = ranked[:, places].sum(axis=1) * negative[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            area: Array = (ranked[:, places] * below).sum(axis=1) / pairs
        return area

    def average_precision(self, weights: Array) -> Array:
        """Return the weighted average precision: the mean precision at the scores of the images with the class.

        Args:
            weights: Weights of the images, (R, N).

        Returns:
            Shape (R,); NaN where no image has the class.
        """
        ranked = weights[:, self.order]
        places = np.flatnonzero(self.positive)
        both, all_ = (
            np.concatenate([np.zeros((len(ranked), 1)), np.cumsum(values, axis=1)], axis=1)
            for values in (np.where(self.positive, ranked, 0.0), ranked)
        )
        first = self.start[places]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = (both[:, -1:] - both[:, first]) / (all_[:, -1:] - all_[:, first])
            own = ranked[:, places]
            average: Array = np.where(own > 0, own * precision, 0.0).sum(axis=1) / both[:, -1]
        return average

    def influence(self) -> Array:
        """Return the first-order effect of each image's weight on the area, (N,), with a mean of 0.

        With weights w that sum to N, the area is about ``auroc + mean(w * influence)``. All are NaN if the area is.
        """
        negative = np.concatenate([[0.0], np.cumsum(~self.positive, dtype=np.float64)])
        positive = np.concatenate([[0.0], np.cumsum(self.positive, dtype=np.float64)])
        total, positives, negatives = float(len(self.order)), positive[-1], negative[-1]
        if not positives or not negatives:
            return np.full(len(self.order), np.nan)
        below = (negative[self.start] + negative[self.end]) / 2 / negatives  # share of negatives below each image
        above = 1 - (positive[self.start] + positive[self.end]) / 2 / positives  # share of positives above each image
        area = below[self.positive].mean()
        ranked = np.where(self.positive, (below - area) * total / positives, (above - area) * total / negatives)
        influence = np.empty(len(ranked))
        influence[self.order] = ranked
        return influence
