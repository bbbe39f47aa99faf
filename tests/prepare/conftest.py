from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inceptionnext_lit.data import public
from inceptionnext_lit.prepare import readers
from tests.prepare.builders import SMALL

Build = Callable[[str, Path], Path]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Return a function that writes a small copy of a data set, whose sums and sizes count as the official ones."""
    monkeypatch.setattr("torchvision.datasets.utils.check_md5", lambda path, md5, **options: True)
    monkeypatch.setattr(readers, "LABEL_DIGESTS", {})

    def write(name: str, root: Path) -> Path:
        small = SMALL[name]
        sizes = {
            split: 3 if (name, split) in (("voc2007", "train"), ("voc2007", "test")) else sum(of_class.values())
            for split, of_class in small.counts.items()
        }
        classes = {label for of_class in small.counts.values() for label in of_class}
        row = replace(public.DATASETS[name], splits=sizes, num_classes=len(classes))
        monkeypatch.setitem(public.DATASETS, name, row)
        root.mkdir(parents=True, exist_ok=True)
        small.build(root)
        return root

    return write
