import contextlib
import io
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inceptionnext_lit.cli import main
from inceptionnext_lit.data.sources.embedded import unpack_sample
from tests.forked import run_cli
from tests.recipes import SMALL
from tests.shared import made_once

_SLOW_TEST_SECONDS = 3600


def pytest_configure() -> None:
    """Give child processes the signals' defaults, and keep pytest from recording torch's trace.

    A shell starts background jobs with SIGINT ignored, and nohup ignores SIGHUP; children inherit what is ignored, but
    not what is handled. pytest 9.2 adds a handler to each logger that does not propagate; torch takes one on its
    trace's logger as the request to write it, which slows exports down and floods the report of a test that fails.
    """
    logging.getLogger("torch.__trace").propagate = True
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest test, so that no worker waits for it at the end; give slow tests more time."""
    items.sort(key=lambda item: item.name != "test_every_python_command_in_order")
    for item in items:
        if item.get_closest_marker("slow") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_SLOW_TEST_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # these models are too small to gain from more, and tests run in parallel


@pytest.fixture(autouse=True)
def _called_as_in_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cli.py"])  # messages name the program by it


@pytest.fixture(scope="session")
def sample() -> Path:
    """Unpack the embedded images."""
    return unpack_sample()


@pytest.fixture(scope="session")
def make_folder(sample: Path) -> Callable[..., Path]:
    """Create a data folder with the first images of some classes of the embedded ones."""

    def make(root: Path, splits: dict[str, int], classes: tuple[str, ...] = ("bag", "coat", "sandal")) -> Path:
        for split, count in splits.items():
            for name in classes:
                target = root / split / name
                target.mkdir(parents=True)
                source = sample / ("train" if split in ("train", ".") else "val") / name
                for path in sorted(source.iterdir())[:count]:
                    shutil.copy(path, target)
        return root

    return make


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the command line in this process, in an empty folder, like ``python cli.py WORDS``."""

    def run(*words: object) -> None:
        main([str(word) for word in words])

    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python cli.py WORDS`` in a new process, in an empty folder."""

    def run(*words: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return run_cli(words, cwd)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: two epochs of 40 steps of a tiny model on the embedded images."""

    def train(folder: Path) -> None:
        words = ["fit", *SMALL, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "40"]
        words += ["--trainer.default_root_dir", str(folder), "--model.ema_decay", "0.9"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["cli.py"])
            main(words)

    return made_once(tmp_path_factory, "trained", train) / "quickstart/version_0"


@pytest.fixture(scope="session")
def segmenter_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a segmentation model, segmenter.ckpt, exported by the guide's command, and what that printed.

    segmenter.onnx gives classes, scores.onnx probabilities; photos/ has the images of --check, of which one is too
    small for the model.
    """
    from tests.pages import DOCS, commands
    from tests.small_segmenter import save_segmenter, write_photos

    def export(folder: Path) -> None:
        save_segmenter(folder / "segmenter.ckpt", ema_decay=0.9)
        write_photos(folder / "photos")
        [words] = [words for words in commands(DOCS / "guides/export.md") if words[2:4] == ["export", "segmenter.ckpt"]]
        with pytest.MonkeyPatch.context() as patch, io.StringIO() as printed:
            patch.setattr(sys, "argv", ["cli.py"])
            patch.chdir(folder)
            with contextlib.redirect_stdout(printed):
                main([*words[2:], "--check", "photos"])
            (folder / "printed.txt").write_text(printed.getvalue(), encoding="utf-8")
            scores = ["--format", "onnx", "--output", "scores.onnx", "--probabilities", "--check", "photos"]
            main(["export", "segmenter.ckpt", *scores])

    return made_once(tmp_path_factory, "segmenter", export)
