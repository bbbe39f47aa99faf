"""The command ``budget``: single models, the paper's tables, and errors for wrong arguments."""

import csv
import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit.models.cost import Cost
from inceptionnext_lit.reports.budget.paper import TABLES, PaperRow
from inceptionnext_lit.reports.budget.report import BudgetRow

KEYS = [
    *("model", "image_size", "params", "macs", "activations"),
    *("paper_params_m", "paper_macs_g", "paper_top1", "table", "verdict"),
]
NANO = {
    "model": "inceptionnext_iso_nano",
    "image_size": 28,
    "params": 550_744,
    "macs": 22_168_824,
    "activations": 157_408,
    "paper_params_m": None,
    "paper_macs_g": None,
    "paper_top1": None,
    "table": None,
    "verdict": "no paper figure",
}
Budget = Callable[..., tuple[object, str, str]]


@pytest.fixture
def budget(cli: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Budget:
    """Run ``budget WORDS``; return the exit code, stdout and stderr."""

    def run(*words: object) -> tuple[object, str, str]:
        code: object = 0
        try:
            cli("budget", *words)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def words_of(line: str) -> str:
    """Return a line without column padding."""
    return " ".join(line.split())


def printed_row(model: str, verdict: str, label: str = "InceptionNeXt-T") -> BudgetRow:
    paper = PaperRow(label, model, "28", "4.2", 82.3, 901, 2900)
    return BudgetRow(
        label, model, (224, 224), Cost(28_055_680, 4_194_629_280, 11_984_392), paper, TABLES[0].name, verdict
    )


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that replaces the report on the paper's tables by given rows."""

    def patch(*rows: BudgetRow) -> None:
        def report(tables: object, tick: Callable[[str], None]) -> list[BudgetRow]:
            tick("a model")
            return list(rows)

        monkeypatch.setattr("inceptionnext_lit.reports.budget.report.paper_report", report)
        monkeypatch.setattr("inceptionnext_lit.reports.budget.inception.module_costs", list)

    return patch


def test_a_model_as_a_table(budget: Budget) -> None:
    code, out, err = budget("inceptionnext_iso_nano")
    header, line = out.splitlines()
    assert words_of(header) == (
        "timm name pixels params (M) paper diff. MACs (G) paper diff. act. (M) top-1 (%) verdict"
    )
    assert words_of(line) == "inceptionnext_iso_nano 28 0.5507 – – 0.02217 – – 0.2 – no paper figure"
    assert (code, err) == (0, "")


def test_a_model_as_json(budget: Budget) -> None:
    code, out, err = budget("inceptionnext_iso_nano", "--format", "json")
    [record] = json.loads(out)
    assert record == NANO
    assert list(record) == KEYS
    assert (code, err) == (0, "")


def test_models_as_csv(budget: Budget) -> None:
    code, out, _ = budget("inceptionnext_iso_nano", "metanext_attn_nano", "--format", "csv")
    assert code == 0
    assert out.splitlines() == [
        ",".join(KEYS),
        "inceptionnext_iso_nano,28,550744,22168824,157408,,,,,no paper figure",
        "metanext_attn_nano,28,776488,35748096,331162,,,,,no paper figure",
    ]


def test_models_as_markdown(budget: Budget) -> None:
    code, out, _ = budget("inceptionnext_iso_nano", "inceptionnext_atto", "--format", "markdown", "--image_size", 32)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| timm name | pixels | params (M) | paper | diff. | MACs (G) | ")
    assert lines[1] == "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: | :-- |"
    assert lines[2] == "| inceptionnext_iso_nano | 32 | 0.5507 | – | – | 0.02893 | – | – | 0.2 | – | no paper figure |"
    assert lines[3].startswith("| inceptionnext_atto | 32 | 4.157 | – | – | 0.0")


@pytest.mark.parametrize(
    ("words", "size", "macs", "activations"),
    [
        ("56", 56, 88_385_856, 626_632),
        ("28,56", [28, 56], 44_241_168, 313_816),
        ("28x56", [28, 56], 44_241_168, 313_816),
        ("56,28", [56, 28], 44_241_168, 313_816),
        ("28,28", 28, 22_168_824, 157_408),
    ],
)
def test_another_image_size(words: str, size: int | list[int], macs: int, activations: int, budget: Budget) -> None:
    code, out, _ = budget("inceptionnext_iso_nano", "--format", "json", "--image_size", words)
    assert code == 0
    assert json.loads(out) == [NANO | {"image_size": size, "macs": macs, "activations": activations}]


def test_a_model_with_a_position_embedding_is_built_for_the_size(budget: Budget) -> None:
    _, out, _ = budget("metanext_attn_nano", "--format", "json", "--image_size", "56,28")
    [record] = json.loads(out)
    assert (record["params"], record["macs"]) == (776_488 + 49 * 96, 76_931_616)  # twice the positions


def test_the_tree_of_modules(budget: Budget) -> None:
    code, out, _ = budget("inceptionnext_iso_micro", "--by_module", 1)
    assert code == 0
    assert [words_of(line) for line in out.splitlines()[2:]] == [
        "",
        "inceptionnext_iso_micro",
        "module params (M) share MACs (G) share act. (M)",
        "(all) 0.108 100.0% 0.0029 100.0% 0.04",
        "stem 0.002 2.2% 0.0001 3.9% 0.00",
        "blocks 0.057 52.5% 0.0028 94.4% 0.04",
        "pool 0.000 0.0% 0.0000 0.1% 0.00",
        "norm 0.000 0.1% 0.0000 0.0% 0.00",
        "head 0.049 45.2% 0.0000 1.7% 0.00",
    ]


def test_the_tree_of_modules_as_json(budget: Budget) -> None:
    _, out, _ = budget("inceptionnext_iso_micro", "--by_module", 1, "--format", "json")
    [record] = json.loads(out)
    assert list(record) == [*KEYS, "modules"]
    assert [part["module"] for part in record["modules"]] == ["(all)", "stem", "blocks", "pool", "norm", "head"]
    parts = record["modules"][1:]
    assert sum(part["macs"] for part in parts) == record["macs"] == 2_914_446
    assert sum(part["params"] for part in parts) == record["params"] == 108_364
    assert sum(part["macs_share"] for part in parts) == pytest.approx(1, abs=5e-4)


def test_a_model_against_another(budget: Budget) -> None:
    words = "inceptionnext_iso_nano", "--against", "convnext_iso_nano"
    _, table, _ = budget(*words)
    header, line = table.splitlines()
    assert header.endswith("params ×  MACs ×  of")
    assert line.split()[-3:] == ["0.954", "0.942", "convnext_iso_nano"]
    _, out, _ = budget(*words, "--format", "json")
    assert json.loads(out) == [
        NANO | {"against": "convnext_iso_nano", "params_ratio": 0.9543, "macs_ratio": 0.9423}  # 550744 of 577096
    ]
    _, out, _ = budget(*words, "--format", "csv")
    [row] = csv.DictReader(io.StringIO(out))
    assert (row["against"], row["params_ratio"], row["macs_ratio"]) == ("convnext_iso_nano", "0.9543", "0.9423")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["inceptionnext_iso_nanno"],
            1,
            r"Unknown model 'inceptionnext_iso_nanno'\. The nearest names are: inceptionnext_iso_nano, .+\.",
        ),
        (
            ["inceptionnext_iso_nano", "--against", "nope"],
            1,
            r"Unknown model 'nope'\. timm\.list_models\(\) lists all names\.",
        ),
        (
            ["inceptionnext_iso_nano", "--image_size", "3"],
            1,
            r"The model 'inceptionnext_iso_nano' cannot process images of 3×3 pixels \(An image of 3×3 pixels is too "
            r"small: this model needs at least 4×4\); set another --image_size\.",
        ),
        (
            ["inceptionnext_iso_nano", "--against", "inceptionnext_nano"],
            1,
            r"The model 'inceptionnext_nano' cannot process images of 28×28 pixels \(.+ 32×32\); set another "
            r"--image_size\.",
        ),
        *(
            (
                ["inceptionnext_iso_nano", "--image_size", size],
                2,
                rf"--image_size: '{size}' is not a size; give one side, such as 224, or a height,width\.",
            )
            for size in ("0", "abc", "28,", "0,28", "28,0", "-28", "28.5", "1,2,3", "")
        ),
        (
            ["inceptionnext_iso_nano", "--format", "xml"],
            2,
            r"--format: invalid choice: 'xml' \(choose from '?table'?, '?markdown'?, '?csv'?, '?json'?\)\.",
        ),
        (["inceptionnext_iso_nano", "--by_module", "-1"], 2, r"--by_module: '-1' is not a depth; give 0 or more\."),
        (["inceptionnext_iso_nano", "--by_module", "all"], 2, r"--by_module: 'all' is not a depth; give 0 or more\."),
        (["--plot", "x.jpg"], 1, r"x\.jpg ends in neither \.png nor \.svg; give --plot a file name that does\."),
        (["--plot", "no/x.svg"], 1, r"No folder no; create it, or give another file with --plot\."),
        (
            ["inceptionnext_iso_nano", "--plot", "x.png"],
            1,
            r"--plot draws the paper's tables; leave out the model names\.",
        ),
        *(
            (
                [f"--{key}", value],
                1,
                rf"--{key} is for single models; give one or more, as in: budget inceptionnext_tiny\.",
            )
            for key, value in (("image_size", "224"), ("by_module", "0"), ("against", "resnet50"))
        ),
        (["--image-size", "28"], 2, r"Unknown key '--image-size'; did you mean --image_size\?"),
        (["--by", "1"], 2, r"Unknown key '--by'; .+"),
    ],
)
def test_wrong_arguments_get_one_sentence(words: list[str], code: int, message: str, budget: Budget) -> None:
    found, out, err = budget(*words)
    assert (found, out) == (code, "")
    assert re.fullmatch(rf"error: {message}\n", err)


