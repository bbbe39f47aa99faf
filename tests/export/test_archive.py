"""Archives of torch.export, of torch 2.7 too."""

import logging
import zipfile
from pathlib import Path

import pytest
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.archive import check_archive, has_machine_code, is_old, stamp, stored_text
from inceptionnext_lit.export.pt2 import open_session

OLD = ("serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt", "version")
NEW = ("model/archive_format", "model/models/model.json", "model/data/weights/model_weights_config.json")
PACKAGE = ("model/archive_format", "model/data/aotinductor/model/x.so")


def archive(path: Path, names: tuple[str, ...]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "1")
    return path


@pytest.mark.parametrize(
    ("names", "place"),
    [
        (OLD, "extra_files/inceptionnext_lit"),
        (NEW, "model/extra/inceptionnext_lit"),
        (PACKAGE, "model/extra/inceptionnext_lit"),
    ],
)
def test_layouts(tmp_path: Path, names: tuple[str, ...], place: str) -> None:
    file = archive(tmp_path / "x.pt2", names)
    check_archive(file)
    assert stored_text(file) is None
    assert (is_old(file), has_machine_code(file)) == (names is OLD, names is PACKAGE)
    stamp(file, "täxt")
    assert stored_text(file) == "täxt"
    with zipfile.ZipFile(file) as found:
        assert found.namelist() == [*names, place]


def test_torch_finds_the_metadata(tmp_path: Path) -> None:
    """In the layout of the installed release."""
    file = tmp_path / "x.pt2"
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(2),)), file)
    stamp(file, "text")
    extra = {"inceptionnext_lit": ""}
    with file.open("rb") as source:
        torch.export.load(source, extra_files=extra)
    assert extra["inceptionnext_lit"] in ("text", b"text")
    session = open_session(file)
    assert session.text == "text"
    assert session.run(torch.tensor([-1.0, 2.0]).numpy())[0].tolist() == [0.0, 2.0]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """Torch computes with them."""
    file, layer = tmp_path / "x.pt2", torch.nn.Linear(64, 64)
    torch.export.save(torch.export.export(layer, (torch.zeros(1, 64),)), file)
    content, weights = file.read_bytes(), layer.weight.detach().numpy().tobytes()
    assert content.count(weights) == 1
    file.write_bytes(content.replace(weights, bytes(len(weights))))
    with pytest.raises(UserError, match=r"x\.pt2 is damaged, or not a file of torch\.export; export it again\.$"):
        open_session(file)


def test_a_damaged_old_archive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Torch's log of its tries is not shown."""
    file = archive(tmp_path / "x.pt2", OLD)
    with pytest.raises(UserError, match=r"x\.pt2 cannot be loaded by torch\.export: "):
        open_session(file)
    assert caplog.records == []
    assert not logging.getLogger("torch.export").disabled
    with pytest.raises(UserError, match=r"y\.pt2 is damaged, or not a file of torch\.export"):
        check_archive(archive(tmp_path / "y.pt2", ("version",)))
