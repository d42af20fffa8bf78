"""VGGSounder: several labels of a clip, each heard, seen or both; from its table, its wheel or its package."""

import zipfile
from importlib import metadata

import pytest

LABELS = """\
video_id,label,modality,background_music,static_image,voice_over
--i-y1v8Hy8_000000,child singing,AV,False,False,True
--i-y1v8Hy8_000000,"child speech, kid speaking",A,False,False,True
--i-y1v8Hy8_000000,female singing,V,False,False,True
-0BIyqJj9ZU_000030,baby laughter,A,False,True,False
-0BIyqJj9ZU_000040,baby laughter,A,False,True,False
"""
ROWS = [
    (
        *("child singing|child speech, kid speaking|female singing", "child singing|child speech, kid speaking"),
        *("child singing|female singing", "test", "True", "False"),
    ),
    ("baby laughter", "baby laughter", None, "test", "False", "True"),
]
COLUMNS = ("label", "audio_labels", "visual_labels", "split", "voice_over", "static_image")
OUT = "vggsounder_test.csv"


@pytest.fixture
def clips(touch):
    touch("video/--i-y1v8Hy8_000000.mp4", "video/-0BIyqJj9ZU_30.mp4")


@pytest.fixture
def wheel(root):
    """``wheel(text)`` makes the official wheel with these labels."""

    def call(text: str, name: str = "vggsounder.csv"):
        path = root / "vggsounder-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"vggsounder/data/{name}", text)
        return path

    return call


def test_vggsounder_rows(run, clips, write):
    write("data/vggsounder.csv", LABELS)
    done = run("vggsounder", out=OUT)
    assert done.rows(*COLUMNS) == ROWS
    assert [row["id"] for row in done.missing] == ["-0BIyqJj9ZU_000040"]
    assert ["test", "2", "1", "3", "12014"] in [line.split() for line in done.out.splitlines()]


def test_vggsounder_of_the_wheel(run, clips, wheel):
    wheel(LABELS)
    assert run("vggsounder", out=OUT).rows(*COLUMNS) == ROWS
    done = run("vggsounder", "--background-music")
    assert "vggsounder/data/vggsounder+background-music.csv cannot be read from it" in done.error
    wheel(LABELS, "vggsounder+background-music.csv")
    assert run("vggsounder", "--background-music", out=OUT).rows(*COLUMNS) == ROWS


def test_vggsounder_of_the_installed_package(run, clips, tmp_path, monkeypatch):
    data, about = tmp_path / "site" / "vggsounder" / "data", tmp_path / "site" / "vggsounder-1.0.dist-info"
    data.mkdir(parents=True)
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.4\nName: vggsounder\nVersion: 1.0\n")
    (data / "vggsounder.csv").write_text(LABELS)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert run("vggsounder", out=OUT).rows(*COLUMNS) == ROWS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_000030,", "_30,", "vggsounder.csv:5: video_id is '-0BIyqJj9ZU_30', expected ID_START"),
        (",A,False,True,", ",X,False,True,", "vggsounder.csv:5: modality is 'X', expected 'A' or 'V' or 'AV'"),
        ("modality", "mode", "vggsounder.csv:1: no column 'modality'"),
    ],
)
def test_vggsounder_in_another_format(run, clips, write, wheel, old, new, message):
    wheel(LABELS.replace(old, new))
    assert message in run("vggsounder").error
    write("vggsounder.csv", LABELS.replace(old, new))
    assert message in run("vggsounder").error


def test_vggsounder_without_its_labels(run, clips, root, wheel, monkeypatch):
    def not_installed(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", not_installed)  # the script is imported when it is run
    assert "Get it there with: pip download --no-deps vggsounder -d" in run("vggsounder").error
    wheel(LABELS).write_bytes(b"no archive")
    assert "vggsounder/data/vggsounder.csv cannot be read from it (File is not a zip file)" in run("vggsounder").error


def test_vggsounder_of_a_damaged_wheel(run, clips, wheel):
    """Packed bytes that are none, a member that is encrypted, and an archive that was cut off."""
    path = wheel(LABELS)
    whole = path.read_bytes()
    start = whole.index(b"vggsounder.csv") + len("vggsounder.csv")
    damaged = whole[:start] + b"\xff" * 12 + whole[start + 12 :]
    at = whole.index(b"PK\x01\x02") + 8  # flags of the member in the directory
    encrypted = whole[:6] + b"\x01" + whole[7:at] + b"\x01" + whole[at + 1 :]
    for content in (damaged, encrypted, whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "vggsounder/data/vggsounder.csv cannot be read from it" in run("vggsounder").error
