"""Datasets with temporal labels: AVE, LLP, EPIC-Sounds and UnAV-100."""

import json

import pytest

AVE = {
    "trainSet.txt": "Church bell&RUhOCu3LNXM&good&0&10\nTruck&MH3m4AwEcRY&good&6&8\nTruck&MH3m4AwEcRY&good&9&10\n",
    "valSet.txt": "Bark&2An2JMGMbbs&good&0&10\n",
    "testSet.txt": "Male speech, man speaking&MH3m4AwEcRY&good&0&5\nGoat&-RBhzOdYQsY&good&2&4\n",
}
HEADER = "Category&VideoID&Quality&StartTime&EndTime\n"


@pytest.fixture
def ave(write):
    for name, text in AVE.items():
        write(f"data/{name}", text)


def test_ave_rows(run, ave, write, touch):
    write("data/Annotations.txt", HEADER + "".join(AVE.values()) + "Goat&WM5R44UMLq0&good&0&1\n")
    touch("AVE/RUhOCu3LNXM.mp4", "AVE/MH3m4AwEcRY.mp4", "AVE/-RBhzOdYQsY.mp4", "AVE/WM5R44UMLq0.mp4")
    done = run("ave")
    assert done.rows("id", "label", "split", "events", "official_id") == [
        ("AVE/RUhOCu3LNXM.mp4", "Church bell", "train", "Church bell 0-10", "RUhOCu3LNXM"),
        ("AVE/MH3m4AwEcRY.mp4#train-Truck", "Truck", "train", "Truck 6-8|Truck 9-10", "MH3m4AwEcRY train-Truck"),
        (
            *("AVE/MH3m4AwEcRY.mp4#test-Male speech, man speaking", "Male speech, man speaking", "test"),
            *("Male speech, man speaking 0-5", "MH3m4AwEcRY test-Male speech, man speaking"),
        ),
        ("AVE/-RBhzOdYQsY.mp4", "Goat", "test", "Goat 2-4", "-RBhzOdYQsY"),
        ("AVE/WM5R44UMLq0.mp4", "Goat", None, "Goat 0-1", "WM5R44UMLq0"),
    ]
    assert [(row["id"], row["split"]) for row in done.missing] == [("2An2JMGMbbs", "val")]


