"""Manifests: what is read from them, and the errors."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.manifest import Manifest, read_manifest, read_paths
from inceptionnext_lit.data.tables import is_table
from inceptionnext_lit.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a manifest, and the images that it names as empty files."""

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
    assert read_manifest(path) == Manifest(
        path,
        rows=[2, 3, 4, 5],
        paths=[f"{tmp_path}/{name}" for name in ("a.jpg", "c/d.jpg", "b.jpg", "odd, name.jpg")],
        labels=[("cat",), ("cat, domestic",), ("cat",), ("cat, domestic",)],
        splits=["train", "val", "train", "train"],
        weights=[2.5, 1.0, 1.0, 1.0],
        groups=["p1", "p2", "p1", "p1"],
    )


def test_tsv_and_byte_order_mark(write: Write, tmp_path: Path) -> None:
    path = write("\ufeffpath\tlabel", "a.jpg\tcat, wild", "b.jpg\tdog", name="list.tsv")
    assert read_manifest(path).labels == [("cat, wild",), ("dog",)]
    assert read_paths(path) == ([f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"], ())


def test_parquet(write: Write, tmp_path: Path) -> None:
    write("")
    path = tmp_path / "list.parquet"
    columns = {"path": ["a.jpg", "b.jpg"], "label": [0, 7], "weight": [0.5, 2.0]}
    parquet.write_table(pa.table(columns), path)
    assert (read_manifest(path).labels, read_manifest(path).weights) == ([("0",), ("7",)], [0.5, 2.0])
    parquet.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "label": [["x", "y"], []]}), path)
    assert read_manifest(path, multi_label=True).labels == [("x", "y"), ()]
    assert read_paths(path) == ([f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"], ())


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
    assert read_manifest(write("path,label", *rows), multi_label=True).labels == expected


def test_paths_for_prediction_need_one_column_only(write: Write, tmp_path: Path) -> None:
    path = write("path,label,probability,top5", "none.jpg,cat,0.5,{}", ",,,")
    assert read_paths(path) == ([f"{tmp_path}/none.jpg"], ())
    with pytest.raises(UserError, match=r"list\.csv has no column path \(it has color\)"):
        read_paths(write("color", "red"))


def test_names_of_manifests(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    names = ["a.csv", "b.TSV", "c.parquet", "d.csv.gz", "e.xls", "f.jpg", "g.zip", "folder.csv"]
    assert [is_table(tmp_path / name) for name in names] == [True] * 5 + [False] * 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,label", "a.jpg,cat", "x.jpg,cat", "y.jpg,dog"],
         r"^Files that .*list\.csv names do not exist, 2 of 3 \(row 3: x\.jpg and 1 more\)\. Paths are relative to the "
         r"manifest's folder; searched in .*; correct them, or remove the rows\.$"),
        (["path,lable", "a.jpg,cat"], r"has no column label \(it has path, lable\)"),
        (["path,label,splt", "a.jpg,cat,train"], r"has the column 'splt'; did you mean split\? Rename it, or remove"),
        (["path,label,wieght", "a.jpg,cat,2"], r"has the column 'wieght'; did you mean weight\?"),
        (["path,label", "a.jpg,cat", ",dog"], r"^Row 3 of .* has the label 'dog' but no image"),
        (["path,label", "a.jpg,cat", "b.jpg,"], r"^Row 3 of .* has no label"),
        (["path,label,split", "a.jpg,cat,trane"],
         r"^Row 2 of .* has the split 'trane'; it must be one of train, val, test\.$"),
        (["path,label,split", "a.jpg,cat,train", "b.jpg,dog,val"],
         r"^Row 3 of .* has the label 'dog' in the split val, which no image of the split train has"),
        (["path,label,weight", "a.jpg,cat,heavy"], r"^Row 2 of .* has the weight 'heavy'; it must be a number above 0"),
        (["path,label,weight", "a.jpg,cat,nan"], r"has the weight 'nan'"),
        (["path,label,group", "a.jpg,cat,"], r"^Row 2 of .* has no group"),
        (
            ["path,label,group,split", "a.jpg,cat,p1,train", "b.jpg,cat,p2,train", "c/d.jpg,cat,p1,val"],
            r"^Rows 2 and 4 of .* are in the group 'p1', one in the split train and one in another; put all images",
        ),
        (["path,label", "a.jpg,cat", "./a.jpg,dog"], r"^Rows 2 and 3 of .* both name .*a\.jpg"),
        (["path,label", "a.jpg,cat,brown"], r"^Row 2 of .* has more cells than the 2 columns path, label"),
        (["path,label", "a.jpg"], r"^Row 2 of .* has fewer cells than the 2 columns"),
        (["path,label", "a.jpg,cat|dog"],
         r"^Row 2 of .* has several labels \(cat, dog\), but the task expects one .* --data\.multi_label true"),
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


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No manifest .*none\.csv"):
        read_manifest(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("header", "used"),
    [
        ("path,label", ""),
        (" Path , LABEL ", "path from 'Path'; label from 'LABEL'"),
        ("File Name,Class", "path from 'File Name'; label from 'Class'"),
        ("image_id,target", "path from 'image_id'; label from 'target'"),
        ("filepath,Category", "path from 'filepath'; label from 'Category'"),
        ("image,label,width,height", "path from 'image'; not used: width, height"),
        ("path,label,filename,class", "not used: filename, class"),
        ("filename,label,id,Unnamed: 0", "path from 'filename'; not used: id, Unnamed: 0"),
    ],
)
def test_names_of_columns(write: Write, tmp_path: Path, header: str, used: str) -> None:
    extra = ",1" * (header.count(",") - 1)
    manifest = read_manifest(write(header, f"a.jpg,cat{extra}", f"b.jpg,dog{extra}"))
    assert manifest.paths == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]
    assert manifest.labels == [("cat",), ("dog",)]
    assert manifest.notes == ((f"Columns of {tmp_path}/list.csv: {used}.",) if used else ())


def test_named_columns(write: Write, tmp_path: Path) -> None:
    path = write("label;what it is;Photo No.", "1;cat;a.jpg", "2;dog;b.jpg")
    manifest = read_manifest(path, columns=ColumnNames(path_column="photo no", label_column="what it is"))
    assert (manifest.paths, manifest.labels) == ([f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"], [("cat",), ("dog",)])
    for columns, message in [
        (
            ColumnNames(path_column="photo no", label_column="what is it"),
            r"no column 'what is it' \(data\.manifest\.label_column\); did you mean 'wh",
        ),
        (
            ColumnNames(path_column="zzz"),
            r"no column 'zzz' \(data\.manifest\.path_column\); it has label, what it is, Photo No\.\.",
        ),
        (
            ColumnNames(path_column="label", label_column="label"),
            r"The column 'label' of .* cannot be both the path and the label",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            read_manifest(path, columns=columns)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "filename,image,label",
            r"^The columns 'filename' and 'image' of .* could each be the path; name it with --data\.manifest\.p",
        ),
        (
            "path,class,category",
            r"^The columns 'class' and 'category' of .* the label; name it with --data\.manifest\.label_column\.$",
        ),
        ("path,label,label", r"has 2 columns 'label'; rename or remove all but one"),
        (
            "photo,healthy,scab",
            r"has no column label \(it has photo, healthy, scab\)\. .* Set other names with --data\.manifest\.la\w+\.$",
        ),
    ],
)
def test_ambiguous_columns(write: Write, header: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_manifest(write(header, "a.jpg,cat,dog"))


def test_splits_by_other_names(write: Write) -> None:
    rows = "a.jpg,cat,{}", "b.jpg,dog,{}", "c/d.jpg,cat,{}"

    def splits(column: str, *values: str) -> list[str] | None:
        lines = [row.format(value) for row, value in zip(rows, values, strict=True)]
        return read_manifest(write(f"path,label,{column}", *lines)).splits

    assert splits("Split", "TRAIN", "Training", "dev") == ["train", "train", "val"]
    assert splits("subset", "train", "train", "valid") == ["train", "train", "val"]
    assert splits("kind of use", "training_set", "train", "testing") == ["train", "train", "test"]
    assert splits("fold", "0", "1", "2") is None
    assert splits("remark", "train", "tram", "test") is None
    assert splits("remark", "test", "test", "test") is None
    with pytest.raises(UserError, match=r"^The column 'Usage' of .* names splits, but row 3 has 'PublicTest'; write"):
        splits("Usage", "Training", "PublicTest", "PrivateTest")
    with pytest.raises(UserError, match=r"^The columns 'set' and 'part' of .* could each be the split"):
        read_manifest(write("path,label,set,part", "a.jpg,cat,train,val", "b.jpg,cat,val,train"))
