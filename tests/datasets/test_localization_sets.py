"""Flickr-SoundNet, IS3, AVSBench and MUSIC: boxes and masks."""

import json

import pytest

BOXES = """\
<annotation>
  <filename>2499673064.jpg</filename>
  <worker><bbox><ambient>0</ambient><xmin>0</xmin><ymin>64</ymin><xmax>128</xmax><ymax>256</ymax></bbox></worker>
  <worker><bbox><ambient>0</ambient><xmin>32</xmin><ymin>64</ymin><xmax>192</xmax><ymax>192</ymax></bbox></worker>
</annotation>
"""


@pytest.fixture
def flickr(write, touch):
    write("test_list.txt", "2499673064.png\n10016382545.png\n999.png\n")
    for name in ("2499673064", "10016382545", "5", "6"):
        write(f"Annotations/{name}.xml", BOXES)
    touch("Data/4/2499673064.jpg", "Data/4/2499673064.wav", "Data/5/5.jpg", "Data/5/5.wav", "Data/6/6.jpg")


def test_flickr_rows_and_boxes(run, flickr):
    done = run("flickr_soundnet")
    assert done.rows("id", "audio_path", "split", "label") == [
        ("Data/4/2499673064.jpg", "Data/4/2499673064.wav", "test", None),
        ("Data/5/5.jpg", "Data/5/5.wav", "other", None),
    ]
    assert done.truth(0) == {
        "format": "avssl-boxes-1",
        "num_annotators": 3,
        "frames": [
            {
                "seconds": None,
                "boxes": [
                    {"box": [0.0, 0.25, 0.5, 1.0], "annotator": 0},
                    {"box": [0.125, 0.25, 0.75, 0.75], "annotator": 1},
                ],
            }
        ],
    }
    assert [(row["id"], row["split"], row["path"], row["reason"]) for row in done.missing] == [
        ("10016382545", "test", "10016382545.jpg", "not found"),
        ("6", "other", "6.wav", "only its image exists"),
        ("999", "test", "Annotations/999.xml", "not found"),
    ]
    assert ["test", "1", "2", "3", "250"] in [line.split() for line in done.out.splitlines()]


def test_flickr_list_of_later_papers(run, flickr, write):
    write("metadata/flickr_test.csv", "5,170\n2858344348,0\n")
    done = run("flickr_soundnet", "--test-list", "flickr_test.csv")
    assert done.rows("id", "split") == [("Data/4/2499673064.jpg", "other"), ("Data/5/5.jpg", "test")]


@pytest.mark.parametrize(
    "text",
    ["5,170\n", "5,child singing\n", "5.jpg\n", "/hdd/Annotations/dataset/5.mp4\n", "5\n", "5.0\n"],
)
def test_flickr_lists_of_all_forms(run, flickr, write, text):
    write("other.csv", text)
    assert run("flickr_soundnet", "--test-list", "other.csv").rows("official_id", "split") == [
        ("2499673064", "other"),
        ("5", "test"),
    ]
    done = run("flickr_soundnet", "--list", "test=other.csv")
    assert done.rows("official_id", "split", "truth") == [("5", "test", "truth/flickr_soundnet/5.json")]
    assert "list other.csv: 1 clips, 1 of them in the official files" in done.out


def test_flickr_training_lists_need_no_annotations(run, write, touch):
    write("flickr_144k.txt", "5692223126.wav\n8374823878.wav\n5144906287.wav\n")
    touch("frames/5692223126.jpg", "audio/5692223126.wav", "frames/5144906287.jpg")
    done = run("flickr_soundnet", "--list", "train=flickr_144k.txt")
    assert done.rows("id", "audio_path", "split", "truth" if "truth" in done.manifest else "split") == [
        ("frames/5692223126.jpg", "audio/5692223126.wav", "train", "train")
    ]
    assert [row["reason"] for row in done.missing] == ["not found", "only its image exists"]


