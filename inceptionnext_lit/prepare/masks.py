"""Turn images with masks of any kind into one folder of images, index masks with a palette, and a table of classes."""

import io
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from inceptionnext_lit.data.masks.class_table import FILE as CLASSES
from inceptionnext_lit.data.masks.class_table import write_table
from inceptionnext_lit.data.masks.layouts import Form
from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.scheme import Scheme
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.data.masks.surveying import each
from inceptionnext_lit.data.sources.split_names import SplitName
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.record import DatasetRecord, read_record, write_record
from inceptionnext_lit.prepare.replacing import check_counts
from inceptionnext_lit.prepare.sbd import CITATION as SBD_CITATION
from inceptionnext_lit.prepare.sbd import TITLE as SBD_TITLE
from inceptionnext_lit.prepare.sbd import SbdScene, added_scenes, find_sbd, read_mask
from inceptionnext_lit.prepare.workspace import claimed
from inceptionnext_lit.prepare.writing import write_bytes
from inceptionnext_lit.preprocessing import IGNORED
from inceptionnext_lit.wording import count

_VOID = (224, 224, 192)  # Pascal VOC's color of ignored pixels


@dataclass(frozen=True)
class MaskSet:
    """A kind of source of images with masks.

    Attributes:
        title: Its name in text.
        form: The layout that it must have; None for any.
        splits: The splits that have masks; None for all.
        license: The license, or the terms of use.
        url: Its page.
        citation: What to cite.
    """

    title: str
    form: Form | None = None
    splits: tuple[SplitName, ...] | None = None
    license: str = "not stated"
    url: str = ""
    citation: str = ""


MASK_SETS = {
    "masks": MaskSet("images with masks"),
    "ade20k": MaskSet(
        "ADE20K",
        "ade20k",
        ("train", "val"),
        "BSD 3-Clause for annotations; images for non-commercial research and education only",
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/",
        "Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017",
    ),
    "cityscapes": MaskSet(
        "Cityscapes",
        "cityscapes",
        ("train", "val"),
        "non-commercial use only (cityscapes-dataset.com's terms)",
        "https://www.cityscapes-dataset.com/",
        "Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016",
    ),
    "voc": MaskSet(
        "Pascal VOC",
        "voc",
        None,
        "not stated; images from Flickr",
        "http://host.robots.ox.ac.uk/pascal/VOC/",
        "Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2015",
    ),
}


def prepare_masks(
    name: str,
    source: Path | None,
    output: Path,
    options: MaskOptions,
    *,
    overwrite: bool = False,
    tell: Callable[[str], object] = lambda line: None,
) -> DatasetRecord:
    """Write images with masks as ``images/SPLIT`` (links), ``masks/SPLIT`` (index PNGs) and ``classes.csv``.

    Args:
        name: A key of ``MASK_SETS``.
        source: The folder of the images with masks.
        output: The folder to write.
        options: How masks are stored in the source.
        overwrite: Whether to replace what was prepared there before.
        tell: Called with lines on the progress.

    Raises:
        UserError: If the source is not such a data set, or something in it must be corrected.
    """
    if source is None:
        raise UserError(f"Name the folder of {MASK_SETS[name].title} with --source; it is not downloaded.")
    if source.resolve() == output.resolve():
        raise UserError(f"--source and --output are both {output}; name another folder with --output.")
    with claimed(output, name, source, overwrite=overwrite):
        if (done := read_record(output)) is not None:
            check_counts(output, done)
            tell(f"{output} is complete; --overwrite prepares it again.")
            return done
        try:
            record = _prepare(name, source, output, options, tell)
        except OSError as error:
            raise UserError(f"{error.filename or output} could not be written: {error.strerror or error}.") from error
        write_record(output, record)
        return record


def index_png(mask: np.ndarray, palette: Sequence[Sequence[int]]) -> bytes:
    """Return a mask as a PNG of class indices with a palette.

    Args:
        mask: Class indices, uint8 (H, W); 255 for ignored pixels.
        palette: Color of each class.
    """
    levels = np.zeros((256, 3), dtype=np.uint8)
    levels[IGNORED] = _VOID
    levels[: len(palette)] = palette
    image = Image.fromarray(mask)
    image.putpalette(levels.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _prepare(
    name: str, folder: Path, output: Path, options: MaskOptions, tell: Callable[[str], object]
) -> DatasetRecord:
    row = MASK_SETS[name]
    source = MaskSource(folder, options)
    if row.form is not None and source.layout.form != row.form:
        raise UserError(f"{folder} does not have the layout of {row.title}; for another folder, use prepare masks.")
    sbd = None if row.form != "voc" or source.layout.has_augmented else find_sbd(folder)
    parts = [split for split in source.layout.parts if row.splits is None or split in row.splits]
    samples = {split: source.samples(split) for split in parts}
    for note in source.notes:
        tell(note)
    splits = {}
    for split, found in samples.items():
        assert found is not None  # a split of the layout
        images = list(found.paths)
        tell(f"{split}: {count(len(images), 'image')}")
        places = _places(images, source.layout.parts[split].images)
        masks = list(source.masks(found.paths))
        work = list(zip(images, masks, places, strict=True))
        each(work, partial(_write, output, split, source.scheme))
        splits[str(split)] = len(images)
    notes = source.notes
    if sbd is not None:
        added = _add_sbd(sbd, source, output, list(samples))
        splits["train"] = splits.get("train", 0) + added
        notes.append(f"With {count(added, 'training image')} of {SBD_TITLE}, as train_aug: {SBD_CITATION}.")
        tell(notes[-1])
    write_table(output / CLASSES, source.scheme.names, source.scheme.palette)
    return DatasetRecord(
        name=name,
        title=row.title,
        root=".",
        metric="mIoU",
        multi_label=False,
        splits=splits,
        num_classes=len(source.scheme.names),
        source=str(folder.absolute()),
        license=row.license,
        url=row.url,
        citation=row.citation,
        notes=notes,
    )


def _add_sbd(sbd: Path, source: MaskSource, output: Path, splits: Sequence[SplitName]) -> int:
    """Add the training images that have a mask in SBD only, except validation images; return their number."""
    parts = [source.layout.parts[split] for split in splits]
    known = [name for part in parts for name in part.only or ()]
    scenes = added_scenes(sbd, parts[0].images, known)
    each(scenes, partial(_write_sbd, output, source.scheme))
    return len(scenes)


def _write_sbd(output: Path, scheme: Scheme, scene: SbdScene) -> None:
    target = output / "masks" / "train" / f"{scene.mask.stem}.png"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(str(target), index_png(read_mask(scene, len(scheme.names)), scheme.palette))
    _link(scene.image, output / "images" / "train" / scene.image.name)


def _places(images: Sequence[str], folder: Path) -> list[str]:
    """Return the path of each image below its split's folder."""
    return [os.path.relpath(image, folder) for image in images]


def _write(output: Path, split: str, scheme: Scheme, work: tuple[str, str, str]) -> None:
    """Link an image and write its mask, unless they exist."""
    image, mask, place = work
    target = output / "masks" / split / f"{os.path.splitext(place)[0]}.png"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(str(target), index_png(scheme.read(mask), scheme.palette))
    _link(Path(image), output / "images" / split / place)


def _link(image: Path, link: Path) -> None:
    """Link an image, unless that is done; copy it on file systems without links."""
    if link.is_symlink() or link.exists():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(os.path.abspath(image))
    except OSError:
        shutil.copyfile(image, link)
