"""Keys that were probably meant instead of unknown ones."""

from collections.abc import Callable

import pytest

from inceptionnext_lit.cli.parsing import key_hints, parser
from inceptionnext_lit.cli.parsing.key_hints import nearest_keys


@pytest.fixture
def known(cli: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of ``fit``."""
    found: list[str] = []

    def explain(message: str, ex: BaseException | None, keys: list[str]) -> str:
        found.extend(keys)
        return message

    monkeypatch.setattr(parser, "explain", explain)
    with pytest.raises(SystemExit):
        cli("fit", "--wrong", "1")
    return found


def test_keys_without_their_group_and_those_of_other_tools(known: list[str]) -> None:
    assert key_hints._ELSEWHERE.keys() <= set(known)
    expected = {
        "batch_size": ["data.batch_size"],
        "batch": ["data.batch_size"],
        "num-workers": ["data.num_workers"],
        "lr": ["model.lr"],
        "learning_rate": ["model.lr"],
        "name": ["model.name", "model.distill.name", "model.loss.name"],
        "optimizer": ["model.optimizer.name"],
        "imgsz": ["data.image_size"],
        "epochs": ["trainer.max_epochs", "trainer.min_epochs", "model.finetuning.probe_epochs"],
        "accelerater": ["trainer.accelerator"],
        "val-fraction": ["data.split.val_fraction"],
        "seed": ["seed_everything"],
        "resume": ["ckpt_path"],
        "trianer.max_epochs": ["trainer.max_epochs"],
        "trianer.x": ["trainer"],
        "trainer.epochs": ["trainer.max_epochs", "trainer.min_epochs", "trainer.devices"],
        "data.workers": ["data.num_workers"],
        "momentum": [],
    }
    assert {name: nearest_keys(name, known) for name in expected} == expected