def test_flickr_pairs_in_which_nothing_sounds(run, flickr, write):
    write("flickr_test_plus_silent.csv", "video,audio,label\n5,2499673064,non-sounding\n5,5,sounding\n")
    done = run("flickr_soundnet", "--list", "test=flickr_test_plus_silent.csv")
    assert done.rows("id", "path", "audio_path", "split") == [
        ("Data/5/5.jpg", "Data/5/5.jpg", "Data/5/5.wav", "test"),
        ("Data/5/5.jpg+2499673064", "Data/5/5.jpg", "Data/4/2499673064.wav", "test"),
    ]
    assert done.truth(1)["frames"] == [{"seconds": None, "boxes": []}]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("Annotations/5.xml", "<annotation><bbox>", "no element found"),
        ("Annotations/5.xml", "<annotation/>", "no element bbox"),
        ("Annotations/5.xml", BOXES.replace("<xmin>32", "<xmin>left"), "bbox 1 is not four numbers"),
        ("Annotations/5.xml", '<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "DOCTYPE"),
        ("Annotations/5.xml", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "DOCTYPE"),
        ("test_list.txt", "one.png\n", "'one' is not an id"),
    ],
)
def test_flickr_in_another_format(run, flickr, write, path, text, message):
    write(path, text)
    done = run("flickr_soundnet")
    assert done.status == 1
    assert path.rsplit("/", 1)[-1] in done.error
    assert message in done.error


def test_flickr_refuses_a_document_type_in_any_encoding(run, flickr, root):
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'
    (root / "Annotations/5.xml").write_bytes(text.encode("utf-16"))
    assert "DOCTYPE" in run("flickr_soundnet").error


def is3_entry(name="eagle_child_11129_child", **changes):
    base = "/mnt/authors/synthetic3241"
    return {
        "image": f"{base}/visual_frames/{name}.jpg",
        "audio": f"{base}/audio_wav/{name}.wav",
        "gt_box": [56.0, 0.0, 224.0, 112.0],
    } | changes


def test_is3_rows_boxes_and_masks(run, write, touch):
    names = ("eagle_child_11129_child", "eagle_child_11129_eagle", "male_trainWagon_train", "gone_child_1_child")
    write("metadata/synthetic3240_bbox.json", json.dumps([is3_entry(name) for name in names]))
    for name in names[:3]:
        touch(f"IS3/visual_frames/{name}.jpg", f"IS3/audio_wav/{name}.wav")
    touch("IS3/gt_masks/eagle_child_11129_child.jpg", "IS3/gt_masks/gone_child_1_child.jpg")
    done = run("is3")
    assert done.rows("id", "audio_path", "label", "pair", "split") == [
        (
            "IS3/visual_frames/eagle_child_11129_child.jpg",
            "IS3/audio_wav/eagle_child_11129_child.wav",
            "child",
            "eagle_child_11129",
            "test",
        ),
        (
            "IS3/visual_frames/eagle_child_11129_eagle.jpg",
            "IS3/audio_wav/eagle_child_11129_eagle.wav",
            "eagle",
            "eagle_child_11129",
            "test",
        ),
        (
            "IS3/visual_frames/male_trainWagon_train.jpg",
            "IS3/audio_wav/male_trainWagon_train.wav",
            "train",
            "male_trainWagon",
            "test",
        ),
    ]
    frame = {"seconds": None, "boxes": [{"box": [0.25, 0.0, 1.0, 0.5], "annotator": 0}]}
    assert done.truth(0)["frames"] == [{**frame, "mask": "IS3/gt_masks/eagle_child_11129_child.jpg"}]
    assert done.truth(1)["frames"] == [frame]
    assert [row["id"] for row in done.missing] == ["gone_child_1_child"]  # its mask is not its picture


