"""What a classifier says about an image. This module does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from inceptionnext_lit.data.class_words import joined_words
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predictions import Predictions, labels, top_labels
from inceptionnext_lit.wording import listed


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image.

    Attributes:
        label: The most probable class; for a multi-label model, all classes whose probability reaches their threshold,
            one half unless the checkpoint has others, joined by ``|``.
        probability: Probability of the most probable class, in [0, 1].
        top5: The five most probable classes (or all, if there are fewer) with their probabilities, best first.
    """

    label: str
    probability: float
    top5: dict[str, float]

    @property
    def words(self) -> str | None:
        """The words of the label if it is a WordNet ID, such as ``tabby, tabby cat`` for ``n02123045``."""
        return joined_words(self.label)


def as_predictions(predictions: Predictions, class_names: Sequence[str], names: Sequence[str]) -> list[Prediction]:
    """Return the predictions of a batch, one for each image.

    Args:
        predictions: The best classes of the images.
        class_names: Names in the order of the indices.
        names: Names of the images, for messages.

    Raises:
        UserError: If the model's outputs for an image are NaN or infinite.
    """
    finite = predictions["finite"].tolist()
    if lost := [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]:
        raise UserError(
            f"The model's outputs are NaN or infinite for {listed(lost)}. Check the pixel values, or use an "
            "earlier checkpoint."
        )
    of_images = zip(labels(predictions, class_names), top_labels(predictions, class_names), strict=True)
    return [Prediction(label, next(iter(top5.values())), top5) for label, top5 in of_images]
