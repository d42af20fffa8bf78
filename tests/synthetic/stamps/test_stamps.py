"""StampScenes on tiny packages made by the tests, and once on the real ones where they are installed."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avssl.cli import main
from avssl.core.errors import InputError
from avssl.core.manifest import read_manifest
from avssl.synthetic import SceneSettings, draw_scene, read_truth, render_audio, render_frames
from avssl.synthetic.stamps import StampSettings, StampWorld, load_library
from avssl.synthetic.stamps.kinds import kind_of
from avssl.synthetic.stamps.packages import DEBIAN_FOLDERS
from avssl.synthetic.stamps.qt_resources import read_resources

SMALL = SceneSettings(width=64, height=64, duration_seconds=1.5, sample_rate_hz=8000)


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("hen", "chicken"),
        ("chickens", "chicken"),
        ("hammer5", "hammer"),
        ("rabbit-2", "rabbit"),
        ("screwDriver2", "screwdriver"),
        ("camera_35mm", "camera"),
        ("fireman240a", "fireman"),
        ("LRBark_1_LA_cut", "dog"),
        ("sea_lion", "sea lion"),
        ("1", ""),
    ],
)
def test_one_class_has_one_name(stem, kind):
    assert kind_of(stem) == kind


def test_what_cannot_be_used_is_counted(world, caplog):
    library = world.library
    assert library.sounding_kinds == ("cow", "dog", "owl")
    assert sorted(p.name.rpartition("/")[2] for p in library.photographs if p.kind == "cow") == [
        "cow.png",
        "cow.png",
        "cow_white.png",
    ]
    assert library.left_out == {
        "spoken description": 3,
        "mirrored copy": 1,
        "SVG stamp": 1,
        "drawing, or a sound of one": 2,
        "copy": 1,
        "unreadable": 1,
        "image too small": 1,
        "photograph without alpha before an uneven ground": 1,
        "silent recording": 1,
        "sound without a photograph": 1,
    }
    assert [place.name.split("#")[0].split("/")[0] for place in library.backdrops] == ["gcompris"] * 5


def test_a_photograph_before_an_even_ground_is_cut_out(world):
    cut = next(p for p in world.library.photographs if p.name == "gcompris/explore_farm_animals/animals/owl.png")
    height, width = cut.rgba.shape[:2]
    assert abs(height - 0.8 * 64) <= 3
    assert abs(width - 0.8 * 64) <= 3
    alpha = cut.rgba[..., 3]
    assert alpha[0, 0] == alpha[-1, -1] == 0
    assert alpha[height // 2, width // 2] == 255
    assert (alpha >= 128).mean() == pytest.approx(np.pi / 4, abs=0.06)


def test_recordings_begin_with_their_sound_and_are_equally_loud(world):
    for recording in world.library.recordings:
        assert len(recording.waveform) == pytest.approx(0.4 * 8000, abs=40)
        assert np.abs(recording.waveform[:40]).max() > 0.1
        assert np.sqrt(np.mean(recording.waveform**2)) == pytest.approx(0.15, rel=0.01)
        assert len(recording.at(16000)) == 2 * len(recording.waveform)


def test_unseen_splits_share_nothing_with_the_training(world):
    assert world.test_splits == ("test", "unseen_photographs", "unseen_recordings", "unseen")
    names = {}
    for split in ("train", *world.test_splits):
        scenes = [draw_scene(SMALL, 0, split, i, world) for i in range(60)]
        sources = [scene.objects[scene.sounding[0]] for scene in scenes]
        names[split] = {o.photograph.name for o in sources}, {o.recording.name for o in sources}
        assert all(len({o.kind for o in s.objects}) == len(s.objects) for s in scenes)
        rows = [world.columns(scene) for scene in scenes]
        seen_photographs = "no" if split in ("unseen_photographs", "unseen") else "yes"
        seen_recordings = "no" if split in ("unseen_recordings", "unseen") else "yes"
        assert {row["seen_photograph"] for row in rows} == {seen_photographs}
        assert {row["seen_recording"] for row in rows} == {seen_recordings}
    assert names["test"] == names["train"]
    for split in ("unseen_photographs", "unseen"):
        shown = {o.photograph.name for i in range(60) for o in draw_scene(SMALL, 0, split, i, world).objects}
        trained = {o.photograph.name for i in range(60) for o in draw_scene(SMALL, 0, "train", i, world).objects}
        assert not shown & trained, "nor are silent objects shared"
    for split in ("unseen_recordings", "unseen"):
        assert not names[split][1] & names["train"][1]


def test_masks_cover_what_is_drawn(world):
    settings = replace(SMALL, object_weights=(0, 0, 1))
    for index in range(4):
        scene = draw_scene(settings, 1, "train", index, world)
        frames, masks = render_frames(scene)
        empty, _ = render_frames(replace(scene, objects=(), sounding=(), heard=()))
        changed = (frames.astype(int) - empty).__abs__().max(axis=-1) > 2
        covered = masks.any(axis=1)
        assert masks.sum(axis=1).max() == 1
        assert (covered & ~changed).sum() < 0.1 * covered.sum()
        assert (changed & ~covered).sum() < 0.2 * covered.sum(), "only the soft edge is outside the masks"
        assert (np.diff(masks, axis=0)).any(), "objects move"


def test_a_call_is_heard_at_its_time(world):
    dry = StampWorld(world.library, StampSettings(room_seconds=(0.0, 0.0), noise_snr_db=(200.0, 200.0)))
    for index in range(5):
        scene = draw_scene(SMALL, 2, "train", index, dry)
        wave, (times, strengths) = np.abs(render_audio(scene)), scene.objects[scene.sounding[0]].events(1.5)
        assert len(times)
        assert (strengths == 1).all()
        onset = np.flatnonzero(wave > 0.02 * wave.max())[0] / 8000
        assert abs(onset - times[0]) < 2e-3


def test_rooms_reverberate_and_hum(world):
    scene = draw_scene(SMALL, 2, "train", 0, world)
    dry = replace(scene, world=StampWorld(world.library, StampSettings((0.5), (0.0, 0.0), (200.0, 200.0))))
    wet = replace(scene, world=StampWorld(world.library, StampSettings((0.5), (0.4, 0.4), (200.0, 200.0))))
    noisy = replace(scene, world=StampWorld(world.library, StampSettings((0.5), (0.0, 0.0), (6.0, 6.0))))
    clean, heard, loud = (render_audio(item).astype(float) for item in (dry, wet, noisy))
    quiet = np.abs(clean) < 1e-6
    assert np.abs(heard[quiet]).max() > 1e-3
    assert 10 * np.log10(np.sum(clean**2) / np.sum((loud - clean) ** 2)) == pytest.approx(6.0, abs=0.2)


def test_pairs_share_their_frames_and_other_nuisances_work(world):
    pairs = replace(SMALL, object_weights=(0, 1, 1), interactive_pairs=True)
    one, two = (draw_scene(pairs, 0, "train", 4 + i, world) for i in (0, 1))
    np.testing.assert_array_equal(render_frames(one)[0], render_frames(two)[0])
    assert one.sounding != two.sounding
    assert not np.array_equal(render_audio(one), render_audio(two))
    silent = draw_scene(replace(SMALL, silent_fraction=1.0), 0, "train", 0, world)
    assert np.abs(render_audio(silent)).max() == 0
    away = draw_scene(replace(SMALL, object_weights=(1,), off_screen_fraction=1.0), 0, "train", 0, world)
    assert away.sounding == ()
    assert away.heard[0].kind not in {o.kind for o in away.objects}
    assert np.abs(render_audio(away)).max() > 0
    assert world.columns(away)["photograph"] is None


def test_a_corpus_from_the_command_line(stamp_folders, tmp_path, capsys):
    out = tmp_path / "scenes"
    words = ["synthesize", str(out), "--world", "stamps", "--stamps", *map(str, stamp_folders)]
    words += ["--num-clips", "3", "--num-test-clips", "1", "--width", "64", "--height", "64", "--duration-seconds", "1"]
    assert main([*words, "--num-workers", "2"]) == 0
    printed = capsys.readouterr().out
    assert "6 photographs and 5 recordings of 3 classes" in printed
    manifest = read_manifest(out / "manifest.csv")
    assert manifest["split"].tolist() == ["train"] * 3 + ["test", "unseen_photographs", "unseen_recordings", "unseen"]
    assert set(manifest["label"]) <= {"cow", "dog", "owl"}
    assert manifest["seen_photograph"].tolist()[3:] == ["yes", "no", "yes", "no"]
    for row in range(len(manifest)):
        truth = read_truth(manifest.truth_file(row))
        assert truth.kinds[int(np.flatnonzero(truth.sounding)[0])] == manifest["label"][row]
        assert len(truth.sounding_events())
    first = [manifest.file(row).read_bytes() for row in range(len(manifest))]
    assert main([*words, "--num-workers", "0"]) == 0
    assert "complete already" in capsys.readouterr().out
    assert main([*words, "--num-workers", "0", "--overwrite"]) == 0
    assert [manifest.file(row).read_bytes() for row in range(len(manifest))] == first
    assert main([*words, "--seed", "1"]) == 1
    assert "holds a corpus with seed 0, but 1 is requested" in capsys.readouterr().err


def test_missing_packages_say_how_to_get_them(tmp_path, capsys, monkeypatch):
    advice = r"apt-get install tuxpaint-stamps-default gcompris-qt-data.*--stamps"
    with pytest.raises(InputError, match=rf"nowhere: no such folder of stamps\. .*{advice}"):
        load_library([tmp_path / "nowhere"], progress=False)
    with pytest.raises(InputError, match=rf"needs two classes .* there are 0 .*{advice}"):
        load_library([tmp_path], progress=False)
    monkeypatch.setattr("avssl.synthetic.stamps.library.DEBIAN_FOLDERS", (str(tmp_path / "none"),))
    with pytest.raises(InputError, match=rf"there are no stamps in .*none.*{advice}"):
        load_library(progress=False)
    assert main(["synthesize", str(tmp_path / "x"), "--world", "stamps", "--stamps", str(tmp_path / "gone")]) == 1
    assert "no such folder of stamps" in capsys.readouterr().err
    assert main(["synthesize", str(tmp_path / "x"), "--stamps", str(tmp_path)]) == 1
    assert "need --world stamps" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"qrex" + bytes(40), "cut", "far"])
def test_a_damaged_resource_file_is_named(stamp_folders, tmp_path, damage):
    whole = (stamp_folders[1] / "rcc" / "all.rcc").read_bytes()
    data = {"cut": whole[: len(whole) // 2], "far": whole[:8] + b"\xff" * 12 + whole[20:]}.get(damage, damage)
    (tmp_path / "x.rcc").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.rcc: not a Qt resource file, or damaged"):
        list(read_resources(tmp_path / "x.rcc", lambda name: True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tempo_spread": 2.0}, "tempo_spread .* is a setting of SoundingShapes"),
        ({"clutter": 3}, "clutter .* is a setting of SoundingShapes"),
        ({"num_sounding": 9}, "3 classes can sound in it, but a scene needs 9"),
    ],
)
def test_settings_that_do_not_fit_raise(world, change, message):
    with pytest.raises(InputError, match=message):
        draw_scene(replace(SMALL, **change), 0, "train", 0, world)


def test_odd_names_and_ranges_raise(world):
    with pytest.raises(InputError, match="'unseen_x' must be one of unseen_photographs"):
        draw_scene(SMALL, 0, "unseen_x", 0, world)
    with pytest.raises(InputError, match="the lower number first"):
        StampSettings(room_seconds=(0.5, 0.1))


REAL = [Path(name) for name in os.environ.get("AVSSL_STAMPS", ":".join(DEBIAN_FOLDERS)).split(":")]


@pytest.mark.skipif(
    not all(folder.is_dir() for folder in REAL),
    reason="tuxpaint-stamps-default and gcompris-qt-data are not installed, nor named by AVSSL_STAMPS=FOLDER:FOLDER",
)
def test_the_real_packages_make_many_classes():
    world = StampWorld.load(REAL, progress=False)
    assert len(world.library.sounding_kinds) >= 60
    assert len(world.library.backdrops) >= 80
    assert world.test_splits == ("test", "unseen_photographs", "unseen_recordings", "unseen")
    assert len(world.pools.of("unseen").kinds) >= 8
    scene = draw_scene(SMALL, 0, "unseen", 0, world)
    frames, masks = render_frames(scene)
    assert frames.std() > 10
    assert masks.any()
    assert np.abs(render_audio(scene)).max() > 0.01