def test_is3_names_may_hold_spaces(run, write, touch):
    names = [f"babylaughter_electric grinder grinding_{label}" for label in ("baby", "electricgrinder")]
    write("synthetic3240_bbox.json", json.dumps([is3_entry(name) for name in names]))
    touch(*(f"visual_frames/{name}.jpg" for name in names), *(f"audio_wav/{name}.wav" for name in names))
    done = run("is3")
    assert done.rows("label", "pair", "truth") == [
        (label, "babylaughter_electric grinder grinding", f"truth/is3/{name}.json")
        for label, name in zip(("baby", "electricgrinder"), names, strict=True)
    ]
    assert done.truth(0)["frames"][0]["boxes"] == [{"box": [0.25, 0.0, 1.0, 0.5], "annotator": 0}]
    assert "IS3: 2 of 2 listed clips found" in done.out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gt_box": [1, 2, 3]}, "gt_box is [1, 2, 3]"),
        ({"image": "child.jpg"}, "image is 'child.jpg', expected A_B_NUMBER_LABEL.jpg"),
        ({"audio": None}, "audio is None, expected a str"),
    ],
)
def test_is3_in_another_format(run, write, touch, changes, message):
    write("synthetic3240_bbox.json", json.dumps([is3_entry(**changes)]))
    touch("visual_frames/eagle_child_11129_child.jpg")
    done = run("is3")
    assert done.status == 1
    assert "entry 0: " in done.error
    assert message in done.error


S4 = """\
video_name,start,category,split
8Zo30kV5aiI_1,5,ambulance_siren,train
0IStDugr5uA_0,0,chainsawing_trees,test
noMasks,0,chainsawing_trees,val
framesOnly,0,helicopter,train
gone,0,helicopter,val
"""


@pytest.fixture
def s4(write, touch):
    write("Single-source/s4_meta_data.csv", S4)
    base = "Single-source/s4_data"
    touch(
        f"{base}/raw_videos/train/ambulance_siren/8Zo30kV5aiI_1.mp4",
        f"{base}/gt_masks/train/ambulance_siren/8Zo30kV5aiI_1/8Zo30kV5aiI_1_1.png",
        f"{base}/visual_frames/train/ambulance_siren/8Zo30kV5aiI_1/8Zo30kV5aiI_1_1.png",
        f"{base}/raw_videos/test/chainsawing_trees/0IStDugr5uA_0.mp4",
        *(f"{base}/gt_masks/test/chainsawing_trees/0IStDugr5uA_0/0IStDugr5uA_0_{i}.png" for i in range(1, 6)),
        f"{base}/raw_videos/val/chainsawing_trees/noMasks.mp4",
        *(f"{base}/gt_masks/val/chainsawing_trees/noMasks/noMasks_{i}.png" for i in range(1, 5)),
        f"{base}/visual_frames/train/helicopter/framesOnly/framesOnly_1.png",
        f"{base}/audio_wav/train/helicopter/framesOnly.wav",
        f"{base}/gt_masks/train/helicopter/framesOnly/framesOnly_1.png",
    )


def test_avsbench_s4_rows_and_masks(run, s4):
    base = "Single-source/s4_data"
    done = run("avsbench", out="s4.csv")
    assert done.rows("id", "audio_path", "label", "split", "truth") == [
        (
            f"{base}/raw_videos/train/ambulance_siren/8Zo30kV5aiI_1.mp4",
            None,
            "ambulance_siren",
            "train",
            "truth/s4/8Zo30kV5aiI_1.json",
        ),
        (
            f"{base}/raw_videos/test/chainsawing_trees/0IStDugr5uA_0.mp4",
            None,
            "chainsawing_trees",
            "test",
            "truth/s4/0IStDugr5uA_0.json",
        ),
        (
            f"{base}/visual_frames/train/helicopter/framesOnly/framesOnly_1.png",
            f"{base}/audio_wav/train/helicopter/framesOnly.wav",
            "helicopter",
            "train",
            "truth/s4/framesOnly.json",
        ),
    ]
    assert done.truth(0)["frames"] == [
        {
            "seconds": 0.9375,
            "boxes": [],
            "mask": f"{base}/gt_masks/train/ambulance_siren/8Zo30kV5aiI_1/8Zo30kV5aiI_1_1.png",
            "image": f"{base}/visual_frames/train/ambulance_siren/8Zo30kV5aiI_1/8Zo30kV5aiI_1_1.png",
        }
    ]
    assert [frame["seconds"] for frame in done.truth(1)["frames"]] == [0.9375, 1.9375, 2.9375, 3.9375, 4.9375]
    assert done.truth(1)["frames"][4]["mask"].endswith("0IStDugr5uA_0/0IStDugr5uA_0_5.png")
    assert [(row["id"], row["reason"]) for row in done.missing] == [
        ("val/chainsawing_trees/noMasks", "some of its masks are missing"),
        ("val/helicopter/gone", "not found"),
    ]
    assert done.missing[0]["path"] == f"{base}/gt_masks/val/chainsawing_trees/noMasks/noMasks_5.png"
    assert ["val", "0", "2", "2", "740"] in [line.split() for line in done.out.splitlines()]


