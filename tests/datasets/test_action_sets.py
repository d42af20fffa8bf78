"""UCF101 and HMDB51: actions with three official splits."""

import pytest


@pytest.fixture
def ucf101(write, touch):
    write("ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\r\n2 Archery\r\n")
    one, two = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "Archery/v_Archery_g01_c01.avi"
    three = "Archery/v_Archery_g02_c01.avi"
    write("ucfTrainTestlist/trainlist01.txt", f"{one} 1\r\n{two} 2\r\n")
    write("ucfTrainTestlist/testlist01.txt", f"{three}\r\n")
    write("ucfTrainTestlist/trainlist02.txt", f"{three} 2\n")
    write("ucfTrainTestlist/testlist02.txt", f"{one}\n{two}\n")
    write("ucfTrainTestlist/trainlist03.txt", f"{one} 1\n{three} 2\n")
    write("ucfTrainTestlist/testlist03.txt", f"{two}\n")
    touch(f"UCF-101/{one}", "flat/v_Archery_g02_c01.mp4", "UCF-101/Archery/v_Archery_g09_c01.avi")


def test_ucf101_rows(run, ucf101):
    done = run("ucf101")
    assert done.rows("id", "label", "split", "split1", "split2", "split3") == [
        ("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "ApplyEyeMakeup", *("train", "train", "test", "train")),
        ("flat/v_Archery_g02_c01.mp4", "Archery", *("test", "test", "train", "train")),
    ]
    assert done.missing == [
        {
            "id": "Archery/v_Archery_g01_c01.avi",
            "path": "Archery/v_Archery_g01_c01.avi",
            "split": "train",
            "label": "Archery",
            "reason": "not found",
        }
    ]
    assert ["train", "1", "1", "2", "9537"] in [line.split() for line in done.out.splitlines()]


def test_ucf101_split_number(run, ucf101):
    done = run("ucf101", "--split-number", "2")
    assert done.rows("split") == [("test",), ("train",)]
    assert ["test", "1", "1", "2", "3734"] in [line.split() for line in done.out.splitlines()]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (
            "trainlist01.txt",
            "Bowling/v_Bowling_g01_c01.avi 1\n",
            ":1: clip is 'Bowling/v_Bowling_g01_c01.avi', expected",
        ),
        (
            "trainlist01.txt",
            "Archery/v_Archery_g01_c01.avi 1\n",
            ":1: number is '1', expected 2, the number of Archery",
        ),
        ("trainlist01.txt", "Archery/v_Archery_g01_c01.avi\n", ":1: 1 columns where 2"),
        ("testlist01.txt", "Archery/v_Archery_g01_c01.avi\n", "is also in the other list of split 1"),
        ("testlist02.txt", "Archery\n", ":1: clip is 'Archery', expected CLASS/FILE"),
    ],
)
def test_ucf101_in_another_format(run, ucf101, write, path, text, message):
    write(f"ucfTrainTestlist/{path}", text)
    done = run("ucf101")
    assert done.status == 1
    assert path in done.error
    assert message in done.error


def test_ucf101_needs_all_lists(run, ucf101, root):
    (root / "ucfTrainTestlist/testlist03.txt").unlink()
    assert "testlist03.txt is not in" in run("ucf101").error


@pytest.fixture
def hmdb51(write, touch):
    for number, parts in ((1, "120"), (2, "021"), (3, "112")):
        names = ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "(Rad)Schlag!_brush_hair_f.avi", "gone_brush_hair.avi")
        lists = "".join(f"{name} {part} \n" for name, part in zip(names, parts, strict=True))
        write(f"testTrainMulti_7030_splits/brush_hair_test_split{number}.txt", lists)
        write(f"testTrainMulti_7030_splits/clap_test_split{number}.txt", "same.avi 1\n")
    touch(
        "hmdb51_org/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
        "hmdb51_org/brush hair/(Rad)Schlag!_brush_hair_f.mkv",
        "hmdb51_org/brush_hair/same.avi",
        "hmdb51_org/clap/same.avi",
    )


def test_hmdb51_rows(run, hmdb51):
    done = run("hmdb51")
    assert done.rows("id", "label", "split", "split1", "split2", "split3") == [
        (
            "hmdb51_org/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
            "brush_hair",
            *("train", "train", "unused", "train"),
        ),
        ("hmdb51_org/brush hair/(Rad)Schlag!_brush_hair_f.mkv", "brush_hair", *("test", "test", "test", "train")),
        ("hmdb51_org/clap/same.avi", "clap", *("train", "train", "train", "train")),
    ]
    assert [(row["id"], row["split"]) for row in done.missing] == [("brush_hair/gone_brush_hair.avi", "unused")]
    assert ["unused", "0", "1", "1", "1666"] in [line.split() for line in done.out.splitlines()]
    assert run("hmdb51", "--split-number", "2").rows("split") == [("unused",), ("test",), ("train",)]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("brush_hair_test_split2.txt", "gone_brush_hair.avi 3\n", ":1: part is '3', expected '1' or '2' or '0'"),
        ("clap_test_split2.txt", "other.avi 1\n", "clap/same.avi is only in split1, split3 of 3 splits"),
        ("wave_test_split1.txt", "a.avi 1\n", "there is no wave_test_split2.txt"),
    ],
)
def test_hmdb51_in_another_format(run, hmdb51, write, path, text, message):
    write(f"testTrainMulti_7030_splits/{path}", text)
    done = run("hmdb51")
    assert done.status == 1
    assert message in done.error


def test_hmdb51_without_lists_is_an_error(run, touch):
    touch("clap/same.avi")
    assert "no CLASS_test_split1.txt" in run("hmdb51").error
