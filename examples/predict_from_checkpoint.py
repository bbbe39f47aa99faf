"""Label images with a checkpoint from Python; nothing but the checkpoint is needed.

Usage: python examples/predict_from_checkpoint.py CHECKPOINT IMAGE [IMAGE ...]
"""

import sys

from inceptionnext_lit import load_classifier
from inceptionnext_lit.errors import UserError


def main(checkpoint: str, paths: list[str]) -> None:
    """Print the most probable class of each image."""
    classifier = load_classifier(checkpoint)
    for path, prediction in zip(paths, classifier.predict(paths), strict=True):
        words = f", {prediction.words}" if prediction.words else ""  # of ImageNet's classes
        print(f"{path}: {prediction.label}{words} ({prediction.probability:.1%})")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2:])
    except UserError as error:
        sys.exit(f"error: {error}")