def test_avsbench_ms3_rows(run, write, touch):
    write("ms3_meta_data.csv", "video_id,split\n6DR8dA9TDOc1,test\nESbnrrsznWc2,train\n")
    for name, split in (("6DR8dA9TDOc1", "test"), ("ESbnrrsznWc2", "train")):
        touch(f"ms3_data/raw_videos/{name}.mp4")
        touch(*(f"ms3_data/gt_masks/{split}/{name}/{name}_{i}.png" for i in range(1, 6)))
    touch("ms3_data/visual_frames/6DR8dA9TDOc1/6DR8dA9TDOc1.mp4_2.png")
    done = run("avsbench", "--subset", "ms3", out="ms3.csv")
    assert done.rows("id", "split", "label") == [
        ("ms3_data/raw_videos/6DR8dA9TDOc1.mp4", "test", None),
        ("ms3_data/raw_videos/ESbnrrsznWc2.mp4", "train", None),
    ]
    frames = done.truth(0)["frames"]
    assert [frame.get("image") for frame in frames[:2]] == [
        None,
        "ms3_data/visual_frames/6DR8dA9TDOc1/6DR8dA9TDOc1.mp4_2.png",
    ]
    assert len(done.truth(1)["frames"]) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (S4.replace(",train", ",training", 1), "s4_meta_data.csv:2: split is 'training'"),
        (S4.replace("category", "class"), "s4_meta_data.csv:1: no column 'category'"),
        (S4 + "../../../up,0,helicopter,val\n", None),  # a path that leaves the folder is just not there
    ],
)
def test_avsbench_in_another_format(run, s4, write, text, message):
    write("Single-source/s4_meta_data.csv", text)
    done = run("avsbench", out="s4.csv")
    assert done.status == (1 if message else 0)
    assert (message or "") in done.error
    if message is None:
        assert done.missing[-1]["id"] == "val/helicopter/../../../up"


def test_avsbench_in_the_usual_layout(run, write, touch):
    write("s4_meta_data.csv", "name,start,category,split\n0d9u2CymIxc,1,helicopter,test\n")
    name = "0d9u2CymIxc"
    touch(f"audio/{name}.wav", *(f"{kind}/{name}_{i}.jpg" for i in range(1, 6) for kind in ("frames", "my_masks")))
    done = run("avsbench", out="s4.csv")
    assert done.rows("path", "audio_path") == [(f"frames/{name}_1.jpg", f"audio/{name}.wav")]
    frame = done.truth(0)["frames"][4]
    assert (frame["mask"], frame["image"]) == (f"my_masks/{name}_5.jpg", f"frames/{name}_5.jpg")
    write("s4_box.json", json.dumps([boxed(f"x/{name}_2.png", f"y/{name}.wav", [0, 0, 112, 224])]))
    done = run("avsbench", "--truth", "boxes", out="s4_boxes.csv")
    assert done.rows("path", "audio_path") == [(f"frames/{name}_2.jpg", f"audio/{name}.wav")]


def boxed(image, audio, box):
    return {"image": f"/mnt/authors/{image}", "audio": f"/mnt/authors/{audio}", "gt_box": box}


