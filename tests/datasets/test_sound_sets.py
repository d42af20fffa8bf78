"""ESC-50 and the scenes of DCASE 2013: sound without a picture."""

import pytest

ESC50 = """\
filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
2-103426-A-3.wav,2,3,cow,False,103426,A
5-9032-A-0.wav,5,0,dog,True,9032,A
"""


def test_esc50_rows(run, write, touch):
    write("meta/esc50.csv", ESC50)
    touch("audio/1-100032-A-0.wav", "audio/2-103426-A-3.wav")
    done = run("esc50")
    assert done.rows("id", "label", "fold", "split", "split1", "split2", "source", "esc10") == [
        ("audio/1-100032-A-0.wav", "dog", "1", "test", "test", "train", "100032", "True"),
        ("audio/2-103426-A-3.wav", "cow", "2", "train", "train", "test", "103426", "False"),
    ]
    assert [(row["id"], row["label"]) for row in done.missing] == [("5-9032-A-0.wav", "dog")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ESC50.replace("1-100032-A-0.wav,1", "1-100032-A-0.wav,6"), "esc50.csv:2: fold is '6', expected '1' or"),
        (ESC50.replace("category", "class"), "esc50.csv:1: no column 'category'"),
    ],
)
def test_esc50_in_another_format(run, write, touch, text, message):
    write("meta/esc50.csv", text)
    touch("audio/1-100032-A-0.wav")
    done = run("esc50")
    assert done.status == 1
    assert message in done.error


def test_dcase2013_rows(run, touch):
    touch(
        "scenes_stereo/scenes_stereo/bus01.wav",
        "scenes_stereo/scenes_stereo/busystreet10.wav",
        "scenes_stereo_testset/bus01.wav",
        "scenes_stereo_testset/test_tubestation03.wav",
        "elsewhere/noise.wav",
    )
    done = run("dcase2013")
    assert done.rows("id", "label", "split") == [
        ("scenes_stereo/scenes_stereo/bus01.wav", "bus", "train"),
        ("scenes_stereo/scenes_stereo/busystreet10.wav", "busystreet", "train"),
        ("scenes_stereo_testset/bus01.wav", "bus", "test"),
        ("scenes_stereo_testset/test_tubestation03.wav", "tubestation", "test"),
    ]
    assert len(done.missing) == 196
    assert done.missing[0]["path"] == "scenes_stereo/bus02.wav"
    assert ["train", "2", "98", "100", "100"] in [line.split() for line in done.out.splitlines()]


@pytest.mark.parametrize("name", ["forest01.wav", "bus11.wav", "bus.wav", "bus1.wav"])
def test_dcase2013_with_other_names(run, touch, name):
    touch("scenes_stereo/bus01.wav", f"scenes_stereo/{name}")
    done = run("dcase2013")
    assert done.status == 1
    assert f"{name}: not a name such as bus01.wav" in done.error


def test_dcase2013_without_its_folders_is_an_error(run, touch):
    touch("bus01.wav")
    assert "looked for as scenes_stereo/bus01.wav" in run("dcase2013").error


@pytest.mark.parametrize("text", ["test01.wav,bus03.wav\n", "original,challenge\nbus03.wav, test01.wav\n"])
def test_dcase2013_names_of_the_challenge(run, touch, write, text):
    touch("scenes_stereo/bus01.wav", "scenes_stereo_testset/test01.wav")
    assert "get dcase2013_task1_filenamekey.csv from https://archive.org" in run("dcase2013").error
    write("scenes_stereo_testset/dcase2013_task1_filenamekey.csv", text)
    assert run("dcase2013").rows("id", "label", "split") == [
        ("scenes_stereo/bus01.wav", "bus", "train"),
        ("scenes_stereo_testset/test01.wav", "bus", "test"),
    ]


def test_rows_of_audio_say_how_they_are_read(run, write, touch):
    write("meta/esc50.csv", ESC50)
    touch("audio/1-100032-A-0.flac")
    done = run("esc50")
    assert done.rows("path") == [("audio/1-100032-A-0.flac",)]
    assert "rows: 1 audio files alone" in done.out
    assert "--modality audio" in done.out
