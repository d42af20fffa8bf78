import os

import pytest

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import entry_value, find_annotation, read_json, read_table, read_xml


def read(tmp_path, data, columns, **options):
    path = tmp_path / "list.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_table(path, columns, **options))


def test_table_with_a_header_is_read_by_column(tmp_path):
    lines = read(tmp_path, '\ufeffid, label,extra\r\na, "x, y",1 \r\n\r\nb,,2\r\n', ["label", "id"])
    assert [(line.number, dict(line.cells)) for line in lines] == [
        (2, {"id": "a", "label": "x, y", "extra": "1"}),
        (4, {"id": "b", "label": "", "extra": "2"}),
    ]


def test_table_without_a_header_has_exactly_its_columns(tmp_path):
    lines = read(
        tmp_path, "# made in 2017\na 1\n\tb   2 \n", ["name", "part"], header=False, delimiter=None, comment="#"
    )
    assert [(line.number, line["name"], line["part"]) for line in lines] == [(2, "a", "1"), (3, "b", "2")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a,b,c\n", "list.csv:1: 3 columns where 2 (name, part) are expected: a,b,c"),
        ("", "list.csv: no records"),
        (b"\xff\xfe\x00", "not a text table"),
        ('a,"b\n', "not a text table"),
        ("a," + "b" * 200_000, "not a text table"),
    ],
)
def test_what_is_no_such_table_is_an_error(tmp_path, data, message):
    with pytest.raises(ManifestError) as error:
        read(tmp_path, data, ["name", "part"], header=False)
    assert message in str(error.value)


def test_cells_are_checked_when_they_are_used(tmp_path):
    (line,) = read(tmp_path, "id,second,part\n,inf,eval\n", ["id", "second", "part"])
    for use, message in [
        (lambda: line["id"], ":2: id is '', expected a value"),
        (lambda: line.seconds("second"), ":2: second is 'inf', expected a number of seconds"),
        (lambda: line.one_of("part", {"1": "train"}), ":2: part is 'eval', expected '1'"),
    ]:
        with pytest.raises(ManifestError, match=message):
            use()


def test_tables_that_a_spreadsheet_saved_again_are_read_or_the_line_is_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,label\na,café\n", encoding="utf-16")
    assert [line["label"] for line in read_table(path, ["id"])] == ["café"]
    path.write_text("id,label,id\na,b,c\n")
    with pytest.raises(ManifestError, match=r"x\.csv:1: the column 'id' stands more than once"):
        list(read_table(path, ["id"]))
    path.write_bytes(b"id,label\na,b\nc,caf\xe9\n")
    with pytest.raises(ManifestError, match=r"x\.csv:3: not a text table in UTF-8"):
        list(read_table(path, ["id"]))
    path.write_bytes(b"PK\x03\x04\0")
    with pytest.raises(ManifestError, match=r"x\.csv: is a workbook"):
        list(read_table(path, ["id"]))


@pytest.mark.parametrize("kind", ["table", "json", "xml"])
def test_what_is_no_file_is_named(tmp_path, kind):
    os.mkfifo(tmp_path / "fifo")
    assert find_annotation([tmp_path], "fifo", source="x") == tmp_path / "fifo"
    readers = {"table": lambda path: list(read_table(path, ["a"])), "json": lambda path: read_json(path, list)}
    with pytest.raises(ManifestError, match="fifo: is a FIFO"):
        readers.get(kind, read_xml)(tmp_path / "fifo")


def test_annotation_is_found_in_the_first_folder_and_under_any_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "validate.csv").touch()
    (tmp_path / "val.csv").touch()
    folders = [tmp_path / "a", tmp_path]
    assert find_annotation(folders, "val.csv", "validate.csv", source="x") == tmp_path / "a" / "validate.csv"
    with pytest.raises(ManifestError, match=r"test\.csv is not in .* Get it from the moon"):
        find_annotation(folders, "test.csv", source="the moon")


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "[" * 100_000, b"\xff"])
def test_json_that_is_not_a_list_with_entries(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ManifestError, match=r"x\.json: "):
        read_json(path, list)


def test_entry_value_names_the_entry(tmp_path):
    assert entry_value(tmp_path, 3, {"a": "x"}, "a", str) == "x"
    for entry in ({"a": 1}, {}, None, ["a"]):
        with pytest.raises(ManifestError, match=r"entry 3: a is .*, expected a str"):
            entry_value(tmp_path, 3, entry, "a", str)


def test_xml_is_read_but_declares_nothing(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text("<a><b>1</b></a>")
    assert [element.text for element in read_xml(path).iter("b")] == ["1"]
    bomb = '<!DOCTYPE a [<!ENTITY b "xxxx"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    for data in (bomb.encode(), ('<?xml version="1.0" encoding="utf-16"?>' + bomb).encode("utf-16")):
        path.write_bytes(data)
        with pytest.raises(ManifestError, match="DOCTYPE"):
            read_xml(path)
    for data in (b"", b"<a>", b"\x00\x01", b'<?xml version="1.0" encoding="none"?><a/>'):
        path.write_bytes(data)
        with pytest.raises(ManifestError, match=r"x\.xml: "):
            read_xml(path)
