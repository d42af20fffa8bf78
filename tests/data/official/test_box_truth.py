import pytest

from avssl.core.manifest import ManifestError
from avssl.data.official.box_truth import TruthBox, TruthFrame, read_boxes, write_boxes


@pytest.mark.parametrize(
    "name",
    ["babylaughter_electric grinder grinding_baby", "-_-TDDxoaAc", "Beyoncé (live) 100%, 'x'", "狗叫 声", "a.b..c"],
)
def test_any_name_that_stays_in_its_folder_is_written_and_read(tmp_path, name):
    path = write_boxes(tmp_path, "is3", name, [TruthFrame(None, [TruthBox((0.0, 0.25, 0.5, 1.0))])])
    assert path == f"truth/is3/{name}.json"
    assert read_boxes(tmp_path / path).frames[0].boxes[0].box == (0.0, 0.25, 0.5, 1.0)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "zero\0byte"])
def test_a_name_that_leads_elsewhere_is_an_error(tmp_path, name):
    with pytest.raises(ManifestError, match="cannot be a file name"):
        write_boxes(tmp_path, "is3", name, [])
    assert not (tmp_path / "truth").exists()
