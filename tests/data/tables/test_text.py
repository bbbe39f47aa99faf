"""Tables of separated values as written by various programs."""

import gzip
from pathlib import Path

import pytest

from inceptionnext_lit.data.sources.manifest import Manifest, read_manifest, read_paths
from inceptionnext_lit.errors import UserError

LABELS = [("Bär",), ("dog",)]


@pytest.fixture(autouse=True)
def _images(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()


def read(tmp_path: Path, content: bytes, name: str = "list.csv") -> Manifest:
    (tmp_path / name).write_bytes(content)
    return read_manifest(tmp_path / name)


def test_excel_with_semicolons_and_a_byte_order_mark(tmp_path: Path) -> None:
    manifest = read(tmp_path, b"\xef\xbb\xbfPath;Label;Weight\r\na.jpg;B\xc3\xa4r;0,5\r\nb.jpg;dog;2\r\n;;\r\n")
    assert (manifest.labels, manifest.weights) == (LABELS, [0.5, 2.0])
    assert manifest.rows == [2, 3]


def test_excel_unicode_text(tmp_path: Path) -> None:
    manifest = read(tmp_path, "filename\tclass\r\na.jpg\tBär\r\nb.jpg\tdog\r\n".encode("utf-16"), "list.txt")
    assert manifest.labels == LABELS
    assert manifest.paths == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]
    assert manifest.notes[0] == f"{tmp_path}/list.txt is in UTF-16."


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path, "path,label\na.jpg,Bär\nb.jpg,dog\n".encode(encoding)).labels == LABELS


def test_windows_1252_with_a_word(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path;label;note\na.jpg;Bär;5 €\nb.jpg;dog;\n".encode("cp1252"))
    assert manifest.labels == LABELS
    assert manifest.notes[0] == (
        f"{tmp_path}/list.csv is not in UTF-8; it was read as Windows-1252, such as 'Bär'. If that looks wrong, save "
        "it as UTF-8."
    )


def test_latin_1(tmp_path: Path) -> None:
    manifest = read(tmp_path, b"path,label\na.jpg,B\xe4r\nb.jpg,\x81dog\n")  # not a character of Windows-1252
    assert manifest.labels == [("Bär",), ("\x81dog",)]
    assert "it was read as Latin-1" in manifest.notes[0]


def test_excels_own_line_on_the_separator(tmp_path: Path) -> None:
    assert read(tmp_path, b"sep=|\r\npath|label\r\na.jpg|cat\r\nb.jpg|dog\r\n").labels == [("cat",), ("dog",)]


def test_libreoffice_quotes_and_leaves_cells_empty(tmp_path: Path) -> None:
    manifest = read(tmp_path, b'"path","label","note",\n"a.jpg","cat","so, so",\n"b.jpg","dog"\n\n,,,\n')
    assert manifest.labels == [("cat",), ("dog",)]
    assert manifest.notes == (f"Columns of {tmp_path}/list.csv: not used: note.",)


def test_pandas_writes_an_index_and_floats(tmp_path: Path) -> None:
    assert read(tmp_path, b",path,label\n0,a.jpg,1.0\n1,b.jpg,10.0\n").labels == [("1",), ("10",)]
    assert read(tmp_path, b",path,label\n0,a.jpg,1.0\n1,b.jpg,1.5\n").labels == [("1.0",), ("1.5",)]


@pytest.mark.parametrize("gap", ["", "nan", "NaN", "NA", "<NA>", "#N/A", "None", "NULL"])
def test_a_missing_label_is_an_error_that_names_the_row(tmp_path: Path, gap: str) -> None:
    said = rf" \(it has '{gap}'\)" if gap else ""
    with pytest.raises(UserError, match=rf"^Row 3 of .*list\.csv has no label{said}; fill it in, or remove the row\.$"):
        read(tmp_path, f"path,label\na.jpg,1.0\nb.jpg,{gap}\n".encode())


def test_r_writes_the_names_of_rows_without_a_name_for_them(tmp_path: Path) -> None:
    written = b'"path"\t"label"\n"1"\t"a.jpg"\t"cat"\n"2"\t"b.jpg"\t"dog"\n'  # write.table(sep = "\t")
    assert read(tmp_path, written).labels == [("cat",), ("dog",)]
    written = b'"";"path";"label";"weight"\n"1";"a.jpg";"cat";1,25\n"2";"b.jpg";"dog";NA\n'  # write.csv2
    with pytest.raises(UserError, match=r"^Row 3 of .* has the weight 'NA'; it must be a number above 0\.$"):
        read(tmp_path, written)
    assert read(tmp_path, written.replace(b"NA", b"2")).weights == [1.25, 2.0]


def test_an_ambiguous_thousands_separator_is_not_a_weight(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Row 2 of .* has the weight '1,000'; it must be a number above 0\.$"):
        read(tmp_path, b"path;label;weight\na.jpg;cat;1,000\nb.jpg;dog;1\n")


def test_a_gzip_archive(tmp_path: Path) -> None:
    packed = gzip.compress(b"path,label\na.jpg,cat\nb.jpg,dog\n")
    assert read(tmp_path, packed, "list.csv.gz").labels == [("cat",), ("dog",)]
    with pytest.raises(UserError, match=r"list\.csv\.gz is a damaged gzip archive"):
        read(tmp_path, packed[:20], "list.csv.gz")


def test_the_separator_is_the_one_that_makes_columns(tmp_path: Path) -> None:
    assert read(tmp_path, b"path,label\na.jpg,cat\nb.jpg,dog\n", "list.tsv").labels == [("cat",), ("dog",)]
    assert read(tmp_path, b"path\tlabel\na.jpg\tso, so\nb.jpg\tdog\n").labels == [("so, so",), ("dog",)]
    (tmp_path / "one.csv").write_text("path\na.jpg\n")
    assert read_paths(tmp_path / "one.csv")[0] == [f"{tmp_path}/a.jpg"]


def test_a_very_long_cell_of_another_column(tmp_path: Path) -> None:
    content = f"path,label,mask\na.jpg,cat,{'1 2 ' * 50_000}\nb.jpg,dog,\n".encode()
    assert read(tmp_path, content).labels == [("cat",), ("dog",)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'path,label\na.jpg,"cat\nb.jpg,dog\n',
            r"list\.csv is not a ','-separated table; line 3: unexpected end",
        ),
        (b"PK\x03\x04 and so on", r"list\.csv is a workbook or an archive by its content; save it as CSV"),
        (b"a.jpg,cat\nb.jpg,dog\n", r"^The first row of .* names an image \(a\.jpg, cat\); add a row with the names"),
        (b"", r"list\.csv has no column path and no column label"),
        (b"path label\na.jpg cat\n", r"has no column path and no column label \(it has path label\)"),
    ],
)
def test_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize("name", ["list.xls", "list.ods", "list.json", "list.csv.zip"])
def test_tables_that_are_not_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} is not a supported table; save it as \.csv\. Supported are"):
        read(tmp_path, b"something", name)