def test_ave_list_of_videos(run, ave, write, touch):
    touch("RUhOCu3LNXM.mp4", "MH3m4AwEcRY.mp4")
    write("data/some.txt", "MH3m4AwEcRY\n")
    assert run("ave", "--list", "some.txt").rows("label") == [("Truck",), ("Male speech, man speaking",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Bark&2An2JMGMbbs&good&0\n", "valSet.txt:1: 4 columns where 5 (Category, VideoID, Quality"),
        ("Bark&short&good&0&10\n", "valSet.txt:1: VideoID is 'short', expected a YouTube id"),
        ("Bark&2An2JMGMbbs&good&5&5\n", "valSet.txt:1: EndTime is '5', expected a number above StartTime, 5"),
        ("", "valSet.txt: no records"),
    ],
)
def test_ave_in_another_format(run, ave, write, touch, text, message):
    write("data/valSet.txt", text)
    done = run("ave")
    assert done.status == 1
    assert message in done.error


LLP = {
    "AVVP_train.csv": "filename\tevent_labels\nBjCEufrlXm4_20_30\tSpeech,Dog\n7nSYwyaP4QE_50_60\tSinging,Banjo\n",
    "AVVP_val_pd.csv": "filename\tevent_labels\n4YdbENYcIyE_23_33\tBaby_cry_infant_cry\n",
    "AVVP_test_pd.csv": "filename\tevent_labels\nKSRjje7GH44_60_70\tBlender,Speech\n",
    "AVVP_eval_audio.csv": "filename\tonset\toffset\tevent_labels\n4YdbENYcIyE_23_33\t0\t4\tBaby_cry_infant_cry\n"
    "KSRjje7GH44_60_70\t8\t10\tBlender\nKSRjje7GH44_60_70\t0\t8\tSpeech\nKSRjje7GH44_60_70\t9\t10\tSpeech\n",
    "AVVP_eval_visual.csv": "filename\tonset\toffset\tevent_labels\nKSRjje7GH44_60_70\t0\t10\tBlender\n",
}


@pytest.fixture
def llp(write):
    for name, text in LLP.items():
        write(f"data/{name}", text)


def test_llp_rows(run, llp, touch):
    touch(
        "video/BjCEufrlXm4_20_30.mp4", "4YdbENYcIyE.mp4", "frames/KSRjje7GH44_60_70.jpg", "audio/KSRjje7GH44_60_70.wav"
    )
    done = run("llp")
    assert done.rows("path", "label", "split") == [
        ("video/BjCEufrlXm4_20_30.mp4", "Speech|Dog", "train"),
        ("4YdbENYcIyE.mp4", "Baby_cry_infant_cry", "val"),
        ("frames/KSRjje7GH44_60_70.jpg", "Blender|Speech", "test"),
    ]
    assert done.rows("audio_labels", "audio_events", "visual_labels", "visual_events") == [
        (None, None, None, None),
        ("Baby_cry_infant_cry", "Baby_cry_infant_cry 0-4", None, None),
        ("Blender|Speech", "Blender 8-10|Speech 0-8|Speech 9-10", "Blender", "Blender 0-10"),
    ]
    assert [row["id"] for row in done.missing] == ["7nSYwyaP4QE_50_60"]
    assert ["train", "1", "1", "2", "10000"] in [line.split() for line in done.out.splitlines()]
    whole = run("llp", "--untrimmed").rows("id", "start_seconds", "stop_seconds")
    assert whole[1] == ("4YdbENYcIyE.mp4#23.000-33.000", 23.0, 33.0)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "AVVP_train.csv",
            "BjCEufrlXm4_20_30",
            "BjCEufrlXm4",
            "AVVP_train.csv:2: filename is 'BjCEufrlXm4', expected ID",
        ),
        ("AVVP_train.csv", "\t", ",", "AVVP_train.csv:1: no column 'filename', 'event_labels'"),
        (
            "AVVP_eval_audio.csv",
            "0\t4",
            "4\t4",
            "AVVP_eval_audio.csv:2: offset is '4', expected a number above onset, 4",
        ),
        (
            "AVVP_eval_visual.csv",
            "0\t10",
            "x\t10",
            "AVVP_eval_visual.csv:2: onset is 'x', expected a number of seconds",
        ),
    ],
)
def test_llp_in_another_format(run, llp, write, name, old, new, message):
    write(f"data/{name}", LLP[name].replace(old, new))
    done = run("llp")
    assert done.status == 1
    assert message in done.error


EPIC_HEADER = "annotation_id,participant_id,video_id,start_timestamp,stop_timestamp,start_sample,stop_sample"
EPIC_TRAIN = f"""{EPIC_HEADER},description,class,class_id
P01_01_0,P01,P01_01,00:00:02.069,00:00:02.993,49656,71832,clang / clatter,ceramic / wood collision,34
P01_01_1,P01,P01_01,01:02:03.5,01:02:14.447,73560,346728,paper rustle,rustle,4
P01_01_2,P01,P01_01,01:02:03.5,01:02:14.447,73560,346728,"water, running",water,1
"""


@pytest.fixture
def epic(write):
    write("EPIC_Sounds_train.csv", EPIC_TRAIN)
    write("EPIC_Sounds_validation.csv", EPIC_TRAIN.replace("P01_01", "P02_11"))


