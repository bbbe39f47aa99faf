import subprocess
import sys

import pytest
from timm.data import ImageNetInfo

from inceptionnext_lit.data import class_words as module
from inceptionnext_lit.data.class_words import class_words, imagenet_classes, is_wnid, joined_words, with_words


@pytest.mark.parametrize(
    "subset", ["imagenet-1k", "imagenet-12k", "imagenet-21k-goog", "imagenet-22k", "imagenet-21k-miil"]
)
def test_words_are_those_of_timm(subset: str) -> None:
    words = ImageNetInfo(subset).label_descriptions(as_dict=True)
    assert {wnid: class_words(wnid) for wnid in words} == words


def test_the_classes_are_those_of_timm_in_the_order_of_the_published_weights() -> None:
    assert list(imagenet_classes()) == ImageNetInfo().label_names() == sorted(imagenet_classes())
    assert len(imagenet_classes()) == 1000


def test_without_timms_files_its_class_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INFO", ("data", "elsewhere"))
    assert module._words.__wrapped__()["n02123045"] == "tabby, tabby cat"
    assert module.imagenet_classes.__wrapped__() == imagenet_classes()


def test_examples() -> None:
    assert class_words("n02123045") == "tabby, tabby cat"
    assert with_words("n02123045") == "n02123045 (tabby)"
    assert with_words("n00004475") == "n00004475 (organism)"  # only in ImageNet-21k


@pytest.mark.parametrize("name", ["tabby", "", "n0212304", "n021230455", "N02123045", "n99999999", "x n02123045"])
def test_other_names_have_no_words(name: str) -> None:
    assert class_words(name) is None
    assert with_words(name) == name


def test_a_code_without_words_is_still_a_code() -> None:
    assert is_wnid("n99999999")
    assert not is_wnid("tabby")


def test_words_of_several_labels() -> None:
    assert joined_words("n02123045|n01440764") == "tabby, tabby cat|tench, Tinca tinca"
    assert joined_words("n02123045|scratched") == "tabby, tabby cat|"
    assert joined_words("scratched|bent") is None
    assert joined_words("") is None


def test_timm_is_not_imported() -> None:
    script = (
        "import sys; from inceptionnext_lit.data.class_words import class_words;"
        "class_words('n02123045'); print('timm' in sys.modules, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "False False\n"
