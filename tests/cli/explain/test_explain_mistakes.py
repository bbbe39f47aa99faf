"""The command explain: mistakes are refused before torch is imported, and names that stand for several things."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
from timm.models._registry import _model_entrypoints

from inceptionnext_lit import models
from inceptionnext_lit.cli import import_heavy
from inceptionnext_lit.cli.explain import models as explained_models
from inceptionnext_lit.cli.explain.arguments import parse_models, split_arguments
from inceptionnext_lit.cli.explain.known_models import BASELINES, FAMILY, HYBRIDS, is_known, nearest_models, timm_models
from inceptionnext_lit.cli.explain.models import Model
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name, model_names
from inceptionnext_lit.models.hub import describe_offline
from inceptionnext_lit.tasks.loading import load_random

NANO = "inceptionnext_nano"
MISTAKES = {
    (NANO, "gone.jpg", "--output", "a.png"): "gone.jpg does not exist; give an image, or a folder or pattern of",
    (NANO, "gone/photos", "--output", "a.png"): "gone/photos does not exist; give an image, or a folder or pattern",
    ("gone.ckpt", "photos", "--output", "a.png"): "gone.ckpt does not exist; give a checkpoint or a file of weights.",
    ("swin_tiny", "photos", "--output", "a.png"): "the name of a model; did you mean swin_tiny_inception or ",
    ("deit_tiny=true", "photos", "--output", "a.png"): "did you mean deit_tiny_patch16_224 or deit_tiny_distilled",
    ("resnet18=", "photos", "--output", "a.png"): (
        "resnet18= names no weights; give resnet18=true, or resnet18=FILE with a file of weights."
    ),
    ("resnet18=photos", "photos", "--output", "a.png"): "photos is not a file; give resnet18=true, or resnet18=FILE",
    (NANO, "empty", "--output", "a.png"): "No images below empty. Name another folder.",
    (NANO, "photos", "--output", "a.pdf"): (
        "--output is a.pdf; give a file that ends in .png or .svg, or a folder, as a.pdf/ if it has a dot."
    ),
    (NANO, "photos", "--output", ""): "--output: it is empty; give a file or a folder.",
    (NANO, "photos", "--output", "/proc/a.png"): "/proc/a.png cannot be written: ",
    (NANO, "photos", "--output", "/proc/maps/"): "cannot be written: ",
    (NANO, "photos", "--output", "a.png", "--alpha", "2"): "--alpha: '2' is not a number from 0 to 1.",
    (NANO, "photos", "--output", "a.png", "--layer", "a", "--layer", "b"): "--layer was given 2 times for 1 model",
    (NANO, "photos", "--output", "a.png", "--target", "1"): "Unknown key '--target'; did you mean --class?",
    (NANO, "photos", "--output", "a.png", "--model.pretrained", ""): "give inceptionnext_nano=true, or",
    (NANO, NANO, "photos", "--output", "a.png"): f"The model {NANO} is given twice; leave one out.",
    (NANO, f"{NANO}=false", "photos", "--output", "a.png"): (
        f"{NANO} and {NANO}=false are the same model; leave one out."
    ),
    ("a.ckpt", "link.ckpt", "photos", "--output", "a.png"): "a.ckpt and link.ckpt are the same model; leave one out.",
    (NANO, *["photos"], "many/*.png", "--output", "a.png"): (
        "51 images do not fit into one figure, which takes 50; give a folder as --output."
    ),
    ("--spectrum", NANO, "--output", "a.svg"): "--spectrum needs --data.root FOLDER, the images to measure on.",
    ("--spectrum", NANO, "--data.root", "gone", "--output", "a.svg"): "gone does not exist. Name a folder of images",
}  # fmt: skip
CODE = """\
import sys
from inceptionnext_lit.cli import main
for words in {mistakes}:
    try:
        main(["explain", *words])
    except SystemExit as exit:
        print(f"exit code {{exit.code}}", file=sys.stderr)
