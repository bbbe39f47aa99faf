"""Tables with typed cells: JSON lines, Parquet and workbooks."""

import datetime
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

from inceptionnext_lit.data.sources.manifest import read_manifest, read_paths
from inceptionnext_lit.errors import UserError


@pytest.fixture(autouse=True)
def _images(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()


def workbook(path: Path, *rows: tuple[Any, ...], sheets: int = 1) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for _ in range(sheets - 1):
        book.create_sheet()
    book.save(path)
    return path


def test_json_lines(tmp_path: Path) -> None:
    lines = [{"file_name": "a.jpg", "label": 3}, {"file_name": "b.jpg", "label": 4.0, "note": {"by": "me"}}]
    content = "\n\n".join(map(json.dumps, lines)).encode()
    (tmp_path / "metadata.jsonl").write_bytes(content)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("metadata.jsonl", "packed.jsonl.gz"):
        assert read_manifest(tmp_path / name).labels == [("3",), ("4",)]
    assert read_paths(tmp_path / "metadata.jsonl")[0] == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "b.jpg", "label": NaN}', r"^Row 2 of .* has no label; fill it in"),
        ('{"path": "b.jpg"}', r"^Row 2 of .* has no label; fill it in"),
        (
            '{"path": "b.jpg", "label": {"id": 1}}',
            r"^Row 2 of .* has in the column 'label' an object instead of a text",
        ),
        ('["b.jpg", 1]', r"^Line 2 of .* is not a JSON object; an example is"),
        ("{'path'}", r"^Line 2 of .* is not a JSON object in UTF-8: "),
    ],
)
def test_json_lines_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "list.jsonl").write_text(f'{{"path": "a.jpg", "label": "cat"}}\n{line}\n')
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "list.jsonl")


def test_parquet_floats_are_whole_numbers(tmp_path: Path) -> None:
    columns = {"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [0.0, 7.0, 10.0], "group": [1.0, 1.0, 2.0]}
    parquet.write_table(pa.table(columns), tmp_path / "list.parquet")
    manifest = read_manifest(tmp_path / "list.parquet")
    assert (manifest.labels, manifest.groups) == ([("0",), ("7",), ("10",)], ["1", "1", "2"])


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([0.0, float("nan"), 1.0]),
        pa.array([0, None, 1]),
        pa.array(["x", None, "y"]),
        pa.array(["0.0", "nan", "1.0"]),  # what pandas' astype(str) makes of a gap
        pa.array(["x", None, "y"]).dictionary_encode(),
    ],
    ids=["floats", "integers", "texts", "texts of floats", "categories"],
)
def test_a_missing_label_in_parquet_is_not_a_class(tmp_path: Path, labels: pa.Array) -> None:
    table = pa.table({"path": ["a.jpg", "b.jpg", "c.jpg"], "label": labels})
    parquet.write_table(table, tmp_path / "list.parquet")
    with pytest.raises(UserError, match=r"^Row 2 of .*list\.parquet has no label.*; fill it in, or remove the row\.$"):
        read_manifest(tmp_path / "list.parquet")


def test_a_missing_group_or_weight_in_parquet(tmp_path: Path) -> None:
    table = {"path": ["a.jpg", "b.jpg"], "label": ["x", "y"]}
    parquet.write_table(pa.table(table | {"weight": [2.0, None]}), tmp_path / "list.parquet")
    assert read_manifest(tmp_path / "list.parquet").weights == [2.0, 1.0]
    parquet.write_table(pa.table(table | {"group": [float("nan"), 1.0]}), tmp_path / "list.parquet")
    with pytest.raises(UserError, match=r"^Row 1 of .* has no group"):
        read_manifest(tmp_path / "list.parquet")


def test_parquet_that_contains_the_images_themselves(tmp_path: Path) -> None:
    images = [{"bytes": b"\xff\xd8", "path": None}]
    parquet.write_table(pa.table({"image": images, "label": [1]}), tmp_path / "list.parquet")
    with pytest.raises(UserError, match=r"^Row 1 of .* has in the column 'image' an object instead of a text"):
        read_manifest(tmp_path / "list.parquet")


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"bad\.parquet is not a Parquet file, or is damaged"):
        read_manifest(tmp_path / "bad.parquet")


def test_a_workbook(tmp_path: Path) -> None:
    rows = (
        ("Image", "Class", "Weight", None),
        ("a.jpg", 1, 0.5),
        ("b.jpg", 10.0, None, "a remark"),
        (None, ""),
        ("c.jpg", 1),
    )
    path = workbook(tmp_path / "list.xlsx", *rows, sheets=2)
    manifest = read_manifest(path)
    assert (manifest.rows, manifest.labels, manifest.weights) == ([2, 3, 5], [("1",), ("10",), ("1",)], [0.5, 1.0, 1.0])
    assert manifest.notes == (
        f"Only the first of 2 sheets of {path} is read: Sheet.",
        f"Columns of {path}: path from 'Image'; label from 'Class'; weight from 'Weight'.",
    )


def test_a_date_that_a_spreadsheet_made_of_a_label(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "list.xlsx", ("path", "label"), ("a.jpg", datetime.datetime(2024, 2, 1)), ("b.jpg", "3-4")
    )
    with pytest.raises(
        UserError, match=r"^Row 2 of .* has in the column 'label' the date 2024-02-01 .*; write it as text"
    ):
        read_manifest(path)


def test_a_file_that_is_not_a_workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.xlsx").write_text("path,label\n")
    with pytest.raises(UserError, match=r"bad\.xlsx is not an Excel workbook, or is damaged; save it as CSV"):
        read_manifest(tmp_path / "bad.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        UserError, match=r"needs a package that is not installed: pip install openpyxl; or save it as CSV"
    ):
        read_manifest(tmp_path / "bad.xlsx")
