import json

import pytest

from avssl.core.manifest import ManifestError
from avssl.data.official.box_truth import ClipTruth, TruthBox, TruthFrame, read_boxes, unit_box, write_boxes


def test_unit_box_is_a_share_of_the_picture_and_stays_in_it():
    assert unit_box(["64", "32", "128", "320"], 256, 64) == (0.25, 0.5, 0.5, 1.0)
    assert unit_box([-0.5, 0, 1.5, 1]) == (0, 0, 1, 1)
    assert unit_box([0.75, 0.5, 0.25, 0.25]) == (0.75, 0.5, 0.75, 0.5)
    for wrong in ([1, 2, 3], [1, 2, 3, "x"], [1, 2, 3, float("nan")], [1, 2, 3, float("inf")]):
        with pytest.raises(ValueError):
            unit_box(wrong)


def test_file_holds_what_is_known_and_no_more(tmp_path):
    frames = [
        TruthFrame(0.5, [TruthBox((0.0, 0.25, 0.5, 1.0), annotator=2, label="dog")]),
        TruthFrame(1.5, mask="masks/a_2.png", image="frames/a_2.png"),
    ]
    path = write_boxes(tmp_path, "set", "-a.1", frames, num_annotators=3)
    assert path == "truth/set/-a.1.json"
    assert json.loads((tmp_path / path).read_text()) == {
        "format": "avssl-boxes-1",
        "num_annotators": 3,
        "frames": [
            {"seconds": 0.5, "boxes": [{"box": [0.0, 0.25, 0.5, 1.0], "annotator": 2, "label": "dog"}]},
            {"seconds": 1.5, "boxes": [], "mask": "masks/a_2.png", "image": "frames/a_2.png"},
        ],
    }
    before = (tmp_path / path).read_bytes()
    write_boxes(tmp_path, "set", "-a.1", frames, num_annotators=3)
    assert (tmp_path / path).read_bytes() == before


@pytest.mark.parametrize(
    "name",
    ["babylaughter_electric grinder grinding_baby", "-_-TDDxoaAc", "Beyoncé (live) 100%, 'x'", "狗叫 声", "a.b..c"],
)
def test_any_name_that_stays_in_its_folder_is_written_and_read(tmp_path, name):
    path = write_boxes(tmp_path, "is3", name, [TruthFrame(None, [TruthBox((0.0, 0.25, 0.5, 1.0))])])
    assert path == f"truth/is3/{name}.json"
    assert read_boxes(tmp_path / path).frames[0].boxes[0].box == (0.0, 0.25, 0.5, 1.0)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(ManifestError, match="cannot be a file name"):
        write_boxes(tmp_path, "set", name, [])
    assert not (tmp_path / "truth").exists()


def test_what_is_written_is_read_back(tmp_path):
    frames = [
        TruthFrame(0.5, [TruthBox((0.0, 0.25, 0.5, 1.0), annotator=2, label="dog")]),
        TruthFrame(None, mask="masks/a_2.png", image="frames/a_2.png"),
    ]
    expected = [
        TruthFrame(0.5, [TruthBox((0.0, 0.25, 0.5, 1.0), 2, "dog")]),
        TruthFrame(None, [], "masks/a_2.png", "frames/a_2.png"),
    ]
    written = write_boxes(tmp_path, "set", "a", frames, num_annotators=3)
    assert read_boxes(tmp_path / written) == ClipTruth(expected, num_annotators=3)


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        '{"format": "avssl-boxes-2", "frames": []}',
        '{"format": "avssl-boxes-1"}',
        '{"format": "avssl-boxes-1", "frames": [{"seconds": 1, "boxes": [{"box": [0, 0, 1]}]}]}',
        '{"format": "avssl-boxes-1", "frames": [{"seconds": "x", "boxes": []}]}',
        '{"format": "avssl-boxes-1", "frames": [3]}',
        '{"format": "avssl-boxes-1", "frames": []}',
        '{"format": "avssl-boxes-1", "num_annotators": 1, "frames": [{"seconds": NaN, "boxes": []}]}',
        '{"format": "avssl-boxes-1", "num_annotators": 1e999, "frames": []}',
        '{"format": "avssl-boxes-1", "num_annotators": 1, "frames": [], "frames": []}',
        '{"format": "avssl-boxes-1", "num_annotators": 1, "frames": [{"seconds": 1%s, "boxes": []}]}' % ("0" * 400),
        '{"format": "avssl-boxes-1", "num_annotators": 1, "frames": [{"seconds": 1, "boxes": [], "mask": 3}]}',
    ],
)
def test_what_is_no_such_file_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ManifestError, match=r"x\.json"):
        read_boxes(tmp_path / "x.json")
