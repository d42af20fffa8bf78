import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

TRAIN = """\
label,youtube_id,time_start,time_end,split,is_cc
"playing piano",aaaaaaaaaaa,1,11,train,0
"mowing lawn",-bbbbbbbbb_,30,40,train,0
"mowing lawn",ccccccccccc,0,10,train,0
"tapping pen",ddddddddddd,5,15,train,0
"tapping pen",eeeeeeeeeee,7,17,train,0
"""
VAL = """\
label,youtube_id,time_start,time_end,split
"playing piano",fffffffffff,2,12,validate
"""
TEST = """\
youtube_id,time_start,time_end,split
ggggggggggg,3,13,test
"""


@pytest.fixture
def kinetics(touch, write):
    write("annotations/train.csv", TRAIN)
    write("annotations/validate.csv", VAL)
    write("test.csv", TEST)
    touch(
        "train/playing piano/aaaaaaaaaaa_000001_000011.mp4",
        "train/mowing_lawn/-bbbbbbbbb__30.mkv",
        "train/ccccccccccc.mp4",
        "train/ddddddddddd_000006_000016.mp4",  # another second
        "val/fffffffffff_000002_000012.mp4",
        "replacement/replacement_for_corrupted_k400/fffffffffff_000002_000012.mp4",
        "ggggggggggg_3.000.webm",
        "train/zzzzzzzzzzz_000001_000011.mp4",  # not in the lists
        "train/aaaaaaaaaaa_000001_000011.txt",
    )


def test_rows_of_all_ways_to_name_a_clip(run, kinetics):
    done = run("kinetics")
    assert done.rows("id", "label", "split", "start_seconds") == [
        ("train/playing piano/aaaaaaaaaaa_000001_000011.mp4", "playing piano", "train", None),
        ("train/mowing_lawn/-bbbbbbbbb__30.mkv", "mowing lawn", "train", None),
        ("train/ccccccccccc.mp4", "mowing lawn", "train", None),
        ("replacement/replacement_for_corrupted_k400/fffffffffff_000002_000012.mp4", "playing piano", "val", None),
        ("ggggggggggg_3.000.webm", None, "test", None),
    ]
    assert done.manifest["path"].tolist() == done.manifest["id"].tolist()


def test_missing_clips_are_listed_and_counted_beside_the_official_counts(run, kinetics):
    done = run("kinetics")
    assert done.missing == [
        {
            "id": "ddddddddddd_000005_000015",
            "path": "ddddddddddd_000005.mp4",
            "split": "train",
            "label": "tapping pen",
            "reason": "only another second of this video: train/ddddddddddd_000006_000016.mp4",
        },
        {
            "id": "eeeeeeeeeee_000007_000017",
            "path": "eeeeeeeeeee_000007.mp4",
            "split": "train",
            "label": "tapping pen",
            "reason": "not found",
        },
    ]
    lines = [line.split() for line in done.out.splitlines()]
    assert "Kinetics-400: 5 of 7 listed clips found (71.4 %)" in done.out
    assert ["train", "3", "2", "5", "246534"] in lines
    assert ["val", "1", "0", "1", "19906"] in lines
    assert f"clip list: {done.manifest.hash()}" in done.out


def test_counts_belong_to_the_version_and_unknown_ones_are_said_to_be(run, kinetics):
    assert ["val", "1", "0", "1", "34125"] in [
        x.split() for x in run("kinetics", "--version", "700-2020").out.splitlines()
    ]
    assert ["val", "1", "0", "1", "?"] in [x.split() for x in run("kinetics", "--version", "700").out.splitlines()]


def test_whole_videos_hold_a_segment(run, kinetics):
    done = run("kinetics", "--untrimmed")
    assert done.rows("id", "path", "start_seconds", "stop_seconds", "duration_seconds")[2] == (
        "train/ccccccccccc.mp4#0.000-10.000",
        "train/ccccccccccc.mp4",
        0.0,
        10.0,
        10.0,
    )
    assert done.rows("id", "start_seconds")[0] == ("train/playing piano/aaaaaaaaaaa_000001_000011.mp4", None)


