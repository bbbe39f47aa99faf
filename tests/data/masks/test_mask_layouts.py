"""Folders of images with masks, as people have them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.data.masks.layouts import find_scenes
from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.data.masks.test_mask_kinds import read_all
from tests.scenes import (
    COLORS,
    NAMES,
    Index,
    colored,
    scene,
    write_coco,
    write_image,
    write_labelme,
    write_pairs,
    write_palette,
    write_yolo,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "folders",
    [("images", "masks"), ("images", "annotations"), ("images", "labels"), ("img_dir", "ann_dir"), ("Images", "GT")],
)
def test_folders_next_to_each_other(tmp_path: Path, folders: tuple[str, str]) -> None:
    root = tmp_path / "data"
    written = write_pairs(root, counts={"train": 3, "val": 2}, folders=folders)
    source = MaskSource(root)
    assert source.has_splits
    found = read_all(source) | read_all(source, "val")
    assert all(np.array_equal(found[stem], mask) for stem, mask in written.items())
    assert source.samples("test") is None
    assert source.place("val") == str(root / folders[0] / "val")
    wrapped = MaskSource(tmp_path)  # the folder that an archive was unpacked into
    assert wrapped.root == root


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}.jpg", "{}_mask.png"),
        ("{}.jpg", "{}.jpg.png"),
        ("image_{}.png", "mask_{}.png"),
        ("{}_sat.jpg", "{}_mask.png"),
        ("{}.jpg", "{}_segmentation.png"),
        ("{}.png", "{}_L.png"),
    ],
)
def test_names_that_differ(tmp_path: Path, image: str, mask: str) -> None:
    for number in range(3):
        pixels, classes = scene(number)
        write_image(tmp_path / "images" / image.format(number), pixels)
        write_image(tmp_path / "masks" / mask.format(number), classes)
    source = MaskSource(tmp_path)
    samples = source.samples("train")
    assert samples is not None
    masks = source.masks(samples.paths)
    assert [Path(path).name for path in samples.paths] == [image.format(number) for number in range(3)]
    assert [Path(path).name for path in masks] == [mask.format(number) for number in range(3)]
    assert source.notes[0].startswith("The mask of ")


def test_images_and_masks_in_one_folder_per_split(tmp_path: Path) -> None:
    """The layout of Roboflow's exports."""
    for split in ("train", "valid"):
        for number in range(2):
            pixels, classes = scene(number)
            write_image(tmp_path / split / f"{number}.jpg", pixels)
            write_image(tmp_path / split / f"{number}_mask.png", classes)
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    source = MaskSource(tmp_path)
    assert len(source.samples("val") or []) == len(source.samples("train") or []) == 2
    assert source.classes() == ["background", "cat", "dog"]


def test_splits_with_images_and_labels(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_yolo(tmp_path / split)
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    source = MaskSource(tmp_path)
    assert np.array_equal(read_all(source, "val")["0"], scene(0)[1])


def test_cocos_own_layout(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        write_coco(tmp_path / split, name="a.json")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / split / "a.json").rename(tmp_path / "annotations" / f"instances_{split}.json")
    source = MaskSource(tmp_path)
    assert source.layout.parts["val"].masks.name == "instances_val2017.json"
    assert np.array_equal(read_all(source, "val")["3"], scene(3)[1])


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_a_coco_file_next_to_the_images(tmp_path: Path, prefix: str) -> None:
    written = write_coco(tmp_path, name="result.json")
    content = json.loads((tmp_path / "result.json").read_text())
    for entry in content["images"]:
        entry["file_name"] = prefix + entry["file_name"]  # Label Studio's has the folder
    (tmp_path / "result.json").write_text(json.dumps(content))
    source = MaskSource(tmp_path)
    found = read_all(source)
    assert source.classes() == ["background", "cat", "dog"]
    for stem, mask in written.items():
        assert np.array_equal(found[stem], mask)


def test_coco_files_of_splits_next_to_the_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path / "parts" / split, name="a.json")
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "parts" / split / "images").rename(tmp_path / "images" / split)
        (tmp_path / "parts" / split / "a.json").rename(tmp_path / f"{split}.json")
        (tmp_path / "parts" / split).rmdir()
    (tmp_path / "parts").rmdir()
    source = MaskSource(tmp_path)
    assert np.array_equal(read_all(source, "val")["3"], scene(3)[1])


