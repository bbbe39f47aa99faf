"""Files that replace others only when they are complete."""

from pathlib import Path

import pytest

from inceptionnext_lit.export.placing import staging
from inceptionnext_lit.safe_save import replacing


@pytest.mark.parametrize("name", ["a" * 250 + ".json", "é" * 125 + ".json", "猫" * 83 + ".json"])
def test_the_longest_names(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with replacing(target) as partial:
        partial.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    with staging(target, overwrite=True) as staged:
        staged.write_text("newer")
        assert target.read_text() == "new"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "newer")]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def write() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        write()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]
