from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from avssl.core.manifest import Manifest, ManifestError, read_manifest

HEADER = "id,path,label,duration_seconds\n"
ESCAPES = ("/a", "..", "../a", "x/../../a", "./../a", "bytes:%2E%2E/%E9", "bytes:/%E9")


def written(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def small(**columns) -> Manifest:
    return Manifest.from_columns({"id": ["a", "b", "c"], "path": ["a.mp4", "b.mp4", "c.mp4"], **columns}, "/root")


def test_names_that_look_like_nothing_are_names(tmp_path):
    manifest = read_manifest(written(tmp_path, HEADER + "NA,NA,null,nan\nb,b,,1.5\nnan,n,NaN,\n"))
    assert manifest["id"].tolist() == ["NA", "b", "nan"]
    assert manifest["label"].tolist() == ["null", None, "NaN"]
    np.testing.assert_array_equal(manifest["duration_seconds"], [np.nan, 1.5, np.nan])


def test_what_is_written_is_read(tmp_path):
    columns = {
        "id": ["a", "b"],
        "path": ["x/a.mp4", "b, c.mp4"],
        "label": ['say "hi"|dog', None],
        "duration_seconds": [1.5, None],
        "shard_offset": [2**40, None],
        "noise": ["1", ""],
    }
    Manifest.from_columns(columns, tmp_path).write(tmp_path / "manifest.csv")
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert manifest.value(0, "label") == 'say "hi"|dog'
    assert [manifest.value(1, name) for name in ("label", "duration_seconds", "shard_offset", "noise")] == [None] * 4
    assert manifest.value(0, "shard_offset") == 2**40
    assert manifest["noise"].tolist() == ["1", None]
    assert manifest.value(0, "truth") is None
    assert manifest.file(1) == tmp_path / "b, c.mp4"
    with pytest.raises(ManifestError, match="paths are relative to"):
        manifest.write(tmp_path / "elsewhere" / "manifest.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na,x\n", "needs the column 'id'"),
        (HEADER + "a,a,x,1\na,b,x,1\n", "1 ids appear more than once, the first is 'a'"),
        (HEADER + ",a,x,1\n", "row 0: id is empty"),
        (HEADER + "a,,x,1\n", "row 0: path is empty"),
        (HEADER + "a,a,x,long\n", "csv:2: duration_seconds is 'long', but a number is expected"),
        (HEADER + "a,a,x\n", "csv:2: 3 cells where the header has 4"),
        ("id,path,split,split\na,a,train,test\n", r"the column 'split' stands 2 times \('split', 'split'\)"),
        *((HEADER + f"a,{path},x,1\n", "must be relative and stay inside") for path in ESCAPES),
        ("id,path,truth\na,a,../t.npz\n", "truth '../t.npz' must be relative"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ManifestError, match=message) as error:
        read_manifest(path)
    assert str(path) in str(error.value)


def test_any_name_of_a_file_comes_back(tmp_path, odd_names):
    manifest = Manifest.from_columns({"id": odd_names, "path": odd_names, "truth": odd_names}, tmp_path)
    manifest.write(tmp_path / "manifest.csv")
    back = read_manifest(tmp_path / "manifest.csv")
    assert back["id"].tolist() == back["path"].tolist() == back["truth"].tolist() == odd_names
    assert back.hash() == manifest.hash()
    for row, text in enumerate(odd_names):
        back.file(row).write_bytes(text.encode())
    assert len(list(tmp_path.iterdir())) == len(odd_names) + 1
    assert [back.file(row).read_bytes().decode() for row in range(len(back))] == odd_names
    assert back.truth_file(3) == back.file(3) == back.inside(odd_names[3]) == Path(back.location(3))


def test_a_column_that_stands_twice_is_refused_in_any_table():
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["id", "path", "path"])
    with pytest.raises(ManifestError, match="column 'path' stands more than once"):
        Manifest(table, ".")


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match=r"no such manifest\. Save the dataset of the hub with save_to_disk"):
        read_manifest("hf:owner/name")


def test_rows_are_selected_by_mask_index_and_value():
    manifest = small(split=["train", "test", "train"])
    assert manifest.select(np.array([True, False, True]))["id"].tolist() == ["a", "c"]
    assert manifest.select(np.array([2, 0]))["id"].tolist() == ["c", "a"]
    assert manifest.where(split="train")["id"].tolist() == ["a", "c"]
    with pytest.raises(ManifestError, match="no column 'fold' in this manifest; it has"):
        manifest["fold"]


def test_hash_names_the_list_of_ids_whatever_their_order():
    manifest = small()
    assert manifest.hash() == manifest.select(np.array([2, 0, 1])).hash() == small(label=["x", "y", "z"]).hash()
    assert manifest.hash() != manifest.select(np.array([0, 1])).hash()
    # Ids are told apart, not run together.
    ab, b = (Manifest(pa.table({"id": ids, "path": ids}), "/") for ids in (["ab", "c"], ["a", "bc"]))
    assert ab.hash() != b.hash()


def test_files_that_a_corpus_names_stay_inside_it(tmp_path):
    columns = {"id": ["a", "b"], "path": ["a.jpg", "b.mp4"], "audio_path": ["sounds/a.wav", None]}
    manifest = Manifest.from_columns(columns, tmp_path)
    assert [manifest.sound_file(row) for row in (0, 1)] == [tmp_path / "sounds/a.wav", tmp_path / "b.mp4"]
    assert manifest.inside("masks/a.png") == tmp_path / "masks/a.png"
    for path in ESCAPES:
        with pytest.raises(ManifestError, match="must be relative and stay inside"):
            manifest.inside(path)
    with pytest.raises(ManifestError, match=r"audio_path '\.\./a\.wav' must be relative"):
        Manifest.from_columns({**columns, "audio_path": ["../a.wav", None]}, tmp_path)


def test_few_rows_of_many_and_many_of_all_are_selected_in_their_order():
    names = [f"{number}.mp4" for number in range(200)]
    chunks = [
        pa.table({"id": names[first : first + 60], "path": names[first : first + 60]}) for first in (0, 60, 120, 180)
    ]
    manifest = Manifest(pa.concat_tables([chunk.slice(0, 20 if i == 3 else 60) for i, chunk in enumerate(chunks)]), "/")
    shuffled = np.random.default_rng(0).permutation(200)
    for rows in (np.array([199, 3, 70, 4]), np.array([150]), np.arange(60, 130), shuffled, np.empty(0)):
        assert manifest.select(rows)["id"].tolist() == [names[int(row)] for row in rows]
    for rows in ([0, 200], [-1, 5], [3, 3]):
        with pytest.raises((pa.ArrowIndexError if hasattr(pa, "ArrowIndexError") else IndexError, ManifestError)):
            manifest.select(np.array(rows))
