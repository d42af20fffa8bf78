"""avssl index of WebDataset tars: a manifest that every verb reads."""

import io
import tarfile

import pytest

from avssl.core.errors import InputError
from avssl.core.manifest import ManifestError, read_manifest
from avssl.recipes.index import index


@pytest.fixture
def shards(tmp_path):
    """A tar of two samples, one without media."""
    with tarfile.open(tmp_path / "a-0.tar", "w") as tar:
        for name, data in (("x.mp4", b"video"), ("x.cls", b"dog"), ("y.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return f"{tmp_path}/a-{{0..0}}.tar"


def test_the_manifest_and_the_failures_of_tars(shards, tmp_path, capsys):
    found = index(shards)
    assert found.num_files == 2
    assert "1 rows in 1 archives, 1 samples cannot be used" in capsys.readouterr().out
    assert read_manifest(tmp_path / "manifest.csv")["label"].tolist() == ["dog"]
    assert "a-0.tar/y" in (tmp_path / "manifest.failures.csv").read_text()
    with pytest.raises(ManifestError, match="1 samples cannot be used"):
        index(shards, strict=True)


def test_places_and_options_that_do_not_fit(shards, tmp_path):
    with pytest.raises(ManifestError, match="Write it into"):
        index(shards, out=tmp_path.parent / "manifest.csv")
    with pytest.raises(ManifestError, match="avssl pretrain hf:name"):
        index("hf:name")
    with pytest.raises(ManifestError, match=r"avssl pretrain s3://b/\{0\.\.1\}\.tar"):
        index("s3://b/{0..1}.tar")
    with pytest.raises(InputError, match="archives have labels of their own"):
        index(shards, labels="folders")