def test_avsbench_boxes_are_one_row_for_each_image(run, write, touch):
    base, name = "AVSbench/Multi-sources/ms3_data", "rq5RDUm2Hnk_1"
    entries = [
        boxed(f"{base}/visual_frames/{name}/{name}.mp4_{i}.png", f"{base}/audio_wav/test/{name}.wav", box)
        for i, box in ((1, [0.0, 0.0, 0.0, 0.0]), (2, [56.0, 0.0, 112.0, 224.0]), (3, [1.0, 1.0, 2.0, 2.0]))
    ]
    write("metadata/ms3_box.json", json.dumps(entries))
    touch(*(f"ms3_data/{kind}/{name}/{name}.mp4_{i}.png" for i in (1, 2) for kind in ("visual_frames", "gt_masks")))
    touch(f"ms3_data/audio_wav/test/{name}.wav")
    done = run("avsbench", "--subset", "ms3", "--truth", "boxes", out="ms3_boxes.csv")
    assert done.rows("id", "audio_path", "split") == [
        (f"ms3_data/visual_frames/{name}/{name}.mp4_{i}.png", f"ms3_data/audio_wav/test/{name}.wav", "test")
        for i in (1, 2)
    ]
    assert [done.truth(row)["frames"][0]["boxes"] for row in (0, 1)] == [
        [],
        [{"box": [0.25, 0.0, 0.5, 1.0], "annotator": 0}],
    ]
    assert ["test", "2", "1", "3", "320"] in [line.split() for line in done.out.splitlines()]


V2 = """\
vid,uid,s_min,s_sec,a_obj,split,label
aaaaaaaaaaa,aaaaaaaaaaa_0_5000,0,0,ambulance,train,v1s
bbbbbbbbbbb,bbbbbbbbbbb_0_10000,0,0,dog_man,test,v2
ccccccccccc,ccccccccccc_0_10000,0,0,dog,val,v2
"""


def test_avsbench_semantic_rows(run, write, touch):
    write("metadata.csv", V2)
    one, two = "v1s/aaaaaaaaaaa_0_5000", "v2/bbbbbbbbbbb_0_10000"
    touch(f"{one}/audio.wav", f"{one}/labels_rgb/0.png", *(f"{one}/frames/{i}.jpg" for i in range(5)))
    touch(
        f"{two}/audio.wav", *(f"{two}/{kind}" for i in range(10) for kind in (f"frames/{i}.jpg", f"labels_rgb/{i}.png"))
    )
    done = run("avsbench", "--subset", "v2", out="v2.csv")
    assert done.rows("id", "audio_path", "label", "split", "subset") == [
        (f"{one}/frames/0.jpg", f"{one}/audio.wav", "ambulance", "train", "v1s"),
        (f"{two}/frames/0.jpg", f"{two}/audio.wav", "dog_man", "test", "v2"),
    ]
    frames = done.truth(1)["frames"]
    assert [frame["seconds"] for frame in frames] == [i + 0.5 for i in range(10)]
    assert (frames[9]["mask"], frames[9]["image"]) == (f"{two}/labels_rgb/9.png", f"{two}/frames/9.jpg")
    assert len(done.truth(0)["frames"]) == 1
    assert [row["path"] for row in done.missing] == ["v2/ccccccccccc_0_10000/frames/0.jpg"]
    assert ["test", "1", "0", "1", "1554"] in [line.split() for line in done.out.splitlines()]


def test_avsbench_says_where_its_lists_are(run, write):
    assert "https://drive.google.com/drive/folders/" in run("avsbench", out="s4.csv").error


def test_vpo_rows(run, write, touch):
    names = ("000000489267_157452", "000000489267_157453", "000000041772_159191")
    entries = [
        boxed(f"COCO_AV_MS/visual_frames/{n}.jpg", f"COCO_AV_MS/audio_wav/{n}.wav", [0, 0, 56, 224]) for n in names
    ]
    write("vpo_ms_bbox.json", json.dumps(entries))
    touch(*(path for name in names for path in (f"frames/{name}.jpg", f"audio/{name}.wav")))
    done = run("vpo", "--subset", "ms", out="vpo_ms.csv")
    assert done.rows("path", "audio_path", "pair") == [
        (f"frames/{name}.jpg", f"audio/{name}.wav", name[:12]) for name in names
    ]
    assert done.truth(0)["frames"] == [{"seconds": None, "boxes": [{"box": [0.0, 0.0, 0.25, 1.0], "annotator": 0}]}]
    assert ["test", "3", "0", "3", "2157"] in [line.split() for line in done.out.splitlines()]