def test_ade20k_is_reduced_and_that_is_said(tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    written = write_pairs(root, counts={"training": 3, "validation": 2}, folders=("images", "annotations"))
    (root / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n"
        "1\t0.1576\t11664\t1172\t1\twall\n2\t0.1072\t6046\t612\t1\tbuilding, edifice\n3\t0.08\t8265\t796\t1\tsky;wall\n"
    )
    source = MaskSource(tmp_path)
    found = read_all(source)
    for stem, mask in found.items():
        assert np.array_equal(mask, np.array([255, 0, 1], dtype=np.uint8)[written[stem]])
    assert source.classes() == ["wall", "building", "sky"]
    assert source.notes[0] == "The folder has the layout of ADE20K."
    assert "The value 0 means no label, and 1 is the first class (data.masks.reduce_zero_label)." in source.notes


@pytest.mark.parametrize("kind", ["labelTrainIds", "labelIds"])
def test_cityscapes(tmp_path: Path, kind: str) -> None:
    ids = np.array([7, 26, 0] if kind == "labelIds" else [0, 13, 255], dtype=np.uint8)
    for split in ("train", "val"):
        for number in range(2):
            pixels, classes = scene(number)
            stem = f"aachen_{number:06}_000019"
            write_image(tmp_path / "leftImg8bit" / split / "aachen" / f"{stem}_leftImg8bit.png", pixels)
            place = tmp_path / "gtFine" / split / "aachen"
            write_image(place / f"{stem}_gtFine_{kind}.png", ids[classes])
            write_image(place / f"{stem}_gtFine_color.png", pixels)
            (place / f"{stem}_gtFine_polygons.json").write_text("{}")
    source = MaskSource(tmp_path)
    found = read_all(source)
    assert np.array_equal(found["aachen_000001_000019_leftImg8bit"], np.array([0, 13, 255], np.uint8)[scene(1)[1]])
    assert source.classes()[:3] == ["road", "sidewalk", "building"]
    assert source.scheme.palette[13] == [0, 0, 142]


def test_pascal_voc_uses_the_images_of_its_lists(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    write_pairs(root, write_palette, counts={"": 5}, folders=("JPEGImages", "SegmentationClass"), ignored=True)
    write_image(root / "JPEGImages" / "unlabeled.jpg", scene(9)[0])
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("scene0\nscene1\nscene3\n")
    (lists / "val.txt").write_text("scene2\nscene4\n")
    (lists / "trainval.txt").write_text("scene0\n")
    source = MaskSource(tmp_path)
    assert sorted(read_all(source)) == ["scene0", "scene1", "scene3"]
    assert sorted(read_all(source, "val")) == ["scene2", "scene4"]
    assert source.classes()[:3] == ["background", "aeroplane", "bicycle"]
    assert source.scheme.palette[20] == [0, 64, 128]


def test_folders_of_other_things_are_not_scenes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_image(tmp_path / "train" / name / "1.jpg", scene(0)[0])
    assert find_scenes(tmp_path) is None
    assert find_scenes(tmp_path / "nothing") is None


def test_images_of_a_split_without_masks_are_said(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 3})
    write_image(tmp_path / "images" / "test" / "1.jpg", scene(0)[0])
    source = MaskSource(tmp_path)
    assert source.samples("train") is not None
    assert source.notes[0] == f"Not used, since there are no masks for it: {tmp_path}/images/test."


def test_samples_have_the_classes_of_their_masks(tmp_path: Path) -> None:
    masks: list[Index] = [np.full((24, 32), value, dtype=np.uint8) for value in (0, 1, 255)]
    masks[0][:3] = 2
    for number, mask in enumerate(masks):
        write_image(tmp_path / "images" / f"{number}.jpg", scene(number)[0])
        write_image(tmp_path / "masks" / f"{number}.png", mask)
    samples = MaskSource(tmp_path).samples("train")
    assert samples is not None
    assert [sample.label for sample in samples] == [(0, 2), (1,), ()]


def test_a_labelme_folder(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    assert MaskSource(tmp_path).layout.parts["train"].images == tmp_path
    Image.new("RGB", (32, 24)).save(tmp_path / "other.jpg")
    problems = MaskSource(tmp_path).problems("train")
    assert [(problem.kind, Path(problem.path).name) for problem in problems] == [("mask_missing", "other.jpg")]


def test_the_kind_can_be_given(tmp_path: Path) -> None:
    write_pairs(tmp_path, lambda path, mask: write_image(path, np.where(mask > 0, 255, 0).astype(np.uint8)))
    source = MaskSource(tmp_path, MaskOptions(kind="index"), classes=["ground", "house"])
    assert source.scheme.of_value[255] == 255


@pytest.mark.parametrize(("images", "masks"), [("train", "train_labels"), ("train_images", "train_masks")])
def test_split_folders_next_to_those_of_their_masks(tmp_path: Path, images: str, masks: str) -> None:
    """As in CamVid and many data sets on Kaggle."""
    for split in ("train", "val"):
        for number in range(2):
            pixels, classes = scene(number)
            write_image(tmp_path / images.replace("train", split) / f"{number}.png", pixels)
            write_image(tmp_path / masks.replace("train", split) / f"{number}_L.png", classes)
    source = MaskSource(tmp_path)
    assert np.array_equal(read_all(source, "val")["1"], scene(1)[1])
    assert len(source.samples("train") or []) == 2


def test_masks_in_a_folder_of_their_own(tmp_path: Path) -> None:
    """As in Oxford-IIIT Pets, whose values begin with 1."""
    written = write_pairs(
        tmp_path, lambda path, mask: write_image(path, mask + np.uint8(1)), folders=("images", "annotations/trimaps")
    )
    with pytest.raises(UserError, match=r"have the values 1, 2, 3, but not 0; if 1 is the first class, set --data\."):
        MaskSource(tmp_path).samples("train")
    found = read_all(MaskSource(tmp_path, MaskOptions(reduce_zero_label=True)))
    assert all(np.array_equal(found[stem], mask) for stem, mask in written.items())


def test_cvats_colors(tmp_path: Path) -> None:
    written = write_pairs(
        tmp_path, lambda path, mask: write_image(path, colored(mask)), folders=("JPEGImages", "SegmentationClass")
    )
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in zip(NAMES, COLORS, strict=True)]
    (tmp_path / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]))
    source = MaskSource(tmp_path)
    found = read_all(source)
    assert all(np.array_equal(found[stem], mask) for stem, mask in written.items())
    assert source.classes() == NAMES
