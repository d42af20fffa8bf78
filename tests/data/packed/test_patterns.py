import pytest

from avssl.core.manifest import ManifestError
from avssl.data.packed.patterns import expand_braces, find_files, root_of


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("a.tar", ["a.tar"]),
        ("x-{08..10}.tar", ["x-08.tar", "x-09.tar", "x-10.tar"]),
        ("{a,b}/{2..1}", ["a/2", "a/1", "b/2", "b/1"]),
        ("{train-{0..1},val}.tar", ["train-0.tar", "train-1.tar", "val.tar"]),
        ("{a}{,b}", ["a", "ab"]),
        ("}x", ["}x"]),
    ],
)
def test_braces(pattern, texts):
    assert list(expand_braces(pattern)) == texts


def test_braces_that_cannot_be():
    with pytest.raises(ManifestError, match=r"x\{0\.\.3: a brace is not closed"):
        list(expand_braces("x{0..3"))
    with pytest.raises(ManifestError, match="more than 1000000 files"):
        list(expand_braces("{0..9999999999}"))


def test_files_of_globs_and_braces(tmp_path):
    for name in ("a-0.tar", "a-1.tar", "b-0.tar", "c.tar"):
        (tmp_path / name).touch()
    found = find_files(f"{tmp_path}/{{b,a}}-*.tar")
    assert [path.removeprefix(f"{tmp_path}/") for path in found] == ["b-0.tar", "a-0.tar", "a-1.tar"]
    with pytest.raises(ManifestError, match="no such files"):
        find_files(f"{tmp_path}/z*.tar")


@pytest.mark.parametrize(
    ("pattern", "root"),
    [
        ("/data/x/{000..010}.tar", "/data/x"),
        ("/data/{a,b}/x.tar", "/data"),
        ("x-*.tar", "."),
        ("/x.tar", "/"),
        ("s3://bucket/x/a-{0..1}.tar", "s3://bucket/x"),
    ],
)
def test_root(pattern, root):
    assert root_of(pattern) == root
