"""What other people's folders, networks and disks do to ``prepare``."""

import errno
import os
import shutil
import sys
from pathlib import Path
from urllib.error import URLError

import pytest

from inceptionnext_lit.data.public import find_dataset
from inceptionnext_lit.data.sources.embedded import data_folder
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare import prepared_folder, readers, writing
from inceptionnext_lit.prepare.prepare import Choices, prepare_dataset
from inceptionnext_lit.prepare.record import read_record
from inceptionnext_lit.prepare.workspace import claimed
from tests.prepare.builders import SMALL, picture
from tests.prepare.conftest import Build
from tests.prepare.test_public_sets import read_back


def content(folder: Path) -> dict[str, bytes]:
    """Return the visible files of a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


@pytest.mark.parametrize("word", ["CIFAR-10", "cifar_10", "CIFAR10"])
def test_names_in_other_spellings(word: str) -> None:
    assert find_dataset(word).name == "cifar10"
    assert find_dataset("OxfordIIITPet").name == "pets"


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown data set 'flower102'; did you mean flowers102"):
        prepare_dataset("flower102", tmp_path / "out", Choices())
    with pytest.raises(UserError, match="--mode is for ImageNet only; leave it out for pets"):
        prepare_dataset("pets", tmp_path / "out", Choices(mode="link"))
    assert not (tmp_path / "out").exists()


def test_the_source_is_something_else(build: Build, tmp_path: Path) -> None:
    flowers = build("flowers102", tmp_path / "flowers")
    with pytest.raises(UserError, match=r"flowers is Oxford 102 Flowers, not CIFAR-10: expected cifar-10-python"):
        prepare_dataset("cifar10", tmp_path / "out", Choices(flowers))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    with pytest.raises(UserError, match=r"is not CIFAR-10: expected .*, from https://www.cs.*; found notes.txt\."):
        prepare_dataset("cifar10", tmp_path / "out", Choices(tmp_path / "other"))
    with pytest.raises(UserError, match=r"The source .*none does not exist"):
        prepare_dataset("cifar10", tmp_path / "out", Choices(tmp_path / "none"))
    assert read_record(tmp_path / "out") is None


def test_data_sets_with_equal_file_names(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("mnist", tmp_path / "in")
    build("fashion-mnist", tmp_path / "in")
    labels = (tmp_path / "in/FashionMNIST/raw/train-labels-idx1-ubyte").read_bytes()
    digest = readers.hashlib.md5(labels).hexdigest()
    monkeypatch.setattr(readers, "LABEL_DIGESTS", {"fashion-mnist": digest})
    source = tmp_path / "in/FashionMNIST/raw"
    with pytest.raises(UserError, match=r"MNIST in .*raw cannot be read: its labels are those of fashion-mnist"):
        prepare_dataset("mnist", tmp_path / "out", Choices(source, 1))
    monkeypatch.setattr(readers, "LABEL_DIGESTS", {"fashion-mnist": "another"})
    with pytest.raises(UserError, match="its labels are not those of fashion-mnist"):
        prepare_dataset("fashion-mnist", tmp_path / "out2", Choices(source, 1))


def test_half_of_a_data_set(build: Build, tmp_path: Path) -> None:
    source = build("pets", tmp_path / "in")
    image = source / "oxford-iiit-pet/images/Abyssinian_2.jpg"
    image.write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 2 images do not exist or are empty, such as .*Abyssinian_2.jpg"):
        prepare_dataset("pets", tmp_path / "out", Choices(source))
    image.unlink()
    with pytest.raises(UserError, match=r"1 of 2 images do not exist or are empty"):
        prepare_dataset("pets", tmp_path / "out", Choices(source))
    shutil.rmtree(source / "oxford-iiit-pet/images")
    with pytest.raises(UserError, match=r"has only a part of Oxford-IIIT Pets: images missing. Expected images.tar.gz"):
        prepare_dataset("pets", tmp_path / "out", Choices(source))
    assert not (tmp_path / "out/manifest.csv").exists()


def test_fewer_images_or_classes_than_there_should_be(build: Build, tmp_path: Path) -> None:
    source = build("eurosat", tmp_path / "in")
    (source / "eurosat/2750/River/River_3.jpg").unlink()
    with pytest.raises(UserError, match=r"has 11 images in the split train of EuroSAT \(RGB\); expected 12"):
        prepare_dataset("eurosat", tmp_path / "out", Choices(source))
    shutil.move(source / "eurosat/2750/River", source / "eurosat/2750/Forest/River")
    picture(source / "eurosat/2750/Forest/one_more.jpg")
    with pytest.raises(UserError, match=r"has 1 class of EuroSAT \(RGB\); expected 2"):
        prepare_dataset("eurosat", tmp_path / "out", Choices(source))


def test_files_of_operating_systems_are_not_images(build: Build, tmp_path: Path) -> None:
    source = build("caltech101", tmp_path / "in")
    folder = source / "caltech101/101_ObjectCategories"
    for name in (".DS_Store", "Faces/._image_0001.jpg", "Faces/.DS_Store", "Faces/Thumbs.db"):
        (folder / name).write_bytes(b"\0" * 100)
    (folder / "__MACOSX").mkdir()
    (folder / "Faces/image_0002.jpg").rename(folder / "Faces/image_0002.JPG")
    record = prepare_dataset("caltech101", tmp_path / "out", Choices(source))
    assert read_back(tmp_path / "out", record) == SMALL["caltech101"].counts


def test_layouts_of_kaggle(build: Build, tmp_path: Path) -> None:
    """Stanford Cars as Kaggle has it: every folder in a folder of the same name."""
    base = build("cars", tmp_path / "in") / "stanford_cars"
    for name in ("cars_train", "cars_test"):
        (base / name).rename(base / "images")
        (base / name).mkdir()
        (base / "images").rename(base / name / name)
    (base / "car_devkit").mkdir()
    (base / "devkit").rename(base / "car_devkit/devkit")
    record = prepare_dataset("cars", tmp_path / "out", Choices(base))
    assert read_back(tmp_path / "out", record) == SMALL["cars"].counts
    assert "stanford_cars/cars_train/cars_train/00001.jpg" in (tmp_path / "out/manifest.csv").read_text()


def test_a_broken_archive(build: Build, tmp_path: Path) -> None:
    root = build("aircraft", tmp_path / "in")
    (tmp_path / "archives").mkdir()
    SMALL["aircraft"].pack(root, tmp_path / "archives")
    archive = tmp_path / "archives/fgvc-aircraft-2013b.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-200])
    with pytest.raises(UserError, match=r"The archive .*fgvc-aircraft-2013b.tar.gz is broken .*; download it again"):
        prepare_dataset("aircraft", tmp_path / "out", Choices(tmp_path / "archives"))
    archive.write_bytes(whole)
    record = prepare_dataset("aircraft", tmp_path / "out", Choices(tmp_path / "archives"))
    assert read_back(tmp_path / "out", record) == SMALL["aircraft"].counts


def test_another_checksum(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = build("dtd", tmp_path / "in")
    (tmp_path / "archives").mkdir()
    SMALL["dtd"].pack(root, tmp_path / "archives")
    monkeypatch.setattr("torchvision.datasets.utils.check_md5", lambda path, md5, **options: False)
    with pytest.raises(UserError, match=r"another version .its MD5 is not fff73e5086ae6bdbea199a49dfb8a4c1"):
        prepare_dataset("dtd", tmp_path / "out", Choices(tmp_path / "archives"))


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(
        UserError, match=r"could not be downloaded .*no route.*: dtd-r1.0.1.tar.gz, from http.*--source"
    ):
        prepare_dataset("dtd", tmp_path / "out", Choices())
    with pytest.raises(UserError, match=r"Stanford Cars cannot be downloaded any more: .*cars_train.tgz.*--source"):
        prepare_dataset("cars", tmp_path / "cars", Choices())


@pytest.mark.parametrize(
    ("name", "half"), [("dtd", "dtd/dtd/images/a/a.jpg"), ("pets", "oxford-iiit-pet/images/a.mat")]
)
def test_an_interrupted_download_is_not_taken_for_complete(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, half: str
) -> None:
    root = build(name, tmp_path / "in")
    (tmp_path / "archives").mkdir()
    SMALL[name].pack(root, tmp_path / "archives")
    fetched: list[str] = []

    def retrieve(url: str, filename: str, chunk_size: int = 1024) -> None:
        fetched.append(url)
        shutil.copy(tmp_path / "archives" / Path(filename).name, filename)

    def stop(*args: object) -> None:
        picture((tmp_path / "out/source" / half).with_suffix(".jpg"))
        (tmp_path / "out/source" / half).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **options: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    with monkeypatch.context() as context:
        context.setattr("torchvision.datasets.utils.extract_archive", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset(name, tmp_path / "out", Choices())
    with pytest.raises(UserError, match="is incomplete: prepare was stopped there"):
        data_folder(str(tmp_path / "out"))
    record = prepare_dataset(name, tmp_path / "out", Choices())
    assert len(fetched) == len(set(fetched))
    assert read_back(tmp_path / "out", record) == SMALL[name].counts
    assert not (tmp_path / "out/source" / half).exists()


def test_a_broken_download_without_a_checksum_is_fetched_again(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build("aircraft", tmp_path / "in")
    (tmp_path / "archives").mkdir()
    SMALL["aircraft"].pack(root, tmp_path / "archives")
    whole = (tmp_path / "archives/fgvc-aircraft-2013b.tar.gz").read_bytes()
    sizes = [len(whole) - 200, len(whole)]

    def retrieve(url: str, filename: str, chunk_size: int = 1024) -> None:
        Path(filename).write_bytes(whole[: sizes.pop(0)])

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **options: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    with pytest.raises(UserError, match=r"could not be downloaded .*: fgvc-aircraft-2013b.tar.gz, from https"):
        prepare_dataset("aircraft", tmp_path / "out", Choices())
    record = prepare_dataset("aircraft", tmp_path / "out", Choices())
    assert read_back(tmp_path / "out", record) == SMALL["aircraft"].counts


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_continues_where_it_was_stopped(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: BaseException
) -> None:
    source = build("svhn", tmp_path / "in")
    prepare_dataset("svhn", tmp_path / "whole", Choices(source, 1))
    written = []
    write_bytes = writing.write_bytes

    def write(path: str, content: bytes) -> None:
        if len(written) == 7:
            raise stopped
        written.append(path)
        write_bytes(path, content)

    with monkeypatch.context() as context:
        context.setattr(writing, "write_bytes", write)
        expected = KeyboardInterrupt if isinstance(stopped, KeyboardInterrupt) else UserError
        with pytest.raises(expected, match=None if expected is KeyboardInterrupt else "What is finished is kept; free"):
            prepare_dataset("svhn", tmp_path / "out", Choices(source, 1))
    assert read_record(tmp_path / "out") is None
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert len(times) == 7
    prepare_dataset("svhn", tmp_path / "out", Choices(source, 1))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    found, whole = content(tmp_path / "out"), content(tmp_path / "whole")
    assert found == whole
    assert len([name for name in found if name.endswith(".png")]) == 30


def test_a_complete_folder_is_not_prepared_again(build: Build, tmp_path: Path) -> None:
    source = build("svhn", tmp_path / "in")
    told: list[str] = []
    first = prepare_dataset("svhn", tmp_path / "out", Choices(source, 1), told.append)
    shutil.rmtree(source)
    assert prepare_dataset("svhn", tmp_path / "out", Choices(source, 1), told.append) == first
    assert told == [f"{tmp_path / 'out'} is complete; --overwrite prepares it again."]


def test_other_content_of_the_output(build: Build, tmp_path: Path) -> None:
    source = build("svhn", tmp_path / "in")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"mine is not empty .it has thesis.txt. and was not written by prepare"):
        prepare_dataset("svhn", tmp_path / "mine", Choices(source, 1, overwrite=True))
    assert content(tmp_path / "mine") == {"thesis.txt": b"years of work"}
    prepare_dataset("svhn", tmp_path / "out", Choices(source, 1))
    with pytest.raises(UserError, match="already belongs to the data set svhn; name another folder with --output, or"):
        prepare_dataset("digits", tmp_path / "out", Choices())
    record = prepare_dataset("digits", tmp_path / "out", Choices(overwrite=True))
    assert read_back(tmp_path / "out", record)["test"]["0"] == 36


def test_overwrite_keeps_files_of_others(build: Build, tmp_path: Path) -> None:
    """Class folders with more files than were written, and class folders next to a manifest."""
    out = tmp_path / "out"
    prepare_dataset("digits", out, Choices(num_workers=1))
    (out / "train/0/mine.png").write_bytes(b"mine")
    for choices in (Choices(num_workers=1), Choices(num_workers=1, overwrite=True)):
        with pytest.raises(UserError, match=r"out/train has 1,439 files, but prepare wrote 1,438"):
            prepare_dataset("digits", out, choices)
    assert (out / "train/0/mine.png").read_bytes() == b"mine"
    source = build("flowers102", tmp_path / "in")
    prepare_dataset("flowers102", tmp_path / "flowers", Choices(source))
    (tmp_path / "flowers/train/own").mkdir(parents=True)
    (tmp_path / "flowers/train/own/mine.jpg").write_bytes(b"mine")
    prepare_dataset("flowers102", tmp_path / "flowers", Choices(source, overwrite=True))
    assert (tmp_path / "flowers/train/own/mine.jpg").read_bytes() == b"mine"


@pytest.mark.slow
def test_a_folder_that_has_lost_images(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_dataset("digits", out, Choices(num_workers=1))
    before = content(out)
    shutil.rmtree(out / "train/9")
    with pytest.raises(UserError, match=r"out/train has 1,29\d files, but prepare wrote 1,438\. .*with --overwrite"):
        prepare_dataset("digits", out, Choices(num_workers=1))
    prepare_dataset("digits", out, Choices(num_workers=1, overwrite=True))
    assert content(out) == before


def test_overwrite_keeps_the_data_set_if_the_new_source_is_refused(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = prepare_dataset("digits", out, Choices(num_workers=1))
    before = content(out)
    with pytest.raises(UserError, match=r"\(SVHN\), not MNIST"):
        prepare_dataset("mnist", out, Choices(build("svhn", tmp_path / "in"), 1, overwrite=True))
    assert content(out) == before
    assert read_record(out) == record
    assert prepare_dataset("digits", out, Choices(num_workers=1)) == record


def test_files_below_the_output_have_relative_paths(build: Build, tmp_path: Path) -> None:
    source = build("flowers102", tmp_path / "data")
    record = prepare_dataset("flowers102", tmp_path / "data", Choices(source))
    assert "flowers-102/jpg/image_00006.jpg,hard-leaved pocket orchid,train\n" in (source / "manifest.csv").read_text()
    (tmp_path / "data").rename(tmp_path / "moved")
    assert read_back(tmp_path / "moved", record) == SMALL["flowers102"].counts


def test_two_at_once(build: Build, tmp_path: Path) -> None:
    source = build("svhn", tmp_path / "in")
    with (
        claimed(tmp_path / "out", "svhn", source, overwrite=False),
        pytest.raises(UserError, match=r"Another process is preparing a data set in .*out; wait for it"),
    ):
        prepare_dataset("svhn", tmp_path / "out", Choices(source, 1))


def test_a_read_only_source(build: Build, tmp_path: Path) -> None:
    source = build("flowers102", tmp_path / "in")
    before = sorted(source.rglob("*"))
    for path in [source, *before]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    prepare_dataset("flowers102", tmp_path / "out", Choices(source))
    assert sorted(source.rglob("*")) == before
    for path in [source, *before]:
        path.chmod(0o755)


def test_cached_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCEPTIONNEXT_LIT_CACHE", str(tmp_path))
    folder = prepared_folder("digits", 1)
    assert folder == tmp_path / "datasets/digits"
    record = read_record(folder)
    assert record is not None
    assert record.splits == {"train": 1438, "test": 359}
    written = (folder / "dataset.json").stat().st_mtime_ns
    assert prepared_folder("DIGITS") == folder
    assert (folder / "dataset.json").stat().st_mtime_ns == written


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="file names are Unicode there")
def test_names_that_are_not_utf_8(build: Build, tmp_path: Path) -> None:
    source = build("eurosat", tmp_path / "in")
    folder = os.fsencode(source / "eurosat/2750/Forest")
    os.rename(folder + b"/Forest_1.jpg", folder + b"/for\xeat.jpg")
    with pytest.raises(UserError, match=r"for.udcea.*is not UTF-8, which a manifest is; rename it"):
        prepare_dataset("eurosat", tmp_path / "out", Choices(source))
