"""Label images with a checkpoint, from Python; the checkpoint alone is enough.

Usage: python examples/predict_from_checkpoint.py CHECKPOINT IMAGE [IMAGE ...]
"""

import sys

import torch

from inceptionnext_lit.data import load_image
from inceptionnext_lit.data.transforms import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import ClassificationTask


def main(checkpoint: str, paths: list[str]) -> None:
    """Print the most probable class of each image."""
    task = ClassificationTask.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    transform = eval_transform(task.preprocessing)
    images = torch.stack([transform(load_image(path)) for path in paths])
    with torch.no_grad():
        probabilities = task(images).softmax(dim=1)
    for path, row in zip(paths, probabilities, strict=True):
        print(f"{path}: {task.class_names[int(row.argmax())]} ({float(row.max()):.1%})")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2:])
    except UserError as error:
        sys.exit(f"error: {error}")
