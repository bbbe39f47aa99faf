import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict import growing
from inceptionnext_lit.predict.formats import PredictionFile
from inceptionnext_lit.predict.layout import Layout
from inceptionnext_lit.predict.tables import Row, RowFile, identity

ODD = [
    "a,b.jpg",
    'a"b".jpg',
    "line\nbreak.jpg",
    "re\rturn\r\n.jpg",
    " ünï 图 .jpg",
    os.fsdecode(b"\xff\xfe.jpg"),
    "'",
    '"',
]
CLASSES = ["cat", 'dog, "big"']


def row(path: str, value: float = 0.75) -> Row:
    return {"path": path, "label": CLASSES[1], "probability": value, "top5": {CLASSES[1]: value, "cat": 1 - value}}


def written(folder: Path, name: str, paths: list[str]) -> Path:
    file = PredictionFile(str(folder / name))
    for path in paths:
        file.append([row(path)])
    file.finish()
    return folder / name


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.json", "p.parquet"])
def test_odd_names_come_back(tmp_path: Path, name: str) -> None:
    output = written(tmp_path, name, ODD)
    again = PredictionFile(str(output))
    done = again.resume(CLASSES)
    assert [path in done or identity(path) in done for path in ODD] == [True] * len(ODD)
    assert len(done) == again.count == len(ODD)
    again.append([row("new.jpg")])
    again.finish()
    assert len(PredictionFile(str(output)).resume(CLASSES)) == len(ODD) + 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".jsonl" or "partial" not in path.name] == [name]


def test_contents(tmp_path: Path) -> None:
    from pyarrow import parquet

    paths = ["x/1.jpg", *ODD[:5]]
    expected = [row(path) for path in paths]
    assert json.loads(written(tmp_path, "p.json", paths).read_text()) == expected
    lines = written(tmp_path, "p.jsonl", paths).read_text().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == expected
    with written(tmp_path, "p.csv", paths).open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    as_text = [{**one, "top5": json.dumps(one["top5"])} for one in expected]
    assert [{**one, "probability": float(one["probability"])} for one in cells] == as_text
    table = parquet.read_table(written(tmp_path, "p.parquet", paths))
    assert table.to_pylist() == as_text
    assert [str(column.type) for column in table.columns] == ["string", "string", "double", "string"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "p.json", "p.jsonl", "p.parquet"]


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.json", "p.parquet"])
def test_odd_class_names_of_probabilities_come_back(tmp_path: Path, name: str) -> None:
    classes = (*ODD, "label")
    layout = Layout(classes, flags_unsure=True)
    values = dict(zip(classes, (0.1, 1e-9, 0.3, 1.1754944e-38, 0.0, 1.0, 0.7635689, 0.5, 0.25), strict=True))
    rows = [
        {"path": f"{n}.jpg", "label": ODD[n], "probability": 0.25 * n, "top5": {ODD[n]: 0.25 * n}, "unsure": n == 0,
         "probabilities": values} for n in range(3)
    ]  # fmt: skip
    file = PredictionFile(str(tmp_path / name))
    file.lay_out(layout)
    file.append(rows[:2])
    file.finish()
    again = PredictionFile(str(tmp_path / name))
    again.lay_out(layout)
    assert again.resume(classes, 0.25) == {"0.jpg", "1.jpg"}
    assert (again.count, again.unsure) == (2, 1)
    again.append(rows[2:])
    again.finish()
    if name == "p.csv":
        with (tmp_path / name).open(newline="", encoding="utf-8", errors="surrogateescape") as csv_file:
            header, *cells = csv.reader(csv_file)
        assert header == ["path", "label", "probability", "top5", "unsure", *(f"prob_{one}" for one in classes)]
        assert [row[4:] for row in cells] == [[one, *map(str, values.values())] for one in ("true", "false", "false")]
    elif name == "p.parquet":
        from pyarrow import parquet

        table = parquet.read_table(tmp_path / name)
        assert table.column_names[5:] == [f"prob_{identity(one)}" for one in classes]
        assert [str(column.type) for column in table.columns] == ["string", "string", "double", "string", "bool",
                                                                  *["float"] * 9]  # fmt: skip
        assert [np.float32(table[column][2].as_py()) for column in table.column_names[5:]] == [
            np.float32(value) for value in values.values()
        ]
    else:
        text = (tmp_path / name).read_text()
        assert (json.loads(text) if name == "p.json" else list(map(json.loads, text.split("\n")[:-1]))) == rows


def test_parquet_with_many_classes_in_small_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(growing, "_CELLS", 30)
    classes = tuple("abcdef")
    file = PredictionFile(str(tmp_path / "p.parquet"))
    file.lay_out(Layout(classes))
    file.append([row(f"{n}.jpg") | {"probabilities": dict.fromkeys(classes, n / 8)} for n in range(7)])
    file.finish()
    with parquet.ParquetFile(tmp_path / "p.parquet") as written_file:
        groups = [written_file.metadata.row_group(n).num_rows for n in range(written_file.num_row_groups)]
        assert groups == [3, 3, 1]  # ten columns
        assert written_file.read()["prob_f"].to_pylist() == [n / 8 for n in range(7)]


