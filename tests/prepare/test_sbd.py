"""Pascal VOC with the Semantic Boundaries Dataset, whose masks are MATLAB files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from inceptionnext_lit.cli import main
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.machine import CACHE_VARIABLE
from inceptionnext_lit.prepare.sbd import find_sbd
from tests.scenes import Index, scene, write_image, write_palette

VOC_TRAIN, VOC_VAL = ("2007_000001", "2007_000002"), ("2008_000003",)
SBD_TRAIN, SBD_VAL = ("2007_000002", "2010_000004"), ("2008_000003", "2011_000005")
ADDED = ("2010_000004", "2011_000005")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def write_mat(path: Path, mask: Any) -> None:
    """As SBD's: a structure ``GTcls`` with ``Boundaries``, ``Segmentation`` and ``CategoriesPresent``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), dtype=object)
    boundaries[:] = [[np.zeros((2, 2), dtype=np.uint8)]] * 20
    fields = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": np.unique(mask)}
    savemat(path, {"GTcls": fields}, do_compression=True)


def write_downloads(root: Path, sbd: str = "benchmark_RELEASE/dataset") -> tuple[dict[str, Index], dict[str, Index]]:
    """Write ``VOCdevkit`` and SBD below a folder; return the masks of both by name."""
    voc, of_voc, of_sbd = root / "VOCdevkit/VOC2012", {}, {}
    for number, name in enumerate(sorted({*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL})):
        image, mask = scene(number, ignored=True)
        write_image(voc / "JPEGImages" / f"{name}.jpg", image)
        if name in (*VOC_TRAIN, *VOC_VAL):
            write_palette(voc / "SegmentationClass" / f"{name}.png", mask)
            of_voc[name] = mask
        if name in (*SBD_TRAIN, *SBD_VAL):
            of_sbd[name] = np.where(mask == 255, 0, 20 - mask).astype(np.uint8)
            write_mat(root / sbd / "cls" / f"{name}.mat", of_sbd[name])
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for path, names in (
        (lists / "train.txt", VOC_TRAIN),
        (lists / "val.txt", VOC_VAL),
        (root / sbd / "train.txt", SBD_TRAIN),
        (root / sbd / "val.txt", SBD_VAL),
    ):
        path.write_text("".join(f"{name}\n" for name in names))
    return of_voc, of_sbd


def prepare(tmp_path: Path, source: str = "in") -> Path:
    main(["prepare", "voc", "--source", str(tmp_path / source), "--output", str(tmp_path / "out")])
    return tmp_path / "out"


@pytest.mark.parametrize("place", ["benchmark_RELEASE/dataset", "VOCdevkit/VOCaug/dataset", "sbd"])
def test_training_images_of_both_without_those_of_validation(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    of_voc, of_sbd = write_downloads(tmp_path / "in", place)
    output = prepare(tmp_path)
    assert "Pascal VOC: 4 train, 1 val images, 21 classes" in capsys.readouterr().out
    source = MaskSource(output)
    found = {}
    for split, names in (("train", (*VOC_TRAIN, *ADDED)), ("val", VOC_VAL)):
        samples = source.samples(split)  # type: ignore[arg-type]
        assert samples is not None
        assert [Path(path).stem for path in samples.paths] == sorted(names)
        for path, mask in zip(samples.paths, source.masks(samples.paths), strict=True):
            found[Path(path).stem] = source.scheme.read(mask)
            assert Image.open(mask).mode == "P"
    expected = of_voc | {name: of_sbd[name] for name in ADDED}  # VOC's own masks where both have one
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], mask) for name, mask in expected.items())
    assert (output / "images/train/2010_000004.jpg").resolve().parent.name == "JPEGImages"
    prepare(tmp_path)
    assert "is complete" in capsys.readouterr().out


def test_without_lists_all_masks_are_used(tmp_path: Path) -> None:
    write_downloads(tmp_path / "in", "sbd")
    for name in ("train.txt", "val.txt"):
        (tmp_path / "in/sbd" / name).unlink()
    assert len(list((prepare(tmp_path) / "masks/train").iterdir())) == 4


def test_images_of_sbd_s_own_folder(tmp_path: Path) -> None:
    write_downloads(tmp_path / "in", "sbd")
    (tmp_path / "in/sbd/img").mkdir()
    image = tmp_path / "in/VOCdevkit/VOC2012/JPEGImages/2011_000005.jpg"
    image.rename(tmp_path / "in/sbd/img/2011_000005.jpg")
    assert (prepare(tmp_path) / "images/train/2011_000005.jpg").resolve().parent.name == "img"


def test_without_sbd_it_is_voc_alone(tmp_path: Path) -> None:
    write_downloads(tmp_path / "in")
    assert find_sbd(tmp_path / "in/VOCdevkit") is None
    assert len(list((prepare(tmp_path, "in/VOCdevkit") / "masks/train").iterdir())) == 2


def spoil_text(path: Path) -> None:
    path.write_bytes(b"not a MATLAB file")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (Path.unlink, "is missing; unpack SBD's archive again."),
        (spoil_text, "cannot be read as a mask of SBD (GTcls.Segmentation); unpack its archive again."),
        (lambda path: savemat(path, {"other": 1}), "cannot be read as a mask of SBD (GTcls.Segmentation)"),
        (
            lambda path: write_mat(path, np.full((24, 32), 21, np.uint8)),
            "has the value 21, but the 21 classes are 0 to",
        ),
        (lambda path: write_mat(path, np.zeros((24, 31), np.uint8)), "has 31×24 pixels, and "),
        (lambda path: write_mat(path, np.zeros((24, 32))), "does not contain a mask of integers"),
    ],
)
def test_mistakes(tmp_path: Path, spoil: Any, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_downloads(tmp_path / "in")
    spoil(tmp_path / "in/benchmark_RELEASE/dataset/cls/2010_000004.mat")
    with pytest.raises(SystemExit):
        prepare(tmp_path)
    error = capsys.readouterr().err
    assert expected in error
    assert "2010_000004.mat" in error
    assert "Traceback" not in error


def test_a_missing_image_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_downloads(tmp_path / "in")
    (tmp_path / "in/VOCdevkit/VOC2012/JPEGImages/2010_000004.jpg").unlink()
    with pytest.raises(SystemExit):
        prepare(tmp_path)
    assert re_of(capsys) == "such as 2010_000004.jpg; unpack both archives completely."


def re_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().rpartition(", ")[2]
