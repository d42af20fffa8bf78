import pytest

from avssl.data.official.clip_names import clip_key, segment_key, video_of


@pytest.mark.parametrize(
    "name",
    [
        "gklbB7TYoK4_000030",
        "gklbB7TYoK4_30",
        "gklbB7TYoK4_30.000",
        "gklbB7TYoK4_000030_000040",
        "gklbB7TYoK4_30000_40000",
        "YgklbB7TYoK4_30.mp4",
        "/mnt/data/audio/gklbB7TYoK4_000030.wav",
        "frames/gklbB7TYoK4_30.jpg ",
    ],
)
def test_a_segment_has_one_key_in_all_forms(name):
    assert clip_key(name) == "gklbB7TYoK4@30" == segment_key("gklbB7TYoK4", 30.7)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gklbB7TYoK4.mp4", "gklbB7TYoK4@"),
        ("1F3_bvIT0ig_0_10000", "1F3_bvIT0ig@0"),
        ("10000130166.jpg", "10000130166"),  # eleven digits are no YouTube id
        ("10000130166.0", "10000130166"),
        ("5692223126.wav", "5692223126"),
        ("1-100032-A-0.wav", "1-100032-A-0"),
        ("babylaughter_electric grinder grinding_baby.jpg", "babylaughter_electric grinder grinding_baby"),
    ],
)
def test_other_names_stay_themselves(name, key):
    assert clip_key(name) == key
    assert video_of(key) == (key[:11] if "@" in key else None)
