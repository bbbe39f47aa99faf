"""The commands of the guide to ImageNet, on a synthetic one."""

import shlex
from pathlib import Path

import pytest

from inceptionnext_lit.cli import main
from inceptionnext_lit.prepare.imagenet import variants
from inceptionnext_lit.prepare.imagenet.variants import Counts, Variant
from inceptionnext_lit.prepare.record import read_record
from tests.pages import DOCS, READ, commands
from tests.prepare.synthetic_imagenet import CLASSES, ROW, synthetic_images, tar_of, tree, write, write_kaggle

COMMANDS = [words for words in commands(*READ) if words[2:3] == ["prepare"] and words[3].startswith("image")]


def row(name: str) -> Variant:
    """Return the row of a synthetic data set: of ten classes, if it is a part of ImageNet."""
    if name == "imagenet":
        return ROW
    return Variant(
        name, name, CLASSES[:10], Counts(40, 20), CLASSES, Counts(40, 20) if name != "imagenet-100" else None
    )


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_commands(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inceptionnext_lit.prepare.imagenet.preparing.variant", row)
    images = synthetic_images()
    ten = {f"x/{place}": content for place, content in images.items() if place.split("/")[1] in CLASSES[:10]}
    write_kaggle(Path("ILSVRC"), images)
    for name in ("imagenette2-320.tgz", "imagewoof2-320.tgz"):
        write(Path(name), tar_of(ten, "w:gz"))
    subset = ["--subset", "5,3"] if "--subset" in words else []
    main([*words[2:], *subset])
    output = Path(words[words.index("--output") + 1])
    record = read_record(output)
    assert record is not None
    assert record.name == words[3]
    classes = 5 if subset else 20 if words[3] == "imagenet" else 10
    assert record.num_classes == len(list((output / "train").iterdir())) == classes
    assert tree(output).items() <= images.items()
    assert f"{classes} classes, in {output}" in capsys.readouterr().out


def test_the_page_tells_the_numbers_of_the_code() -> None:
    text = (DOCS / "guides/imagenet.md").read_text(encoding="utf-8")
    counts = variants.variant("imagenet").counts
    assert f"{counts.train:,} training and {counts.val:,} validation images of 1,000 classes" in " ".join(text.split())