def test_link_rot_is_no_error_unless_strict(run, kinetics, touch, root):
    done = run("kinetics", "--strict")
    assert done.status == 1
    assert "2 clips are missing" in done.error
    assert len(done.manifest) == 5
    touch("ddddddddddd_5.mp4", "eeeeeeeeeee_7_17.mp4")
    done = run("kinetics", "--strict")
    assert (done.status, done.missing) == (0, [])
    assert not (root / "manifest.missing.csv").exists()


def test_a_split_without_its_file_is_said_to_be_absent(run, kinetics, root):
    (root / "test.csv").unlink()
    done = run("kinetics")
    assert "no test.csv, so no clips of the split test" in done.out
    assert [split for (split,) in done.rows("split")] == ["train", "train", "train", "val"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,youtube,time_start,time_end\nx,aaaaaaaaaaa,1,2\n", "train.csv:1: no column 'youtube_id'"),
        ("label,youtube_id,time_start,time_end\nx,aaaaaaaaaaa,one,2\n", "train.csv:2: time_start is 'one'"),
        ("label,youtube_id,time_start,time_end\nx,aaaaaaaaaaa,5,5\n", "train.csv:2: time_end is '5'"),
        ("label,youtube_id,time_start,time_end\nx,aaaaaaaaaaa,1\n", "train.csv:2: 3 columns where 4"),
        ("label,youtube_id,time_start,time_end\n,aaaaaaaaaaa,1,2\n", "train.csv:2: label is ''"),
        ("label,youtube_id,time_start,time_end\n", "train.csv: no records"),
        ("<html>Not found</html>\n", "train.csv:1: no column 'youtube_id', 'time_start', 'time_end', 'label'"),
    ],
)
def test_a_file_in_another_format_is_an_error_that_names_the_place(run, kinetics, write, root, text, message):
    write("annotations/train.csv", text)
    done = run("kinetics")
    assert done.status == 1
    assert message in done.error
    assert done.manifest is None


def test_no_clip_at_all_is_an_error_with_an_example(run, write, touch):
    write("train.csv", TRAIN)
    touch("video_1.mp4")
    done = run("kinetics")
    assert done.status == 1
    assert "none of the 5 listed clips is there" in done.error
    assert "aaaaaaaaaaa_000001.mp4" in done.error
    assert "ID_START_STOP" in done.error


def test_no_annotation_file_is_an_error_that_says_where_to_get_it(run, touch):
    touch("aaaaaaaaaaa.mp4")
    done = run("kinetics")
    assert done.status == 1
    assert "train.csv" in done.error
    assert "cvdfoundation/kinetics-dataset" in done.error
    assert "--annotations" in done.error