def test_epic_sounds_rows(run, epic, write, touch):
    write("EPIC_Sounds_recognition_test_timestamps.csv", f"{EPIC_HEADER}\nP03_1_0,P03,P03_1,00:00:01,00:00:02,1,2\n")
    touch("P01/videos/P01_01.MP4", "P03/P03_1.wav")
    done = run("epic_sounds", out="epic_sounds.csv")
    columns = ("id", "start_seconds", "stop_seconds", "label", "split", "participant")
    assert done.rows(*columns) == [
        ("P01/videos/P01_01.MP4#P01_01_0", 2.069, 2.993, "ceramic / wood collision", "train", "P01"),
        ("P01/videos/P01_01.MP4#P01_01_1", 3723.5, 3734.447, "rustle", "train", "P01"),
        ("P01/videos/P01_01.MP4#P01_01_2", 3723.5, 3734.447, "water", "train", "P01"),
        ("P03/P03_1.wav#P03_1_0", 1.0, 2.0, None, "test", "P03"),
    ]
    assert {row["path"] for row in done.missing} == {"P02_11"}
    assert len(done.missing) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("00:00:02.069", "2.069", ":2: start_timestamp is '2.069', expected HH:MM:SS.mmm"),
        ("00:00:02.993", "00:00:02.000", ":2: stop_timestamp is '00:00:02.000', expected a time after 00:00:02.069"),
        ("00:00:02.993", "00:00:72.000", ":2: stop_timestamp is '00:00:72.000', expected HH:MM:SS.mmm"),
    ],
)
def test_epic_sounds_in_another_format(run, epic, write, old, new, message):
    write("EPIC_Sounds_train.csv", EPIC_TRAIN.replace(old, new, 1))
    done = run("epic_sounds")
    assert done.status == 1
    assert message in done.error


def unav_video(subset: str, *events: tuple[float, float, str]) -> dict:
    annotations = [{"segment": [start, stop], "label": label, "label_id": 0} for start, stop, label in events]
    return {"duration": 39, "subset": subset, "annotations": annotations}


UNAV = {
    "72f67ednp7w": unav_video("train", (13.01, 15.78316, "skateboarding"), (21.01, 37.7377, "skateboarding")),
    "-R2kN-_12pc": unav_video("test", (0, 38.9319, "horse clip-clop"), (0, 38.9319, "wind noise")),
    "TOEwQXeyNe8": unav_video("validation", (3.179, 32.73497, "wind noise")),
}


@pytest.fixture
def unav(write, touch):
    def call(videos=UNAV):
        write("data/unav100_annotations.json", json.dumps({"version": "unav100", "database": videos}))
        touch("raw_videos/72f67ednp7w.mp4", "raw_videos/-R2kN-_12pc.mp4")

    call()
    return call


def test_unav100_rows(run, unav):
    done = run("unav100", out="unav100.csv")
    assert done.rows("id", "start_seconds", "stop_seconds", "label", "split") == [
        ("raw_videos/72f67ednp7w.mp4#13.010-15.783", 13.01, 15.783, "skateboarding", "train"),
        ("raw_videos/72f67ednp7w.mp4#21.010-37.738", 21.01, 37.738, "skateboarding", "train"),
        ("raw_videos/-R2kN-_12pc.mp4#0.000-38.932", 0.0, 38.932, "horse clip-clop|wind noise", "test"),
    ]
    assert [(row["id"], row["split"]) for row in done.missing] == [("TOEwQXeyNe8 3.179-32.735", "val")]


def test_unav100_videos(run, unav):
    done = run("unav100", "--videos", out="unav100_videos.csv")
    assert done.rows("id", "label", "events") == [
        (
            *("raw_videos/72f67ednp7w.mp4", "skateboarding"),
            "skateboarding 13.01-15.7832|skateboarding 21.01-37.7377",
        ),
        (
            *("raw_videos/-R2kN-_12pc.mp4", "horse clip-clop|wind noise"),
            "horse clip-clop 0-38.9319|wind noise 0-38.9319",
        ),
    ]


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ({"subset": "training", "annotations": []}, "72f67ednp7w: expected a subset (train, validation or test), and"),
        ({"subset": "train"}, "(KeyError: 'annotations')"),
        (
            {"subset": "train", "annotations": [{"segment": ["a", 2], "label": "x"}]},
            "could not convert string to float",
        ),
        (unav_video("train", (4, 4, "x")), "72f67ednp7w: ('x', 4.0, 4.0) is no label with a start and a later stop"),
        ([1], "72f67ednp7w: expected a subset"),
    ],
)
def test_unav100_in_another_format(run, unav, video, message):
    unav({"72f67ednp7w": video})
    done = run("unav100")
    assert done.status == 1
    assert message in done.error
    unav([])
    assert "no object 'database' with the videos" in run("unav100").error
