"""The command line of ``serve``."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit.cli.commands import serve
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.serve import running
from inceptionnext_lit.serve.options import ServeOptions

Cli = Callable[..., None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port is 70000; it must be a port number from 0 to 65535."),
        (["--max_wait_ms", "-1"], "--max_wait_ms is -1; it must be from 0 to 10000 milliseconds."),
        (["--max_wait_ms", "nan"], "--max_wait_ms is nan; it must be from 0 to 10000 milliseconds."),
        (["--timeout_s", "0"], "--timeout_s is 0; it must be more than 0 and at most 3600 seconds."),
        (["--unsure_below", "1.5"], "--unsure_below is 1.5; it must be a probability greater than 0, at most 1."),
    ],
)
def test_values_out_of_range(words: list[str], message: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("serve", "best.ckpt", *words)
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_arguments_reach_the_server(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[ServeOptions] = []
    monkeypatch.setattr(running, "run_server", given.append)
    cli("serve", "best.ckpt")
    cli(
        "serve", "model.onnx", "--host", "0.0.0.0", "--port", 80, "--device", "cpu", "--max_batch", 4,
        "--max_wait_ms", 2.5, "--max_queue", 8, "--max_bytes", 1000, "--max_pixels", 2000, "--timeout_s", 3,
        "--unsure_below", 0.5,
    )  # fmt: skip
    assert given == [
        ServeOptions("best.ckpt"),
        ServeOptions("model.onnx", "0.0.0.0", 80, "cpu", 4, 2.5, 8, 1000, 2000, 3, 0.5),
    ]
    assert given[0].host == "127.0.0.1"


def test_the_defaults_in_the_help_are_the_options(capsys: pytest.CaptureFixture[str], cli: Cli) -> None:
    with pytest.raises(SystemExit):
        cli("serve", "--help")
    shown = capsys.readouterr().out
    default = ServeOptions("")
    for name in ("host", "port", "max_batch", "max_wait_ms", "max_queue", "max_bytes", "max_pixels", "timeout_s"):
        text = shown.partition(f"\n  --{name} ")[2].partition("\n  --")[0]
        assert f"(default: {getattr(default, name)}" in " ".join(text.split())


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(UserError) as caught:
        serve.run(["best.ckpt"])
    assert str(caught.value) == (
        "serve needs FastAPI and uvicorn; install them with pip install 'inceptionnext-lit[serve]'."
    )


def test_a_model_is_needed(capsys: pytest.CaptureFixture[str], cli: Cli) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("serve")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: python cli.py serve needs FILE_OR_CKPT; see its --help.\n"


def test_a_warning_for_addresses_that_others_reach(tmp_path: Path) -> None:
    class Process:
        metadata = {"model": "a\nb", "num_classes": 1}  # noqa: RUF012
        hint: str | None = None

    with running._bound("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        shown = running._greeting(ServeOptions("", host="0.0.0.0"), listener, Process())  # type: ignore[arg-type]
    assert shown == (
        f"Serving a\\nb (1 class) at http://0.0.0.0:{port}/; Ctrl-C ends it.\n"
        "Anyone who can reach this address can use it; there is no login and no encryption."
    )
    Process.hint = "Faster:     int8"
    with running._bound("127.0.0.1", 0) as listener:
        shown = running._greeting(ServeOptions(""), listener, Process())  # type: ignore[arg-type]
    assert shown.splitlines()[1:] == ["Faster:     int8"]
