"""Manifests: what is read from them, and what is refused with which sentence."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from inceptionnext_lit.data.manifest import Entry, is_manifest, read_manifest, read_paths
from inceptionnext_lit.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a manifest; the images that it names exist, empty."""

    def run(*lines: str, name: str = "list.csv", images: str = "a.jpg b.jpg c/d.jpg") -> Path:
        for image in images.split():
            (tmp_path / image).parent.mkdir(exist_ok=True)
            (tmp_path / image).touch()
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return run


def test_csv_with_every_column(write: Write, tmp_path: Path) -> None:
    (tmp_path / "odd, name.jpg").touch()
    path = write(
        "split,weight,path,label,group",
        "train,2.5,a.jpg,cat,p1",
        'val,,c/d.jpg,"cat, domestic",p2',
        f"train,1,{tmp_path}/b.jpg,cat,p1",
        'train,1,"odd, name.jpg","cat, domestic",p1',
    )
    assert read_manifest(path) == [
        Entry(f"{tmp_path}/a.jpg", ("cat",), "train", 2.5, "p1"),
        Entry(f"{tmp_path}/c/d.jpg", ("cat, domestic",), "val", 1.0, "p2"),
        Entry(f"{tmp_path}/b.jpg", ("cat",), "train", 1.0, "p1"),
        Entry(f"{tmp_path}/odd, name.jpg", ("cat, domestic",), "train", 1.0, "p1"),
    ]


def test_tsv_and_byte_order_mark(write: Write, tmp_path: Path) -> None:
    path = write("\ufeffpath\tlabel", "a.jpg\tcat, wild", "b.jpg\tdog", name="list.tsv")
    assert [entry.labels for entry in read_manifest(path)] == [("cat, wild",), ("dog",)]
    assert read_paths(path) == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]


def test_parquet(write: Write, tmp_path: Path) -> None:
    write("")
    path = tmp_path / "list.parquet"
    columns = {"path": ["a.jpg", "b.jpg"], "label": [0, 7], "weight": [0.5, 2.0]}
    parquet.write_table(pa.table(columns), path)
    assert [(e.labels, e.weight) for e in read_manifest(path)] == [(("0",), 0.5), (("7",), 2.0)]
    parquet.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "label": [["x", "y"], []]}), path)
    assert [entry.labels for entry in read_manifest(path, multi_label=True)] == [("x", "y"), ()]
    assert read_paths(path) == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["cat|dog", "dog", ""], [("cat", "dog"), ("dog",), ()]),
        (["cat; dog;cat", "a,b", "dog"], [("cat", "dog"), ("a,b",), ("dog",)]),
        (["cat, dog", "dog", ""], [("cat", "dog"), ("dog",), ()]),
    ],
)
def test_several_labels(write: Write, cells: list[str], expected: list[tuple[str, ...]]) -> None:
    rows = [f'{name},"{cell}"' for name, cell in zip(["a.jpg", "b.jpg", "c/d.jpg"], cells, strict=True)]
    assert [entry.labels for entry in read_manifest(write("path,label", *rows), multi_label=True)] == expected


def test_paths_for_prediction_need_one_column_only(write: Write, tmp_path: Path) -> None:
    path = write("path,label,probability,top5", "none.jpg,cat,0.5,{}", ",,,")
    assert read_paths(path) == [f"{tmp_path}/none.jpg"]
    with pytest.raises(UserError, match=r"list\.csv has no column path \(it has image\)"):
        read_paths(write("image", "a.jpg"))


def test_what_is_named_like_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert [is_manifest(tmp_path / name) for name in ("a.csv", "b.TSV", "c.parquet", "d.txt", "folder.csv")] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,label", "a.jpg,cat", "x.jpg,cat", "y.jpg,dog"],
         r"^2 of 3 files of .*list\.csv do not exist \(row 3: .*x\.jpg and 1 more\)\. Paths are relative to"),
        (["path,lable", "a.jpg,cat"], r"has no column label \(it has path, lable\)"),
        (["path,label,splt", "a.jpg,cat,train"], r"has the unknown column 'splt'\. Did you mean split\?"),
        (["path,label,colour", "a.jpg,cat,red"], r"has the unknown column 'colour'\. A manifest has the columns"),
        (["path,label", "a.jpg,cat", ",dog"], r"^Row 3 of .* has the label 'dog' but no image"),
        (["path,label", "a.jpg,cat", "b.jpg,"], r"^Row 3 of .* has no label"),
        (["path,label,split", "a.jpg,cat,training"],
         r"^Row 2 of .* has the split 'training'; it must be one of train, val, test\.$"),
        (["path,label,split", "a.jpg,cat,train", "b.jpg,dog,val"],
         r"^Row 3 of .* has the label 'dog' in the split val, which no image of the split train has"),
        (["path,label,weight", "a.jpg,cat,heavy"], r"^Row 2 of .* has the weight 'heavy'; it must be a number above 0"),
        (["path,label,weight", "a.jpg,cat,nan"], r"has the weight 'nan'"),
        (["path,label,group", "a.jpg,cat,"], r"^Row 2 of .* has no group"),
        (["path,label", "a.jpg,cat", "./a.jpg,dog"], r"^Rows 2 and 3 of .* both name .*a\.jpg"),
        (["path,label", "a.jpg,cat,brown"], r"^Row 2 of .* has more cells than the 2 columns path, label"),
        (["path,label", "a.jpg"], r"^Row 2 of .* has fewer cells than the 2 columns"),
        (["path,label", "a.jpg,cat|dog"],
         r"^Row 2 of .* has several labels \(cat, dog\), but the task takes one .* --data\.multi_label true"),
        (["path,label", "a.jpg,cat", "b.jpg,dog", 'c/d.jpg,"cat, dog"'], r"^Row 4 of .* has several labels"),
        (["path,label"], r"has no rows"),
    ],
)  # fmt: skip
def test_refused(write: Write, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_manifest(write(*lines))


def test_one_label_each_where_several_are_expected(write: Write) -> None:
    with pytest.raises(UserError, match=r"data\.multi_label is on, but no image of .* has more than one label"):
        read_manifest(write("path,label", "a.jpg,cat", "b.jpg,dog"), multi_label=True)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no manifest .*none\.csv"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("path,label\na.jpg,Bär".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.csv is no ','-separated table in UTF-8"):
        read_manifest(tmp_path / "latin.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"bad\.parquet is no Parquet file, or is damaged"):
        read_manifest(tmp_path / "bad.parquet")