@pytest.mark.parametrize("style", ["table", "markdown", "csv", "json"])
def test_a_differing_row_is_reported_after_the_table(style: str, budget: Budget, pretend: Callable[..., None]) -> None:
    wrong = printed_row("inceptionnext_small", "off: 4.19 G MACs, not 8.4", "InceptionNeXt-S")
    baseline = printed_row("resnet50", "off: 4.11 G MACs, not 4.0", "ResNet-50")
    good = printed_row("inceptionnext_tiny", "ok")
    pretend(good, wrong, baseline)
    code, out, err = budget("--format", style)
    assert code == 1
    assert err.strip().splitlines()[-1].strip() == (
        "error: 1 of 3 rows failed: inceptionnext_small (off: 4.19 G MACs, not 8.4)."
    )
    for row in (good, wrong, baseline):
        assert row.model is not None
        assert row.model in out
        assert row.verdict in out


def test_a_baseline_that_is_not_fully_counted_fails(budget: Budget, pretend: Callable[..., None]) -> None:
    pretend(
        printed_row("resnet50", "not counted: aten::mv (×1)"), printed_row("inceptionnext_tiny", "not counted: aten::x")
    )
    code, _, err = budget()
    assert code == 1
    assert err.strip().splitlines()[-1].strip() == (
        "error: 2 of 2 rows failed: resnet50 (not counted: aten::mv (×1)), inceptionnext_tiny (not counted: aten::x)."
    )


