"""Draw validation scenes of the segmentation quickstart: the images, their masks, and what a checkpoint predicts.

python cli.py fit --config configs/segment/quickstart.yaml
python examples/segmentation_picture.py runs/segment_quickstart/version_0/checkpoints/best.ckpt scenes.webp
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inceptionnext_lit.data import SegmentationDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.preprocessing import IGNORED
from inceptionnext_lit.tasks.loading import load_segmentation_task

SCENES = 10
GAP = 4  # pixels between pictures
SHARE = 0.7  # of a class's color
WHITE = (255, 255, 255)
LINE = 16  # height of a line of text


def overlaid(image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: list[list[int]]) -> NDArray[np.uint8]:
    """Color all classes but the first, the background, and make ignored pixels white."""
    colors = np.array([*palette, WHITE], dtype=np.float32)[np.where(mask == IGNORED, len(palette), mask)]
    shares = np.where(mask > 0, SHARE, 0)[..., None]
    return (image * (1 - shares) + colors * shares).astype(np.uint8)


def draw(checkpoint: Path, scenes: int = SCENES) -> Image.Image:
    """Return a picture with a column for each scene: image, mask and prediction."""
    task, content = load_segmentation_task(checkpoint)
    task.eval()
    settings = task.data_defaults(content["hyper_parameters"])
    settings["input"] = InputOptions(**settings["input"])
    data = SegmentationDataModule("scenes", batch_size=scenes, num_workers=0, **settings)
    data.prepare_data()
    data.setup("validate")
    raw = next(iter(data.val_dataloader()))
    pixels = [image.permute(1, 2, 0).numpy() for image in raw.images]
    batch = data.on_after_batch_transfer(raw, 0)
    palette = task.data_spec.palette
    assert palette is not None  # that of the scenes
    rows: list[list[NDArray[np.uint8]]] = [pixels, [], []]
    for picture, image, mask in zip(pixels, batch.images, batch.masks, strict=True):
        with torch.inference_mode():
            found = task.inference.best(task.inference_model, image, mask.shape).classes
        rows[1].append(overlaid(picture, mask.numpy(), palette))
        rows[2].append(overlaid(picture, found.numpy().astype(np.uint8), palette))
    height, width = (side + GAP for side in pixels[0].shape[:2])
    whole = Image.new("RGB", (width * scenes - GAP, height * len(rows) + LINE), WHITE)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            whole.paste(Image.fromarray(picture), (column * width, row * height))
    pen, left = ImageDraw.Draw(whole), 0
    for name, color in zip(task.class_names[1:], palette[1:], strict=True):
        top = height * len(rows)
        pen.rectangle((left, top + 2, left + 11, top + 13), fill=tuple(color))
        pen.text((left + 16, top + 2), name, fill="black")
        left += 32 + int(pen.textlength(name))
    return whole


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path, help="a file with the suffix .webp or .png")
    options = parser.parse_args()
    draw(options.checkpoint).save(options.output, quality=90, method=6)


if __name__ == "__main__":
    main()
