"""The embedded images: their content, and unpacking by several processes or after an interruption."""

import hashlib
import importlib.util
import io
import multiprocessing
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inceptionnext_lit.data.sources import embedded as sample
from inceptionnext_lit.data.sources.embedded import ARCHIVE, unpack_sample
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import CACHE_VARIABLE

CLASSES = ["ankle-boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "t-shirt", "trouser"]
PIXELS_SHA256 = "3bb90a64dd8088797c6c74f26708ad369d8bc34f5c321eaa3b0921dc5747624c"
SCRIPT = Path(__file__).parents[2] / "scripts" / "make_sample.py"
DEBIAN = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


def decoded(archive: Path) -> dict[str, bytes]:
    images = {}
    with zipfile.ZipFile(archive) as bundle:
        for name in bundle.namelist():
            if name.endswith(".png"):
                image = Image.open(io.BytesIO(bundle.read(name)))
                assert (image.mode, image.size) == ("L", (28, 28))
                images[name] = image.tobytes()
    return images


@pytest.mark.slow
def test_content() -> None:
    images = decoded(ARCHIVE)
    counts = Counter(name.rpartition("/")[0] for name in images)
    expected = {f"train/{name}": 600 for name in CLASSES} | {f"val/{name}": 100 for name in CLASSES}
    assert counts == expected
    assert len(set(images.values())) == 7000  # no image occurs twice
    digest = hashlib.sha256()
    for name in sorted(images):
        digest.update(name.encode() + images[name])
    assert digest.hexdigest() == PIXELS_SHA256


def test_license_is_in_and_next_to_the_archive() -> None:
    text = ARCHIVE.with_name("LICENSE-fashion-mnist").read_text()
    assert text.startswith(
        "MIT License\n\nCopyright (c) 2017 Zalando SE\n\nPermission is hereby granted, free of charge"
    )
    with zipfile.ZipFile(ARCHIVE) as bundle:
        assert bundle.read("LICENSE").decode() == text


@pytest.fixture
def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_sample", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_draws_training_images_per_class(tmp_path: Path, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = bytes(20 * 28 * 28)
    labels = bytes(number % 10 for number in range(20))
    monkeypatch.setattr(script, "read_idx", lambda path, header: pixels if "images" in path.name else labels)
    folders = ("--train_folder", str(tmp_path), "--test_folder", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["make_sample.py", *folders, "--train_per_class", "1"])
    script.main()
    train = {path.parent.name: int(path.stem) for path in tmp_path.glob("train/*/*.png")}
    assert sorted(train) == sorted(script.CLASSES)
    assert all(script.CLASSES[index % 10] == name for name, index in train.items())
    assert len(list(tmp_path.glob("train/*/*.png"))) == 10
    assert len(list(tmp_path.glob("test/*/*.png"))) == 20


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_script_makes_these_pixels(tmp_path: Path, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr("sys.argv", ["make_sample.py", "--output", str(tmp_path / folder)])
        script.main()
    one, two = (tmp_path / folder / ARCHIVE.name for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert decoded(one) == decoded(ARCHIVE)


@pytest.fixture
def small_archive(tmp_path: Path) -> Path:
    path = tmp_path / "small.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        for index in range(300):
            bundle.writestr(f"train/a/{index}.png", b"x" * 100)
    return path


def test_unpacks_once(tmp_path: Path, small_archive: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    target = unpack_sample(cache, small_archive)
    assert target.parent == cache
    assert len(list((target / "train" / "a").iterdir())) == 300
    marker = target / "kept"
    marker.touch()
    assert unpack_sample(cache, small_archive) == target
    assert marker.exists()
    assert os.listdir(cache) == [target.name]


def test_a_new_archive_gets_a_new_folder(tmp_path: Path, small_archive: Path) -> None:
    first = unpack_sample(tmp_path / "cache", small_archive)
    with zipfile.ZipFile(small_archive, "a") as bundle:
        bundle.writestr("train/b/1.png", b"new")
    second = unpack_sample(tmp_path / "cache", small_archive)
    assert second != first
    assert (second / "train" / "b" / "1.png").read_bytes() == b"new"


def test_cache_folder_precedence(tmp_path: Path, small_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert unpack_sample(None, small_archive).parent == tmp_path / "home" / ".cache" / "inceptionnext_lit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert unpack_sample(None, small_archive).parent == tmp_path / "xdg" / "inceptionnext_lit"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "variable"))
    assert unpack_sample(None, small_archive).parent == tmp_path / "variable"
    assert unpack_sample(tmp_path / "argument", small_archive).parent == tmp_path / "argument"


def _unpack_when_told(barrier: Any, cache: Path, archive: Path, queue: Any) -> None:
    barrier.wait(30)
    target = unpack_sample(cache, archive)
    queue.put((str(target), len(list((target / "train" / "a").iterdir()))))


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path, small_archive: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        cache = tmp_path / str(attempt)
        barrier, queue = context.Barrier(2), context.Queue()
        arguments = (barrier, cache, small_archive, queue)
        processes = [context.Process(target=_unpack_when_told, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        results = [queue.get(timeout=30) for _ in processes]
        for process in processes:
            process.join(30)
        assert [process.exitcode for process in processes] == [0, 0]
        (name,) = os.listdir(cache)  # the loser's files are gone
        assert results == [(str(cache / name), 300)] * 2


def test_the_loser_takes_the_winners_folder(
    tmp_path: Path, small_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def rename_second(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        (unpack_sample(tmp_path / "cache", small_archive) / "winner").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_second)
    target = unpack_sample(tmp_path / "cache", small_archive)
    assert (target / "winner").exists()
    assert os.listdir(tmp_path / "cache") == [target.name]


def test_an_interrupted_unpack_is_not_accepted(
    tmp_path: Path, small_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(bundle: zipfile.ZipFile, path: Path) -> None:
        bundle.extract("train/a/1.png", path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", half)
        with pytest.raises(KeyboardInterrupt):
            unpack_sample(tmp_path / "cache", small_archive)
    assert os.listdir(tmp_path / "cache") == []
    (tmp_path / "cache" / ".unpack-killed" / "content").mkdir(parents=True)  # what a kill leaves
    target = unpack_sample(tmp_path / "cache", small_archive)
    assert len(list((target / "train" / "a").iterdir())) == 300


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"Cannot unpack the embedded images into .*file/cache: Not a directory"
    ) as caught:
        unpack_sample(tmp_path / "file" / "cache")
    assert f"with the environment variable {sample.CACHE_VARIABLE}." in str(caught.value)