def test_names_that_are_not_utf8_stay_readable(tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff.jpg")
    assert b"\xff.jpg," in written(tmp_path, "p.csv", [odd]).read_bytes()  # the exact bytes of the name
    assert json.loads(written(tmp_path, "p.jsonl", [odd]).read_text())["path"] == odd
    from pyarrow import parquet

    assert parquet.read_table(written(tmp_path, "p.parquet", [odd]))["path"].to_pylist() == ["\\udcff.jpg"]


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl"])
def test_every_truncation_of_the_last_row(tmp_path: Path, name: str) -> None:
    output = written(tmp_path, name, ["first\n.jpg", "second.jpg"])
    two = output.read_bytes()
    written(tmp_path, name, ["first\n.jpg", "second.jpg", 'torn\r\n"x",\n.jpg'])
    three = output.read_bytes()
    assert three.startswith(two)
    for end in range(len(two), len(three)):
        output.write_bytes(three[:end])
        file = PredictionFile(str(output))
        assert file.resume(CLASSES) == {"first\n.jpg", "second.jpg"}
        assert output.read_bytes() == two
    file.append([row('torn\r\n"x",\n.jpg')])
    assert output.read_bytes() == three
    output.write_bytes(three[:5])  # in the header, or in the first row
    file = PredictionFile(str(output))
    assert file.resume(CLASSES) == set()
    file.append([row("first\n.jpg"), row("second.jpg")])
    assert output.read_bytes() == two


@pytest.mark.parametrize("name", ["p.json", "p.parquet"])
def test_a_killed_run_leaves_its_rows_and_the_old_file(tmp_path: Path, name: str) -> None:
    output = written(tmp_path, name, ["old.jpg"])
    before = output.read_bytes()
    file = PredictionFile(str(output))
    file.append([row("1.jpg")])
    file.close()  # what the operating system does after a kill
    assert output.read_bytes() == before
    assert (tmp_path / f"{name}.partial.jsonl").read_bytes().count(b"\n") == 1
    file = PredictionFile(str(output))
    assert file.leftover == tmp_path / f"{name}.partial.jsonl"
    assert file.resume(CLASSES) == {"1.jpg"}
    file.append([row("2.jpg")])
    file.finish()
    assert PredictionFile(str(output)).resume(CLASSES) == {"1.jpg", "2.jpg"}


def test_parquet_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(growing, "_CHUNK", 4)
    with parquet.ParquetFile(written(tmp_path, "p.parquet", [f"{n}.jpg" for n in range(10)])) as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4, 2]
        assert file.read()["path"].to_pylist() == [f"{n}.jpg" for n in range(10)]


def test_replaced_only_when_there_are_rows(tmp_path: Path) -> None:
    output = written(tmp_path, "p.csv", ["old.jpg"])
    before = output.read_bytes()
    file = PredictionFile(str(output))
    file.append([])
    file.finish()
    assert output.read_bytes() == before


def test_files_that_cannot_be_continued(tmp_path: Path) -> None:
    for name, content in [
        ("a.csv", "path,name\n1,2\n"),
        ("b.csv", "path,label,probability,top5\n1,2\n"),
        ("c.jsonl", '{"path": "x"}\n'),
        ("d.jsonl", "nonsense\n"),
        ("e.csv", 'path,label,probability,top5\n"1"x,2,3,4\n'),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(
            UserError, match=rf"^Line [12] of .*{name} is not a row of path, label, probability, top5; give"
        ):
            PredictionFile(str(tmp_path / name)).resume(CLASSES)
        assert (tmp_path / name).read_text() == content
    for name in ("a.json", "b.parquet"):
        (tmp_path / name).write_text("{}{")
        with pytest.raises(UserError, match=rf"{name} has no predictions; give another --output"):
            PredictionFile(str(tmp_path / name)).resume(CLASSES)
    output = written(tmp_path, "p.csv", ["1.jpg"])
    with pytest.raises(UserError, match=r"p\.csv has the label 'cat', which this checkpoint does not know; continue"):
        PredictionFile(str(output)).resume(CLASSES[1:])


def test_a_missing_package_and_other_suffixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^Writing p\.parquet needs a package that is not installed: pip install pyarrow"
    ):
        PredictionFile("p.parquet")
    with pytest.raises(UserError, match=r"^--output is p\.txt; it must end in \.csv, \.jsonl, \.json or \.parquet\.$"):
        PredictionFile("p.txt")


def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "p.csv").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"p\.csv: No space left on device\. What was written is kept; fix that"):
        RowFile(tmp_path / "p.csv", ("path",)).append([{"path": "x"}])