print(*sorted({{"torch", "timm", "lightning", "wandb", "matplotlib", "captum"}} & sys.modules.keys()))
"""


def in_a_new_interpreter(code: str, folder: Path) -> tuple[str, str]:
    """Return what code prints on stdout and stderr in an interpreter without imported libraries."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_mistakes_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    for folder, number in {"photos": 1, "empty": 0, "many": 50}.items():
        (tmp_path / folder).mkdir()
        for name in range(number):
            (tmp_path / folder / f"{name}.png").touch()
    (tmp_path / "a.ckpt").touch()
    (tmp_path / "link.ckpt").symlink_to("a.ckpt")
    out, err = in_a_new_interpreter(CODE.format(mistakes=list(MISTAKES)), tmp_path)
    assert out == "\n"  # no library of these
    messages = err.splitlines()
    assert len(messages) == 2 * len(MISTAKES)
    for message, code, (words, expected) in zip(messages[::2], messages[1::2], MISTAKES.items(), strict=True):
        assert message.startswith("error: "), words
        assert expected in message, words
        assert code in ("exit code 1", "exit code 2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "empty", "link.ckpt", "many", "photos"]


def test_a_package_that_a_command_does_not_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logger_of_others.py").touch()
    (tmp_path / "library_with_a_logger.py").write_text(
        "try:\n    import logger_of_others\n    HAS_LOGGER = True\nexcept ImportError:\n    HAS_LOGGER = False\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert import_heavy("library_with_a_logger", without="logger_of_others").HAS_LOGGER is False
        assert "logger_of_others" not in sys.modules
        assert import_heavy("logger_of_others").__name__ == "logger_of_others"  # others may still import it
    finally:
        for name in ("logger_of_others", "library_with_a_logger"):
            sys.modules.pop(name, None)


@pytest.mark.slow
def test_explain_does_not_import_wandb(tmp_path: Path) -> None:
    words = ["explain", NANO, "sample", "--class", "no", "--output", "maps"]
    code = f"""\
import sys
from inceptionnext_lit.cli import main
try:
    main({words})
except SystemExit:
    print("torch" in sys.modules, "wandb" in sys.modules)
"""
    out, err = in_a_new_interpreter(code, tmp_path)
    assert "has no class 'no'" in err
    assert out == "True False\n"


def test_names_of_all_models() -> None:
    assert list(FAMILY) == model_names()
    assert list(BASELINES) == [row.name for row in models.BASELINES]
    assert list(HYBRIDS) == [row.name for row in models.HYBRIDS]
    current, renamed = timm_models()
    assert {*FAMILY, *BASELINES, *HYBRIDS, *current, *renamed} == set(_model_entrypoints)
    assert {*FAMILY, *BASELINES, *HYBRIDS, *current} == set(timm.list_models())
    assert is_known("resnet50.a1_in1k")
    assert not is_known("resnet")


def test_nearest_models() -> None:
    assert nearest_models("swin_tiny_p")[0] == "swin_tiny_patch4_window7_224"
    assert nearest_models("swin_tiny")[0] == "swin_tiny_inception"
    assert nearest_models("resnt50")[0] == "resnet50"
    assert nearest_models("inceptionnext_tin")[0] == "inceptionnext_tiny"
    assert nearest_models("###") == []
    with pytest.raises(UserError, match=r"Unknown model 'deit_tiny'\. The nearest names are: deit_tiny_patch16_224, "):
        check_model_name("deit_tiny")


def test_words_that_name_several_classes() -> None:
    model = Model("random", load_random(NANO))
    for word, expected in {
        "crane": "2 classes of random are called 'crane'; give n02012849 (134) or n03126707 (517).",
        "maillot": "2 classes of random are called 'maillot'; give n03710637 (638) or n03710721 (639).",
        "1000": "random has no class 1000; give a name, or an index from 0 to 999.",
    }.items():
        with pytest.raises(UserError) as error:
            model.class_index(word)
        assert str(error.value) == expected
    assert model.class_index("n03126707") == 517
    assert model.class_index("134") == 134
    assert model.class_index("tench") == 0


def test_files_of_the_same_name_have_different_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["a/run/best.ckpt", "b/run/best.ckpt", "epoch=1-step=20.ckpt", "resnet18=a/w.pt", "resnet18=b/w.pt"]
    for word in words:
        file = Path(word.removeprefix("resnet18="))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert split_arguments(words) == (words, [])
    models = parse_models([*words, "resnet18", "resnet50"], None)
    assert [model.end for model in models] == [
        "a/run/best.ckpt", "b/run/best.ckpt", "epoch=1-step=20.ckpt", "a/w.pt", "b/w.pt", "", "",
    ]  # fmt: skip
    assert [model.name for model in models] == ["", "", "", "resnet18", "resnet18", "resnet18", "resnet50"]
    assert [model.weights for model in models[-2:]] == [False, False]
    assert [model.weights for model in parse_models(["resnet18", "resnet50=false"], "true")] == [True, False]


def test_weights_without_a_network(
    cli: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        cli("explain", f"{NANO}=true", "sample", "--output", "maps")
    assert capsys.readouterr().err == (
        f"error: No public weights of '{NANO}'; give the file of its weights as {NANO}=FILE, or {NANO} alone for "
        "random weights.\n"
    )

    def offline(name: str, pretrained: bool, class_names: None) -> None:
        raise describe_offline(name, timm.get_pretrained_cfg(name), "no network")

    monkeypatch.setattr(explained_models, "load_published", offline)
    with pytest.raises(SystemExit):
        cli("explain", "resnet18", "sample", "--model.pretrained", "true", "--output", "maps")
    message = capsys.readouterr().err
    assert message.startswith("error: The pretrained weights of 'resnet18' could not be downloaded from https://")
    assert message.endswith(
        "(no network); give the file of its weights as resnet18=FILE, or resnet18 alone for random weights.\n"
    )