def test_annotations_may_lie_elsewhere_but_the_manifest_may_not(run, root, touch, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.csv").write_text(TRAIN)
    touch("aaaaaaaaaaa.mp4")
    assert run("kinetics", "--annotations", str(tmp_path / "lists")).rows("id") == [("aaaaaaaaaaa.mp4",)]
    done = run("kinetics", "--annotations", str(tmp_path / "lists"), "-o", str(tmp_path / "other.csv"))
    assert done.status == 1
    assert "must be" in done.error
    done = run("kinetics", "--annotations", str(tmp_path / "lists"), "-o", "other.csv", out="other.csv")
    assert done.rows("id") == [("aaaaaaaaaaa.mp4",)]
    assert len(done.missing) == 4


def test_kinetics_sounds_are_some_classes_of_kinetics_400(run, write, touch):
    write("train.csv", TRAIN + "archery,hhhhhhhhhhh,0,10,train,0\nstrumming guitar,iiiiiiiiiii,0,10,train,0\n")
    write("test.csv", TEST)  # without labels there is nothing to choose by
    touch("aaaaaaaaaaa.mp4", "hhhhhhhhhhh.mp4", "iiiiiiiiiii.mp4", "ggggggggggg.mp4")
    done = run("kinetics_sounds", out="kinetics_sounds.csv")
    assert done.rows("label") == [("playing piano",), ("strumming guitar",)]
    assert len(done.missing) == 4
    done = run("kinetics_sounds", "--classes", "31", out="kinetics_sounds.csv")
    assert done.rows("label") == [("playing piano",)]


def test_kinetics_sounds_lists_have_their_published_lengths(run, monkeypatch):
    import kinetics_sounds

    assert len(kinetics_sounds.CLASSES) == 32
    assert {"mowing lawn", "blowing out candles", "playing trombone", "tickling"} <= kinetics_sounds.CLASSES


def test_kinetics_sounds_in_files_without_such_classes_is_an_error(run, write, touch):
    write("train.csv", "label,youtube_id,time_start,time_end\narchery,hhhhhhhhhhh,0,10\n")
    touch("hhhhhhhhhhh.mp4")
    done = run("kinetics_sounds", out="kinetics_sounds.csv")
    assert done.status == 1
    assert "list no clip of Kinetics-Sounds" in done.error


def test_the_script_runs_as_a_user_runs_it(kinetics, root):
    script = REPOSITORY / "datasets" / "kinetics_sounds.py"  # which imports its neighbor
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(root)]
    done = subprocess.run(command, cwd=root.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Kinetics-Sounds, 32 classes: 4 of 6 listed clips found" in done.stdout
    assert (root / "kinetics_sounds.csv").is_file()


def test_kinetics_600_test_clips_have_no_labels(run, write, touch):
    write("test.csv", "youtube_id,time_start,time_end,split\naaaaaaaaaaa,61,71,test\n")
    write("val.csv", "label,youtube_id,time_start,time_end,split\nabseiling,bbbbbbbbbbb,38,48,val\n")
    touch("aaaaaaaaaaa_000061_000071.mp4", "bbbbbbbbbbb_000038_000048.mp4")
    done = run("kinetics", "--version", "600")
    assert done.rows("label", "split") == [("abseiling", "val"), (None, "test")]
    assert "1 test clips have no label; evaluate on val: avssl probe ... --test-split val" in done.out
    assert ["val", "1", "0", "1", "30000"] in [line.split() for line in done.out.splitlines()]


def test_kinetics_sounds_of_published_lists(run, write, touch):
    table = "label,youtube_id,time_start,time_end,split\n"
    table += "".join(f"tap dancing,{video},{start},{start + 10},train\n" for video, start in KS)
    write("train.csv", table)
    write("my_train.txt", "--4-0ihtnBU_000058_000068,10,4\n--6q_33gNew_000132_000142,10,27\n")
    write("my_test.txt", "-3Mwkq-7TV4_2,10,23\nzzzzzzzzzzz_9,10,1\n")
    touch(*(f"{video}_{start:06d}_{start + 10:06d}.mp4" for video, start in KS))
    done = run("kinetics_sounds", "--list", "train=my_train.txt", "test=my_test.txt", out="kinetics_sounds.csv")
    assert done.rows("official_id", "split") == [
        ("--4-0ihtnBU_000058_000068", "train"),
        ("--6q_33gNew_000132_000142", "train"),
        ("-3Mwkq-7TV4_000002_000012", "test"),
    ]
    assert (
        "list my_test.txt: 2 clips, 1 of them in the official files; 1 are unknown, the first is zzzzzzzzzzz_9"
        in done.out
    )
    assert "--classes has no meaning" in run("kinetics_sounds", "--classes", "31", "--list", "my_train.txt").error


KS = [("--4-0ihtnBU", 58), ("--6q_33gNew", 132), ("-3Mwkq-7TV4", 2), ("-unlisted-1", 5)]
