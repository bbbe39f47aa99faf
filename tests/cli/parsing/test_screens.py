"""The short help of commands."""

import subprocess
import sys

import pytest

from inceptionnext_lit.cli import COMMANDS, main
from inceptionnext_lit.cli.parsing.screens import SCREENS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_common_keys_fit_on_a_screen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    page = capsys.readouterr().out
    lines = page.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120
    assert page.startswith(f"usage: python cli.py {command} ")
    assert page.endswith(f"\npython cli.py {command} --help all lists every key.\n")


@pytest.mark.slow
def test_every_key_of_the_short_help_is_in_the_full_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command, keys in SCREENS.items():
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help", "all"])
        assert exit_.value.code == 0
        page = capsys.readouterr().out
        assert len(page.splitlines()) > 100
        for key in keys:
            assert f"\n  --{key.split()[0]}" in page, key
        assert ("\n  --find_lr   " in page) == (command == "fit")  # a flag, without a value


def test_the_short_help_imports_no_library() -> None:
    script = "import sys; from inceptionnext_lit.cli import main; main(['--help']); main(['fit', '--help'])"
    script += "; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "timm", "lightning", "jsonargparse"} & set(done.stdout.splitlines()[-1].split())
