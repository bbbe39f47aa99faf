"""Commands without the trainer: their parser, and the choice of the command."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from inceptionnext_lit.cli import TOOLS, add_command, main
from inceptionnext_lit.cli.tools import ToolParser

SentenceOf = Callable[..., str]


@pytest.fixture
def sentence_of(capsys: pytest.CaptureFixture[str]) -> SentenceOf:
    """Run a call that must exit with code 2; return its one-line error."""

    def run(call: Callable[[list[str]], object], *words: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            call(list(words))
        assert exit_.value.code == 2
        out, error = capsys.readouterr()
        assert (out, error[:7], error.count("\n")) == ("", "error: ", 1)
        return error.removeprefix("error: ").rstrip("\n")

    return run


@pytest.fixture
def parser() -> ToolParser:
    parser = ToolParser("paint", "colors for a house.")
    parser.add_argument("house")
    parser.add_argument("--color", choices=["red", "blue"])
    parser.add_argument("--coats", "-c", type=int, default=1)
    return parser


def test_a_tools_arguments(parser: ToolParser) -> None:
    options = parser.parse_args(["hut", "--color", "red", "-c", "3"])
    assert vars(options) == {"house": "hut", "color": "red", "coats": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hut", "--colour", "red"], "Unknown key '--colour'; did you mean --color?"),
        (["hut", "--colour=red"], "Unknown key '--colour=red'; did you mean --color?"),
        (["hut", "--zzz"], "Unknown key '--zzz'; python cli.py paint --help lists all keys."),
        (["hut", "--col", "red"], "Unknown key '--col'; did you mean --color or --coats?"),
        (["hut", "--coat", "2"], "Unknown key '--coat'; did you mean --coats or --color?"),
        (["hut", "--color"], "--color: expected one argument."),
        (["hut", "-c", "two"], "-c: invalid int value: 'two'."),
        ([], "python cli.py paint needs house; see its --help."),
    ],
)
def test_wrong_arguments_get_one_sentence(
    parser: ToolParser, sentence_of: SentenceOf, words: list[str], message: str
) -> None:
    assert sentence_of(parser.parse_args, *words) == message


def test_a_wrong_choice_lists_the_valid_ones(parser: ToolParser, sentence_of: SentenceOf) -> None:
    message = sentence_of(parser.parse_args, "hut", "--color", "rde")
    # later releases of Python omit the quotes around the choices
    assert message.replace("'", "") == "--color: invalid choice: rde (choose from red, blue)."


def test_help_keeps_the_lines_of_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        ToolParser("paint", "colors.\n\nexamples:\n  python cli.py paint hut").parse_args(["--help"])
    assert exit_.value.code == 0
    assert "usage: python cli.py paint [-h]\n\ncolors.\n\nexamples:\n  python cli.py paint hut\n" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fitt"], "Unknown command 'fitt'; did you mean fit?"),
        (["budgt"], "Unknown command 'budgt'; did you mean budget?"),
        (["covnert", "best.ckpt"], "Unknown command 'covnert'; did you mean convert?"),
        (
            ["--trainer.max_epochs", "3"],
            "Unknown command '--trainer.max_epochs'; "
            "choose one of fit, validate, test, predict, evaluate, explain, cross_validate, transfer, benchmark, "
            "budget, export, serve, convert, prepare, doctor, recipes.",
        ),
    ],
)
def test_an_unknown_command(sentence_of: SentenceOf, words: list[str], message: str) -> None:
    assert sentence_of(main, *words) == message


def test_names_of_commands_are_unique() -> None:
    with pytest.raises(ValueError, match="The command 'budget' already exists; choose another name"):
        add_command("budget", "something else", __name__)
    assert TOOLS["budget"].startswith("parameters, MACs")


def test_a_misspelled_command_imports_nothing_heavy() -> None:
    script = (
        "import sys; from inceptionnext_lit.cli import main\n"
        "try: main(['fitt'])\n"
        "except SystemExit: print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "lightning"} & set(done.stdout.split())
