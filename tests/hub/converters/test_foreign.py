import zipfile

import pytest
import torch

from avssl.hub.converters import foreign
from avssl.hub.converters.foreign import ConvertError, load_tensors


class Payload:
    """Creates a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_file_is_never_run(tmp_path, new_format):
    content = {"model": {}, "epoch": Payload(tmp_path / "was_run")}
    torch.save(content, tmp_path / "c", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ConvertError, match="could run code when loaded, which is never done") as error:
        load_tensors(tmp_path / "c")
    assert "weights_only=False" not in str(error.value)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip", b"\x80\x02}q\x00."])
def test_files_that_are_no_checkpoint_are_refused(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(ConvertError, match="c: cannot be read as a checkpoint"):
        load_tensors(tmp_path / "c")


def test_half_a_file_is_refused(tmp_path):
    torch.save({"model": torch.zeros(1000)}, tmp_path / "c")
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConvertError, match="It is damaged"):
        load_tensors(tmp_path / "c")


def test_a_lone_tensor_and_a_missing_file_are_refused(tmp_path):
    torch.save(torch.zeros(2), tmp_path / "c")
    with pytest.raises(ConvertError, match="holds a Tensor, not the mapping"):
        load_tensors(tmp_path / "c")
    for path, message in ((tmp_path / "none", "no such file"), (tmp_path, "is a folder, not a file")):
        with pytest.raises(ConvertError, match=message):
            load_tensors(path)


def test_what_a_file_unpacks_to_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "MAX_CHECKPOINT_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c/data.pkl", bytes(10_001))
    assert (tmp_path / "bomb").stat().st_size < 1000
    with pytest.raises(ConvertError, match=r"\d+ bytes unpack to 10001"):
        load_tensors(tmp_path / "bomb")
    torch.save({"a": torch.zeros(3000)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    with pytest.raises(ConvertError, match="at most 10000 are read"):
        load_tensors(tmp_path / "old")