@pytest.fixture
def music(write, touch):
    solo, duet = (
        {"acoustic_guitar": ["M2mTn_7CKSw"], "cello": ["-_-TDDxoaAc"]},
        {"flute violin": ["8DHG_hVSw1o", "gone_gone_1"]},
    )
    write("MUSIC_solo_videos.json", json.dumps({"version": 1.0, "videos": solo}))
    write("MUSIC_duet_videos.json", json.dumps({"version": 1.0, "videos": duet}))
    touch("solo/M2mTn_7CKSw.mp4", "solo/cello/-_-TDDxoaAc.webm", "duet/8DHG_hVSw1o.mp4")


def test_music_rows(run, music):
    done = run("music")
    assert done.rows("id", "label", "subset", "split", "truth") == [
        ("solo/M2mTn_7CKSw.mp4", "acoustic_guitar", "solo", None, None),
        ("solo/cello/-_-TDDxoaAc.webm", "cello", "solo", None, None),
        ("duet/8DHG_hVSw1o.mp4", "flute|violin", "duet", None, None),
    ]
    assert [row["label"] for row in done.missing] == ["flute|violin"]
    assert ["(all)", "3", "1", "4", "685"] in [line.split() for line in done.out.splitlines()]
    assert run("music", "--subset", "duet").rows("id") == [("duet/8DHG_hVSw1o.mp4",)]


def test_music_boxes_have_left_top_width_and_height(run, music, write, root):
    solo = [
        {"file": "-_-TDDxoaAc_001_00037", "class": "cello", "bbox": [0.5, 0.25, 0.25, 0.5]},
        {"file": "-_-TDDxoaAc_000_00000", "class": "cello", "bbox": [0.5, 0.25, 0.75, 0.5]},
        {"file": "not_in_list_000_00000", "class": "cello", "bbox": [0, 0, 1, 1]},
    ]
    duet = [
        {
            "file": "8DHG_hVSw1o_002_00060",
            "class_src1": "flute",
            "bbox_src1": [0.5, 0.5, 0.25, 0.25],
            "class_src2": "violin",
            "bbox_src2": [0.0, 0.5, 0.25, 0.5],
        }
    ]
    write("boxes/music_solo.json", json.dumps(solo))
    write("boxes/music_duet.json", json.dumps(duet))
    done = run("music", "--boxes", str(root / "boxes"))
    assert done.rows("split", "truth") == [
        ("train", None),
        ("test", "truth/music/-_-TDDxoaAc.json"),
        ("test", "truth/music/8DHG_hVSw1o.json"),
    ]
    assert done.truth(1)["frames"] == [
        {"seconds": 0.0, "boxes": [{"box": [0.5, 0.25, 1.0, 0.75], "annotator": 0, "label": "cello"}]},
        {"seconds": 37 / 30, "boxes": [{"box": [0.5, 0.25, 0.75, 0.75], "annotator": 0, "label": "cello"}]},
    ]
    assert done.truth(2)["frames"] == [
        {
            "seconds": 2.0,
            "boxes": [
                {"box": [0.5, 0.5, 0.75, 0.75], "annotator": 0, "label": "flute"},
                {"box": [0.0, 0.5, 0.25, 1.0], "annotator": 0, "label": "violin"},
            ],
        }
    ]
    assert "1 videos have boxes and are in none of these lists" in done.out


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("MUSIC_solo_videos.json", '{"videos": {"cello": "-_-TDDxoaAc"}}', "the videos of 'cello' are not a list"),
        ("MUSIC_solo_videos.json", '{"version": 1.0}', "no object 'videos'"),
        ("MUSIC_solo_videos.json", "[]", "a dict with entries is expected, got list"),
        ("MUSIC_solo_videos.json", "<html>", "not JSON"),
        ("boxes/music_solo.json", '[{"file": "x", "class": "cello", "bbox": [0, 0, 1, 1]}]', "entry 0: file is 'x'"),
        (
            "boxes/music_solo.json",
            '[{"file": "-_-TDDxoaAc_000_00000", "class": "cello", "bbox": [0]}]',
            "entry 0: bbox is [0]",
        ),
    ],
)
def test_music_in_another_format(run, music, write, root, path, text, message):
    write(path, text)
    done = run("music", *(["--boxes", str(root / "boxes")] if path.startswith("boxes") else []))
    assert done.status == 1
    assert path.rsplit("/", 1)[-1] in done.error
    assert message in done.error


