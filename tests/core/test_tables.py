"""Tables are read as spreadsheets and people write them, or the line and the column that cannot be are named."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest

from avssl.core.tables import TableError, parse_table, write_table

TYPES = {"id": pa.string(), "path": pa.string(), "label": pa.string(), "n": pa.int64(), "seconds": pa.float64()}
ROWS = [{"id": "007", "path": "a.mp4", "label": "café", "n": 3, "seconds": 1.5}]
ROWS += [{"id": "010", "path": "b c.mp4", "label": None, "n": None, "seconds": -2.0}]
PLAIN = "id,path,label,n,seconds\n007,a.mp4,café,3,1.5\n010,b c.mp4,,,-2\n"
QUOTED = '"id","path","label","n","seconds"\n"007","a.mp4","café","3","1.5"\n"010","b c.mp4","","","-2"\n'


def read(data: bytes | str) -> list[dict[str, object]]:
    data = data.encode() if isinstance(data, str) else data
    return parse_table(data, "m.csv", TYPES).to_pylist()


@pytest.mark.parametrize("text", [PLAIN, QUOTED], ids=["plain", "quoted"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", ", "; "])
def test_encodings_line_ends_and_delimiters(text, end, encoding, delimiter):
    assert read(text.replace(",", delimiter).replace("\n", end).encode(encoding)) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\n\n") + "\n\n",
        "\n" + PLAIN,
        PLAIN + ",,,,\n,,,,\n",
        PLAIN.replace("\n", ",,\n"),
        PLAIN.replace("id,path,label,n,seconds", "ID,Path, LABEL ,N,Seconds"),
        PLAIN.replace("id,path,label,n,seconds", "id, path, label, n, seconds"),
        PLAIN.replace(",3,", ",3.0,"),
        "sep=,\n" + PLAIN,
        '"sep=;"\r\n' + PLAIN.replace(",", ";"),
        PLAIN.replace(",", ";").replace("1.5", "1,5"),
        PLAIN.replace(",", ";").replace("1.5", "1,5").replace(";3;", ";3,0;"),
        ",id,path,label,n,seconds\n0,007,a.mp4,café,3,1.5\n1,010,b c.mp4,,,-2\n",
        'id, path, label, n, seconds\n007, "a.mp4", café, 3, 1.5\n010, "b c.mp4", , , -2\n',
        "id,path,label,n,seconds\n007, a.mp4, café, 3, 1.5\n010, b c.mp4,,,-2\n",
    ],
)
def test_what_spreadsheets_and_people_do(text):
    assert read(text) == ROWS


def test_text_stays_as_it_is():
    cells = ["NA", "null", "1e5", "true", "0:01", "two\nlines", "two\r\nlines", 'say "hi"', "a;b", "a\tb", " a ", "1,5"]
    out = io.StringIO()
    csv.writer(out).writerows([["id", "path", "more"], *([str(i), cell, cell] for i, cell in enumerate(cells))])
    found = read(out.getvalue())
    assert [row["path"] for row in found] == [row["more"] for row in found] == cells


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "m.csv: is empty"),
        (b"\n\n", "m.csv: is empty"),
        (b"id,path,id\na,b,c\n", r"m.csv: the column 'id' stands 2 times \('id', 'id'\)"),
        (b"id,path,Path\na,b,c\n", r"m.csv: the column 'path' stands 2 times \('path', 'Path'\)"),
        (b"id,path,x,x ,x\na,b,c,d,e\n", r"m.csv: the column 'x' stands 3 times \('x', 'x ', 'x'\)"),
        ("id;path;n;n\na;b;1;2\n".encode("utf-16"), r"m.csv: the column 'n' stands 2 times"),
        (b"id,path\na,b\nc\n", r"m.csv:3: 1 cells where the header has 2 \(id, path\): c"),
        (b"# mine\nid,path\na,b\n", r"m.csv:2: 2 cells where the header has 1 \(# mine\)"),
        (b"id,path,n\na,b,1\n\nc,d,x\n", "m.csv:4: n is 'x', but a whole number is expected"),
        (b'id,path,n\na,"b\nb",1\nc,d,1.5\n', "m.csv:4: n is '1.5', but a whole number is expected"),
        (b"id,path,seconds\na,b,0:01\n", "m.csv:2: seconds is '0:01', but a number is expected"),
        (b'id,path,seconds\na,b,"1,5"\n', "m.csv:2: seconds is '1,5', but a number is expected"),
        (b"id,path,label\na,b,x\nc,d,caf\xe9\n", r"m.csv:3: label is b'caf\\xe9', which is not text in UTF-8"),
        (b"id,path,caf\xe9\na,b,x\n", r"m.csv:1: the name of column 3, b'caf\\xe9', is not text in UTF-8"),
        (b"id,path\na,d\0g\n", "m.csv:2: holds a zero byte"),
        ("id,path\na,b\n".encode("utf-16-le"), "m.csv:1: holds a zero byte"),
        (b"\xff\xfe" + "id,path\n".encode("utf-16-le") + b"\x00\xd8", "m.csv: not text in UTF-16"),
        (b"PK\x03\x04 and more", "m.csv: is a workbook"),
        (b'id,path\na,"b\nc,d\ne,f\n', r"m.csv:2: not a line of a CSV \(unexpected end of data\)"),
        (b'id,path\na,"b\nc,"d\ne,f\n', "m.csv:2: not a line of a CSV"),
        (b"id,path\na," + b"x" * 3_000_000 + b"\n", "m.csv:2: not a line of a CSV"),
    ],
)
def test_what_cannot_be_read_is_named(data, message):
    with pytest.raises(TableError, match=message):
        read(data)


RISKY = ["=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1+1", "-rf", "@SUM(1)", "\t=1", "\r=1", "'=1", "''=1", "+", "-1 "]
HARMLESS = ["a=b", "-3.5", "+1e5", "'", "'quoted'", "'-3", "1-2", " =1", "", "#x", "'1"]


def test_a_spreadsheet_computes_nothing_and_everything_comes_back(tmp_path):
    cells = RISKY + HARMLESS
    table = pa.table({"id": cells, "=name": cells, "number": [float(-place) for place in range(len(cells))]})
    write_table(table, tmp_path / "t.csv")
    written = list(csv.reader(io.StringIO((tmp_path / "t.csv").read_bytes().decode(), newline="")))
    assert written[0] == ["id", "'=name", "number"]
    for cell, (first, second, _) in zip(cells, written[1:], strict=True):
        assert first == second == ("'" + cell if cell in RISKY else cell)
    back = parse_table((tmp_path / "t.csv").read_bytes(), "t.csv", {"id": pa.string(), "number": pa.float64()})
    assert back.column_names == table.column_names
    assert back["id"].to_pylist() == back["=name"].to_pylist() == [cell or None for cell in cells]
    assert back["number"].to_pylist() == table["number"].to_pylist()


def test_many_rows_keep_their_order_and_their_memory(tmp_path):
    count = 200_000
    table = pa.table({"id": [f"{i:06d}" for i in range(count)], "n": list(range(count))})
    write_table(table, tmp_path / "t.csv")
    assert parse_table((tmp_path / "t.csv").read_bytes(), "t.csv", TYPES).equals(table)