def test_the_report_on_the_paper_without_failures(budget: Budget, pretend: Callable[..., None]) -> None:
    pretend(printed_row("inceptionnext_tiny", "ok"), printed_row("resnet50", "known difference: a head", "ResNet-50"))
    code, out, err = budget("--format", "json")
    assert code == 0
    assert "error" not in err
    assert [(row["model"], row["paper_top1"], row["table"], row["verdict"]) for row in json.loads(out)] == [
        ("inceptionnext_tiny", 82.3, "Table 1: ImageNet-1K", "ok"),
        ("resnet50", 82.3, "Table 1: ImageNet-1K", "known difference: a head"),
    ]


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("off: 4.3 G MACs, not 4.2", 1)])
def test_plot_and_report(verdict: str, code: int, budget: Budget, pretend: Callable[..., None], tmp_path: Path) -> None:
    pretend(printed_row("inceptionnext_tiny", verdict), printed_row("convnext_tiny", "ok", "ConvNeXt-T"))
    found, out, err = budget("--plot", "figure1.svg")
    assert found == code
    assert "inceptionnext_tiny" in out
    assert "Plot: figure1.svg" in err
    text = (tmp_path / "figure1.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    assert "InceptionNeXt (this project)" in text


def test_the_help_shows_every_key_and_examples(budget: Budget) -> None:
    code, out, err = budget("--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: python cli.py budget ")
    for key in ("--image_size", "--format", "--by_module", "--against", "--plot"):
        assert key in out
    assert "  python cli.py budget --plot figure1.svg " in out


def test_a_new_process_prints_only_the_table(
    shell: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = shell("budget", "inceptionnext_iso_micro", "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    header, row = done.stdout.splitlines()
    assert header.startswith("model,image_size,params,macs,")
    assert row.startswith("inceptionnext_iso_micro,28,108364,2914446,")


@pytest.mark.slow
def test_a_single_model_that_is_not_fully_counted_fails(budget: Budget) -> None:
    code, out, error = budget("sequencer2d_s", "--format", "json")
    assert (code, json.loads(out)[0]["verdict"]) == (1, "not counted: aten::lstm (×36)")
    assert error == "error: 1 of 1 rows failed: sequencer2d_s (not counted: aten::lstm (×36)).\n"
    code, _, error = budget("inceptionnext_iso_micro", "--against", "sequencer2d_s")
    assert code == 1
    assert error.startswith("error: sequencer2d_s cannot be a reference: not counted: aten::lstm")


def test_csv_takes_either_modules_or_ratios(budget: Budget) -> None:
    words = ("inceptionnext_iso_micro", "--format", "csv", "--by_module", 1, "--against", "inceptionnext_iso_nano")
    code, out, error = budget(*words)
    assert (code, out) == (1, "")
    assert error.startswith("error: A CSV report takes --by_module or --against, not both;")
