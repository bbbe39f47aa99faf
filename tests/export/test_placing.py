"""Where exported files and folders are put, and what they replace."""

import os
import signal
import sys
from pathlib import Path

import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export import formats
from inceptionnext_lit.export.formats import FORMATS
from inceptionnext_lit.export.placing import check_output, staging
from inceptionnext_lit.predict.exported import ExportedClassifier
from tests.export.conftest import Export

COREML, ONNX = FORMATS["coreml"], FORMATS["onnx"]
MODEL = "Data/com.apple.CoreML/model.mlmodel"


def make_package(folder: Path, model: bytes = b"\x08\x05inceptionnext_lit") -> Path:
    (folder / MODEL).parent.mkdir(parents=True)
    (folder / MODEL).write_bytes(model)
    (folder / "Manifest.json").write_text("{}")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    old = make_package(tmp_path / "x.mlpackage")
    (old / "Data/old").write_text("old")
    check_output(old, COREML, [], overwrite=True)
    with pytest.raises(UserError, match=r"x\.mlpackage already exists; add --overwrite to replace it"):
        check_output(old, COREML, [], overwrite=False)
    with staging(old, overwrite=True) as staged:
        make_package(staged, b"new")
        assert (old / "Data/old").is_file()
    assert content(old) == {MODEL: b"new", "Manifest.json": b"{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.mlpackage"]


def test_after_an_error_the_old_folder_is_there(tmp_path: Path) -> None:
    old = make_package(tmp_path / "x.mlpackage")
    before = content(old)

    def fail() -> None:
        with staging(old, overwrite=True) as staged:
            make_package(staged, b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert content(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.mlpackage"]


@pytest.mark.parametrize(("kind", "one"), [("photos", COREML), ("foreign", COREML), ("own", ONNX)])
def test_other_folders_are_never_replaced(tmp_path: Path, kind: str, one: formats.Format) -> None:
    folder = tmp_path / f"x{one.suffix}"
    if kind == "photos":
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(b"")
    else:
        make_package(folder, b"another program's" if kind == "foreign" else b"inceptionnext_lit")
    before = content(folder)
    with pytest.raises(UserError, match=rf"x\{one.suffix} cannot be written: Is a directory; give another one\.$"):
        check_output(folder, one, [], overwrite=True)
    assert content(folder) == before


def test_a_folder_beside_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.onnx.json").mkdir()
    with pytest.raises(UserError, match=r"x\.onnx\.json cannot be written: Is a directory"):
        check_output(tmp_path / "x.onnx", ONNX, [], overwrite=True)


def test_a_folder_with_the_checkpoint_is_never_replaced(tmp_path: Path) -> None:
    package = make_package(tmp_path / "x.mlpackage")
    (package / "best.ckpt").write_bytes(b"weights")
    with pytest.raises(UserError, match=r"would replace .*x\.mlpackage, which it is made from"):
        check_output(package, COREML, [package / "best.ckpt"], overwrite=True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("executorch", "ExecuTorch needs executorch; install it with pip install 'inceptionnext-lit[executorch]'."),
        ("coreml", "Core ML needs coremltools; install it with pip install 'inceptionnext-lit[coreml]'."),
        (
            "litert",
            "LiteRT needs litert_torch and ai_edge_litert; install it with pip install 'inceptionnext-lit[litert]'.",
        ),
    ],
)
def test_a_missing_library_is_named(
    export: Export, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda library: None)
    with pytest.raises(SystemExit):
        export(f"x{FORMATS[name].suffix}", "--format", name)
    assert sentence in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["best.ckpt"]


def test_running_needs_less_than_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.tflite"
    file.write_bytes(b"")
    monkeypatch.setattr(formats, "find_spec", lambda library: None)
    with pytest.raises(UserError) as refused:
        ExportedClassifier(file)
    assert str(refused.value) == (
        "LiteRT needs ai_edge_litert; install it with pip install 'inceptionnext-lit[litert-runtime]'."
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs there")
def test_a_package_runs_on_a_mac_only(tmp_path: Path) -> None:
    package = make_package(tmp_path / "x.mlpackage")
    with pytest.raises(UserError, match=r"x\.mlpackage runs on a Mac only; export the model in another --format to"):
        ExportedClassifier(package)


def test_sigterm_removes_what_was_begun(tmp_path: Path) -> None:
    def export() -> None:
        with staging(tmp_path / "model.onnx", overwrite=False) as staged:
            staged.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        export()
    assert ended.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "model.xml.json"])
def test_what_another_program_wrote_in_the_meantime_is_kept(tmp_path: Path, name: str) -> None:
    def export(*, overwrite: bool) -> None:
        with staging(tmp_path / "model.xml", overwrite=overwrite) as staged:
            for path in (staged, staged.with_suffix(".bin"), staged.with_name("model.xml.json")):
                path.write_bytes(b"ours")
            (tmp_path / name).write_bytes(b"theirs")

    with pytest.raises(UserError, match=rf"{name} was written by another program during the export, and is kept; add"):
        export(overwrite=False)
    assert content(tmp_path) == {name: b"theirs"}
    export(overwrite=True)
    assert content(tmp_path) == dict.fromkeys(("model.xml", "model.bin", "model.xml.json"), b"ours")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.onnx cannot be written: File name too long; give another one\.$"):
        check_output(tmp_path / f"{'x' * 300}.onnx", ONNX, [], overwrite=False)