def test_music_without_its_box_files_is_an_error(run, music, root):
    done = run("music", "--boxes", str(root / "nowhere"))
    assert done.status == 1
    assert "no music_solo.json or music_duet.json" in done.error


@pytest.fixture
def music_duet(write, touch):
    entry = {"class_src1": "cello", "bbox_src1": [0.1, 0.3, 0.2, 0.5], "class_src2": "flute", "bbox_src2": [0, 0, 1, 1]}
    write("metadata/music_duet.json", json.dumps([{"file": "HnUOaSfTA6c_000_00000", **entry}]))
    write(
        "metadata/music_duet_train.txt",
        "K_U5-GbPgi0_098_02961,cello,acoustic_guitar\nK_U5-GbPgi1_098_02961,cello,cello\n",
    )
    write("metadata/music_duet_test.csv", "HnUOaSfTA6c_000_00000\n")
    touch("frames/K_U5-GbPgi0_098_02961.jpg", "frames/K_U5-GbPgi1_098_02961.jpg", "frames/HnUOaSfTA6c_000_00000.jpg")
    touch("audio/K_U5-GbPgi0.wav", "audio/HnUOaSfTA6c.wav")


def test_music_duet_rows(run, music_duet):
    done = run("music_duet", out="music_duet.csv")
    assert done.rows("path", "audio_path", "label", "split", "truth") == [
        ("frames/K_U5-GbPgi0_098_02961.jpg", "audio/K_U5-GbPgi0.wav", "cello|acoustic_guitar", "train", None),
        (
            *("frames/HnUOaSfTA6c_000_00000.jpg", "audio/HnUOaSfTA6c.wav", "cello|flute", "test"),
            "truth/music_duet/HnUOaSfTA6c_000_00000.json",
        ),
    ]
    (frame,) = done.truth(1)["frames"]
    assert frame["seconds"] is None
    assert [(box["label"], [round(x, 6) for x in box["box"]]) for box in frame["boxes"]] == [
        ("cello", [0.1, 0.3, 0.3, 0.8]),
        ("flute", [0, 0, 1, 1]),
    ]
    assert [(row["id"], row["reason"]) for row in done.missing] == [("K_U5-GbPgi1_098_02961", "only its image exists")]


def test_music_solo_frames(run, write, touch):
    write("music_solo.json", json.dumps([{"file": "1Ju4S0qeDqw_001_00037", "class": "cello", "bbox": [0, 0, 1, 0.5]}]))
    write("music_solo_train.txt", "E7E1kMExVcg_053_01611,flute\n")
    write("music_solo_test.csv", "1Ju4S0qeDqw_001_00037,cello\n")
    touch("frames/1Ju4S0qeDqw_001_00037.jpg", "audio/1Ju4S0qeDqw.wav")
    assert run("music_duet", "--subset", "solo", out="music_solo.csv").rows("label", "split") == [("cello", "test")]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("music_duet_train.txt", "K_U5-GbPgi0,cello,flute\n", "'K_U5-GbPgi0' is no name of a frame such as"),
        (
            "music_duet_test.csv",
            "HnUOaSfTA6c_000_00007\n",
            "HnUOaSfTA6c_000_00007 is in the list, but not in music_duet",
        ),
        ("music_duet.json", '[{"file": "HnUOaSfTA6c_000_00000"}]', "entry 0: class_src1 is None"),
    ],
)
def test_music_duet_in_another_format(run, music_duet, write, path, text, message):
    write(f"metadata/{path}", text)
    done = run("music_duet")
    assert done.status == 1
    assert message in done.error
