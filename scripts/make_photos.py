"""Create a folder of photographs in classes, from cut-outs of Debian's package tuxpaint-stamps-default.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb STAMPS
    python scripts/make_photos.py STAMPS/usr/share/tuxpaint/stamps FOLDER

Each photograph of birds, fish, flowers, fruit, insects, mammals, vegetables or vehicles is pasted, mirrored or not, on
parts of the two photographs that scikit-learn ships. Every fourth cut-out of a class is only in val/, so that what is
measured there was not seen in training; with --held-out 0, val/ shows the cut-outs of train/ in other places.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

CLASSES = {
    "birds": "animals/birds",
    "fish": "animals/fish",
    "flowers": "plants/flowers",
    "fruit": "food/fruit",
    "insects": "animals/insects",
    "mammals": "animals/mammals",
    "vegetables": "food/vegetables",
    "vehicles": "vehicles",
}
SIDE = 256
SHARE = (0.5, 0.9)  # of the side, that the cut-out's longer side has


def cut_outs(folder: Path) -> list[Image.Image]:
    """Return the photographs in a folder of stamps, cut to what is not transparent; drawings are left out."""
    found = []
    for path in sorted(folder.rglob("*.png")):
        if "cartoon" in path.parts:
            continue
        with Image.open(path) as image:
            stamp = image.convert("RGBA")
        box = stamp.getchannel("A").getbbox()
        if box is not None:
            found.append(stamp.crop(box))
    return found


def make_image(stamp: Image.Image, backgrounds: list[Image.Image], draw: np.random.Generator) -> Image.Image:
    """Paste a cut-out on a part of a photograph."""
    background = backgrounds[draw.integers(len(backgrounds))]
    side = int(draw.integers(SIDE // 2, min(background.size) + 1))
    left, top = (int(draw.integers(length - side + 1)) for length in background.size)
    image = background.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    scale = SIDE * draw.uniform(*SHARE) / max(stamp.size)
    pasted = stamp.resize([max(1, round(scale * length)) for length in stamp.size], Image.Resampling.BICUBIC)
    if draw.random() < 0.5:
        pasted = ImageOps.mirror(pasted)
    place = tuple(int(draw.integers(SIDE - length + 1)) for length in pasted.size)
    image.paste(pasted, place, pasted)
    return image


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stamps", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=150, help="training images per class")
    parser.add_argument("--val", type=int, default=75, help="validation images per class")
    parser.add_argument("--held-out", type=int, default=4, help="every which cut-out is only in val/; 0 for none")
    options = parser.parse_args()
    backgrounds = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    draw = np.random.default_rng(0)
    for name, place in CLASSES.items():
        stamps = cut_outs(options.stamps / place)
        every = options.held_out
        training = [stamp for number, stamp in enumerate(stamps) if not every or number % every]
        held_out = stamps[::every] if every else training
        if not training:
            parser.error(f"{options.stamps / place} has no photographs; give the folder of the package's stamps.")
        for split, chosen, images in (("train", training, options.train), ("val", held_out, options.val)):
            target = options.folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for number in range(images):
                image = make_image(chosen[number % len(chosen)], backgrounds, draw)
                image.save(target / f"{number:04}.jpg", quality=90)
        print(f"{name}: {len(training)} cut-outs for training, {len(held_out)} for validation")


if __name__ == "__main__":
    main()
