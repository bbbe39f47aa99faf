"""The commands of the guides that evaluate, explain and count segmentation models, on a short run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pages import DOCS, commands
from tests.recipes import REPO

Cli = Callable[..., None]
RUN = Path("runs/segment_quickstart/version_0/checkpoints/best.ckpt")
SHORT = (
    *("--model.name", "inceptionnext_iso_micro", "--data.batch_size", 4, "--trainer.limit_train_batches", 3),
    *("--trainer.check_val_every_n_epoch", 1, "--model.schedule.poly.warmup_steps", 2, "--trainer.max_epochs", 1),
)


@pytest.mark.slow
def test_the_guides_commands(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCEPTIONNEXT_LIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("inceptionnext_lit.data.sources.scenes.COUNTS", {"train": 16, "val": 5})
    pages = [DOCS / "guides/evaluate.md", DOCS / "guides/explain.md", DOCS / "paper.md"]
    evaluate, explain, budget = [words for words in commands(*pages) if any("segment" in word for word in words)]
    assert (evaluate[2], explain[2], budget[2]) == ("evaluate", "explain", "budget")
    cli("fit", "--config", REPO / "configs/segment/quickstart.yaml", *SHORT)
    cli(*evaluate[2:], "--resamples", 100)
    report = json.loads(Path("segmentation/report.json").read_text())
    assert report["data"]["splits"] == {"val": 5}
    assert report["curves"]["val/mIoU"][0][1] == pytest.approx(report["metrics"]["mIoU"]["value"], abs=1e-4)
    shutil.copy(next((tmp_path / "cache").glob("scenes-*/images/val/*.png")), "photo.jpg")
    cli(*explain[2:])
    assert Path("bag.png").stat().st_size > 1000
    capsys.readouterr()
    cli(*budget[2:])
    assert "inceptionnext_iso_small + SemanticFPN" in capsys.readouterr().out
