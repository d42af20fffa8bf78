import os

import pytest

from avssl.core.manifest import ManifestError
from avssl.data.official.clip_files import ClipFiles


@pytest.fixture
def index(tmp_path):
    def make(*paths, **options):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return ClipFiles(tmp_path, **options)

    return make


@pytest.mark.parametrize(
    ("path", "video", "second"),
    [
        ("aaaaaaaaaaa_30.mp4", "aaaaaaaaaaa", 30),
        ("aaaaaaaaaaa_000030.mp4", "aaaaaaaaaaa", 30),
        ("aaaaaaaaaaa_000030_000040.mp4", "aaaaaaaaaaa", 30),
        ("aaaaaaaaaaa-30-40.mp4", "aaaaaaaaaaa", 30),
        ("aaaaaaaaaaa_30.000.mp4", "aaaaaaaaaaa", 30),
        ("aaaaaaaaaaa_30000_40000.mkv", "aaaaaaaaaaa", 30),
        ("aaaaaaaaaaa_7.mp4", "aaaaaaaaaaa", 7.48),
        ("aaaaaaaaaaa_0.mp4", "aaaaaaaaaaa", 0),
        ("some class/Yaaaaaaaaaaa_30.mp4", "aaaaaaaaaaa", 30),
        ("Yaaaaaaaaaa_30.mp4", "Yaaaaaaaaaa", 30),  # the Y is its own
        ("YYaaaaaaaaaa_30.mp4", "Yaaaaaaaaaa", 30),
        ("Yaaaaaaaaa__30.mp4", "Yaaaaaaaaa_", 30),
        ("--a_a_a-a-__30.mp4", "--a_a_a-a-_", 30),
        ("a_12345_789_30.mp4", "a_12345_789", 30),
    ],
)
def test_segment_is_found_in_all_forms(index, path, video, second):
    match = index(path).segment(video, second)
    assert (match.path, match.whole) == (path, False)


@pytest.mark.parametrize(
    ("path", "second"),
    [
        ("aaaaaaaaaaa_31.mp4", 30),
        ("aaaaaaaaaaa_001000.mp4", 1),  # second 1000, not 1000 milliseconds
        ("aaaaaaaaaaa_1000.0.mp4", 1),
        ("baaaaaaaaaaa_30.mp4", 30),
        ("aaaaaaaaaaa_30_40_50.mp4", 30),
        ("aaaaaaaaaaa_30.txt", 30),
    ],
)
def test_segment_is_not_something_else(index, path, second):
    assert index(path).segment("aaaaaaaaaaa", second).path is None


def test_a_name_with_the_second_comes_before_one_without(index):
    files = index("a/aaaaaaaaaaa.mp4", "b/aaaaaaaaaaa_5.mp4")
    assert files.segment("aaaaaaaaaaa", 5).path == "b/aaaaaaaaaaa_5.mp4"
    match = files.segment("aaaaaaaaaaa", 6)
    assert (match.path, match.whole) == ("a/aaaaaaaaaaa.mp4", True)


def test_another_second_is_told(index):
    match = index("aaaaaaaaaaa_5.mp4").segment("aaaaaaaaaaa", 6)
    assert (match.path, match.looked_for) == (None, "aaaaaaaaaaa_000006.mp4")
    assert match.reason == "only another second of this video: aaaaaaaaaaa_5.mp4"


def test_replacements_come_first(index):
    files = index("a/aaaaaaaaaaa_5.mp4", "replacement/x/aaaaaaaaaaa_5.mp4", "z/aaaaaaaaaaa_5.mp4")
    assert files.segment("aaaaaaaaaaa", 5).path == "replacement/x/aaaaaaaaaaa_5.mp4"


def test_named_looks_at_the_folder_only_where_it_must(index):
    files = index("x/brush hair/a.avi", "x/clap/a.mp4", "flat/b.webm", "c.v2.mp4")
    assert files.named("brush_hair/a.avi").path == "x/brush hair/a.avi"
    assert files.named("clap/a.avi").path == "x/clap/a.mp4"
    assert files.named("clap/b.avi").path == "flat/b.webm"
    assert files.named("clap/b.avi", same_folder=True).path is None
    assert files.named("c.v2").path == "c.v2.mp4"
    assert files.named("wave/a.avi").path is None
    assert files.named("wave/a.avi").reason == "2 files have this name, none of them in a folder 'wave'"


def test_exact_paths_never_leave_the_root(index, tmp_path):
    files = index("a/b.png", extensions={".png"})
    (tmp_path.parent / "outside.png").touch()
    assert files.exact("a/b.png").path == "a/b.png"
    for path in ("../outside.png", f"{tmp_path}/a/b.png", "a/../a/b.png"):
        assert files.exact(path).path is None


def test_files_of_any_name_are_found(index, tmp_path):
    open(os.fsencode(tmp_path) + b"/aaaaaaaaaaa_5\xff.mp4", "wb").close()
    files = index("two\nlines.mp4", "good\u3000one.mp4")
    assert list(files.paths) == ["bytes:aaaaaaaaaaa_5%FF.mp4", "good\u3000one.mp4", "two\nlines.mp4"]
    assert files.named("good\u3000one").path == "good\u3000one.mp4"


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        ClipFiles(tmp_path / "none")


def test_layouts_of_a_clip_are_tried_in_order(index):
    files = index(
        "frames/aaaaaaaaaaa_30.jpg",
        "audio/aaaaaaaaaaa_30.wav",
        "gt_masks/aaaaaaaaaaa_30.png",
        "audio/bbbbbbbbbbb_000030.flac",
        "frames/ccccccccccc_30.jpg",
        "frames/ddddddddddd_30.jpg",
        "audio/ddddddddddd_30.wav",
        "videos/ddddddddddd_30.mp4",
    )
    found = {name: files.segment(f"{name * 11}", 30) for name in "abcd"}
    assert (found["a"].path, found["a"].audio_path) == ("frames/aaaaaaaaaaa_30.jpg", "audio/aaaaaaaaaaa_30.wav")
    assert (found["b"].path, found["b"].audio_path) == ("audio/bbbbbbbbbbb_000030.flac", None)
    assert (found["c"].path, found["c"].reason) == (None, "only its image exists")
    assert (found["d"].path, found["d"].audio_path) == ("videos/ddddddddddd_30.mp4", None)
    visible = index(visible=True)
    assert (visible.segment("bbbbbbbbbbb", 30).path, visible.segment("bbbbbbbbbbb", 30).reason) == (
        None,
        "only its audio exists",
    )
    assert visible.named("aaaaaaaaaaa_30").audio_path == "audio/aaaaaaaaaaa_30.wav"


def test_what_is_looked_for_and_what_is_there_is_described(index):
    files = index("a.npz", "b.npz", "c.txt")
    assert "frames/NAME.jpg and audio/NAME.wav, or an audio file alone, in any folder" in files.describe()
    assert "no such file is there (of others: 2 x .npz, 1 x .txt)" in files.describe()
    assert "1 such files are there, the first is x/d.wav" in index("x/d.wav").describe()
    assert index(visible=True).describe().count("audio file alone") == 0


def test_names_of_any_script_and_space_are_found(index):
    for name in ("狗\u3000叫.mp4", "Bildschirm\u202faufnahme.mp4", "ein Hund.mp4"):
        assert index(name).named(name).path == name
