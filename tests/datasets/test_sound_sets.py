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


def test_urbansound8k_rows(run, write, touch):
    text = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    text += "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
    text += "100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing\n"
    write("metadata/UrbanSound8K.csv", text)
    touch("audio/fold5/100032-3-0-0.wav")
    done = run("urbansound8k")
    assert done.rows("path", "label", "fold", "recording") == [
        ("audio/fold5/100032-3-0-0.wav", "dog_bark", "5", "100032")
    ]
    assert ["(all)", "1", "1", "2", "8732"] in [line.split() for line in done.out.splitlines()]
    write("metadata/UrbanSound8K.csv", text.replace(",5,3", ",11,3"))
    assert "UrbanSound8K.csv:2: fold is '11'" in run("urbansound8k").error


def test_fsd50k_rows(run, write, touch):
    rows = '64760,"Electric_guitar,Guitar","/m/02sgy,/m/0342h",train\n1,Rain,/m/06mb1,val\n'
    write("FSD50K.ground_truth/dev.csv", f"fname,labels,mids,split\n{rows}")
    write("FSD50K.ground_truth/eval.csv", 'fname,labels,mids\n37199,"Rain,Water","/m/06mb1,/m/0838f"\n')
    touch("FSD50K.dev_audio/64760.wav", "FSD50K.eval_audio/37199.wav")
    done = run("fsd50k")
    assert done.rows("path", "label", "split") == [
        ("FSD50K.dev_audio/64760.wav", "Electric_guitar|Guitar", "train"),
        ("FSD50K.eval_audio/37199.wav", "Rain|Water", "test"),
    ]
    assert ["test", "1", "0", "1", "10231"] in [line.split() for line in done.out.splitlines()]
