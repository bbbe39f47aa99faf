"""The weights of OpenVINO files belong to their graph, and converting them reports nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.openvino import open_session, save_model, stamp, without_telemetry

openvino = pytest.importorskip("openvino")


def export(file: Path, scale: float) -> Path:
    """Write a layer that multiplies by the same number everywhere but in one place."""
    layer = torch.nn.Linear(8, 8)
    torch.nn.init.constant_(layer.weight, scale)
    with without_telemetry():
        model = openvino.convert_model(
            torch.export.export(layer, (torch.zeros(1, 8),)), example_input=torch.zeros(1, 8)
        )
    save_model(model, file)
    stamp(file, "text")
    return file


def test_weights_of_another_file_are_refused(tmp_path: Path) -> None:
    """OpenVINO takes them if they have as many bytes."""
    first, second = export(tmp_path / "a.xml", 1.0), export(tmp_path / "b.xml", 2.0)
    weights = first.with_suffix(".bin").read_bytes()
    assert len(weights) == second.with_suffix(".bin").stat().st_size
    moved = first.rename(tmp_path / "moved.xml")
    moved.with_suffix(".bin").write_bytes(weights)
    session = open_session(moved)
    assert session.text == "text"
    assert session.run(np.ones((1, 8), np.float32))[0].shape == (1, 8)
    for wrong in (second.with_suffix(".bin").read_bytes(), weights[:-8]):
        moved.with_suffix(".bin").write_bytes(wrong)
        with pytest.raises(UserError, match=r"moved\.bin does not have the weights that moved\.xml was exported with"):
            open_session(moved)


def test_older_files_without_a_digest_are_read(tmp_path: Path) -> None:
    file = export(tmp_path / "a.xml", 1.0)
    text = file.read_text()
    file.write_text(text.replace("inceptionnext_lit_weights", "something_else"))
    assert file.read_text() != text
    assert open_session(file).text == "text"


def test_nothing_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    telemetry = pytest.importorskip("openvino_telemetry")
    sent: list[str] = []
    monkeypatch.setattr(telemetry.main.TelemetrySender, "send", lambda _, backend, message: sent.append(message))
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(telemetry.main.Telemetry, "_SingletonMetaClass__single_instance", None)
    export(tmp_path / "a.xml", 1.0)
    assert sent == []
