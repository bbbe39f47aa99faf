"""The best classes of each image of a batch, from a classifier's probabilities."""

from collections.abc import Sequence

from torch import Tensor

from inceptionnext_lit.predictions import TOP, Predictions


def rank(
    scores: Tensor, paths: list[str], *, multi_label: bool = False, thresholds: Sequence[float] | None = None
) -> Predictions:
    """Select the best classes of each image.

    Args:
        scores: Probabilities, shape (N, classes); NaN where the logits were not finite.
        paths: The N files.
        multi_label: Whether an image may have several labels.
        thresholds: The score from which on each label is present; one half by default.
    """
    top = scores.topk(min(TOP, scores.shape[1]), dim=1)
    limits = scores.new_tensor(thresholds or [0.5])
    present = scores >= limits if multi_label else None
    finite = scores.isfinite().all(dim=1)
    return {
        "paths": paths,
        "finite": finite,
        "classes": top.indices,
        "probabilities": top.values,
        "scores": scores,
        "present": present,
    }
