from dataclasses import replace

import numpy as np
import pytest

from avssl.synthetic import ACTIONS, KINDS, SceneSettings, draw_scene, render_audio, render_frames
from avssl.synthetic.frames import boxes
from avssl.synthetic.shapes.timbres import TIMBRES

ONE = SceneSettings(object_weights=(1.0,), duration_seconds=2.0)


def scenes_with(action: str, count: int, settings: SceneSettings = ONE):
    found = (draw_scene(settings, 0, "test", i) for i in range(2000))
    wanted = [scene for scene in found if scene.objects[0].action == action]
    assert len(wanted) >= count
    return wanted[:count]


def test_there_are_twelve_kinds_and_eight_actions():
    assert len(set(KINDS)) >= 12
    assert len(set(ACTIONS)) >= 8
    assert set(TIMBRES) == set(KINDS)
    assert len(set(TIMBRES.values())) == len(KINDS)


def test_a_scene_depends_on_seed_split_and_index_only():
    settings = SceneSettings(duration_seconds=1.0)
    first, again = draw_scene(settings, 3, "train", 7), draw_scene(settings, 3, "train", 7)
    np.testing.assert_array_equal(render_frames(first)[0], render_frames(again)[0])
    np.testing.assert_array_equal(render_audio(first), render_audio(again))
    for other in (
        draw_scene(settings, 4, "train", 7),
        draw_scene(settings, 3, "test", 7),
        draw_scene(settings, 3, "train", 8),
    ):
        assert not np.array_equal(render_frames(first)[0], render_frames(other)[0])


def test_every_kind_action_and_count_is_drawn():
    scenes = [draw_scene(SceneSettings(), 0, "train", i) for i in range(300)]
    assert {o.kind for s in scenes for o in s.objects} == set(KINDS)
    assert {o.action for s in scenes for o in s.objects} == set(ACTIONS)
    assert {len(s.objects) for s in scenes} == {1, 2, 3, 4}
    assert all(len(s.sounding) == 1 for s in scenes)
    assert all(len({o.kind for o in s.objects}) == len(s.objects) for s in scenes), "two of a kind cannot be told apart"


def test_color_does_not_tell_the_kind():
    scenes = [draw_scene(ONE, 0, "train", i) for i in range(600)]
    by_kind = [
        np.mean([s.objects[0].colors[:2].mean(0) for s in scenes if s.objects[0].kind == k], axis=0) for k in KINDS
    ]
    assert np.ptp(by_kind, axis=0).max() < 0.15


@pytest.mark.parametrize("action", ["bounce", "hop"])
def test_an_impact_sounds_within_a_millisecond_of_its_event(action):
    for scene in scenes_with(action, 5):
        rate = scene.settings.sample_rate_hz
        wave, (times, _) = np.abs(render_audio(scene)), scene.objects[0].motion.events(2.0)
        onset = np.flatnonzero(wave > 0.02 * wave.max())[0] / rate
        assert abs(onset - times[0]) < 1e-3
        assert wave[: int(times[0] * rate)].max(initial=0) == 0, "nothing sounds before the first event"


@pytest.mark.parametrize("fps", [16.0, 25.0, 29.97])
def test_a_contact_is_seen_in_the_frame_in_which_it_is_heard(fps):
    settings = replace(ONE, video_fps=fps, clutter=0)
    for scene in scenes_with("bounce", 3, settings):
        bottom = boxes(render_frames(scene)[1])[:, 0, 3].astype(int)
        times, _ = scene.objects[0].motion.events(2.0)
        for time in times[(times > 0.2) & (times < 1.8)]:
            frame = int(time * fps)
            assert bottom[frame] == bottom[frame - 2 : frame + 3].max()
            assert bottom[frame] > bottom[frame - 2]
            assert bottom[frame] > bottom[frame + 2]


@pytest.mark.parametrize("action", ACTIONS)
def test_objects_move(action):
    for scene in scenes_with(action, 2):
        item = scene.objects[0]
        time = np.arange(0, 2, 1 / 16)
        pose = item.motion.pose(time)
        spread = max(np.ptp(pose.dx), np.ptp(pose.dy), np.ptp(pose.angle), np.ptp(pose.scale))
        assert spread > 0.3
        jump = np.abs(np.diff(item.motion.pose(np.linspace(0, 2, 20001)).dx)).max()
        assert jump < 0.01, "motion is continuous"
        assert len(item.motion.events(2.0)[0]) >= 1


def test_silent_objects_move_too():
    scene = next(s for s in (draw_scene(SceneSettings(object_weights=(0, 1)), 0, "a", i) for i in range(50)))
    _, masks = render_frames(scene)
    silent = 1 - scene.sounding[0]
    assert (masks[:-1, silent] != masks[1:, silent]).any()


def test_masks_cover_what_is_drawn_and_never_overlap():
    scene = draw_scene(SceneSettings(object_weights=(0, 0, 0, 1)), 1, "train", 2)
    frames, masks = render_frames(scene)
    empty, _ = render_frames(replace(scene, objects=(), sounding=(), heard=()))
    assert masks.sum(axis=1).max() == 1
    changed = (frames.astype(int) - empty).__abs__().max(axis=-1) > 0
    covered = masks.any(axis=1)
    assert (covered & ~changed).sum() < 0.02 * covered.sum()
    assert (changed & ~covered).sum() < 0.25 * covered.sum(), "only the soft edge is drawn outside the masks"


def test_boxes_are_tight_and_half_open():
    masks = np.zeros((1, 2, 10, 12), dtype=bool)
    masks[0, 0, 2:5, 3:9] = True
    np.testing.assert_array_equal(boxes(masks)[0], [[3, 2, 9, 5], [-1, -1, -1, -1]])


def test_interactive_pairs_share_the_picture_and_differ_in_the_source():
    settings = SceneSettings(object_weights=(0, 1, 1), interactive_pairs=True, duration_seconds=1.0)
    for k in range(5):
        one, two = (draw_scene(settings, 0, "pairs", 2 * k + i) for i in (0, 1))
        np.testing.assert_array_equal(render_frames(one)[0], render_frames(two)[0])
        assert one.sounding != two.sounding
        assert not np.array_equal(render_audio(one), render_audio(two))


@pytest.mark.parametrize("nuisance", ["off_screen", "mismatched", "silent", "near_duplicate"])
def test_nuisances(nuisance):
    settings = replace(SceneSettings(duration_seconds=1.0), **{f"{nuisance}_fraction": 1.0})
    for index in range(1, 6):
        scene = draw_scene(settings, 0, "train", index)
        clean = draw_scene(replace(settings, **{f"{nuisance}_fraction": 0.0}), 0, "train", index)
        assert scene.nuisance == nuisance
        sound, frames = render_audio(scene), render_frames(scene)[0]
        if nuisance == "near_duplicate":
            earlier = [
                render_frames(draw_scene(SceneSettings(duration_seconds=1.0), 0, "train", j))[0] for j in range(index)
            ]
            distance = [np.abs(frames.astype(int) - e).mean() for e in earlier]
            assert min(distance) < 20
            continue
        np.testing.assert_array_equal(frames, render_frames(clean)[0])
        assert scene.sounding == ()
        assert (np.abs(sound).max() == 0) == (nuisance == "silent")
        assert not np.array_equal(sound, render_audio(clean))
        if nuisance == "off_screen":
            assert not {o.kind for o in scene.heard} & {o.kind for o in scene.objects}


def test_noise_is_added_at_the_snr_asked_for():
    settings = replace(ONE, snr_db=6.0)
    for index in range(3):
        clean = render_audio(draw_scene(ONE, 0, "a", index)).astype(float)
        noisy = render_audio(draw_scene(settings, 0, "a", index)).astype(float)
        gain = clean @ noisy / (clean @ clean)
        snr = 10 * np.log10(np.sum((gain * clean) ** 2) / np.sum((noisy - gain * clean) ** 2))
        assert snr == pytest.approx(6.0, abs=0.3)


def test_two_may_sound():
    scene = draw_scene(SceneSettings(object_weights=(0, 0, 1), num_sounding=2), 0, "a", 0)
    assert len(scene.sounding) == len(scene.heard) == 2


def test_the_camera_shakes():
    still = replace(ONE, duration_seconds=1.0)
    shaking = replace(still, camera_shake_pixels=4.0)
    corner = [render_frames(draw_scene(s, 0, "a", 0))[0][:, :8, :8].astype(int) for s in (still, shaking)]
    assert np.abs(np.diff(corner[0], axis=0)).max() == 0
    assert np.abs(np.diff(corner[1], axis=0)).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 63}, "must be even"),
        ({"object_weights": (0.0,)}, "object_weights"),
        ({"num_sounding": 0}, r"num_sounding \(0\) must be >= 1"),
        ({"silent_fraction": 1.5}, r"silent_fraction \(1.5\)"),
        ({"interactive_pairs": True}, "at least two objects"),
        ({"video_fps": 0.0}, r"video_fps \(0.0\) must be >= 0.001"),
    ],
)
def test_settings_refuse(change, message):
    with pytest.raises(ValueError, match=message):
        SceneSettings(**change)


def test_changes_of_tempo_leave_one_offset_at_which_audio_fits():
    settings = replace(ONE, duration_seconds=6.0, tempo_spread=2.0)
    for scene in scenes_with("bounce", 3, settings):
        times, _ = scene.objects[0].motion.events(6.0)
        gaps = np.diff(times)
        assert gaps.max() > 1.3 * gaps.min()  # a steady bounce has equal gaps
        assert 0.2 < gaps.min() < gaps.max() < 1.6
        # Sound and motion follow the same clock: at an event the height is that of a contact.
        np.testing.assert_allclose(scene.objects[0].motion.pose(times).dy, 0.9, atol=1e-6)
        wave, rate = np.abs(render_audio(scene)), settings.sample_rate_hz
        start = round(times[1] * rate)
        assert wave[start : start + 48].max() > 5 * wave[start - 48 : start - 2].max()
        # A shift by the mean period matches the events worse than no shift.
        shifted = np.abs((times + gaps.mean())[:, None] - times).min(axis=1)[:-1]
        assert shifted.max() > 0.1
    steady = scenes_with("bounce", 1)[0].objects[0].motion
    assert np.ptp(np.diff(steady.events(6.0)[0])) < 1e-9


PINNED = {
    0: (["square", "capsule"], ["spin", "shake"], ["square"], [33.62688, 123.34741, 10.081874, 0.04544258, 0.11418846]),
    1: (
        ["ring", "hexagon", "triangle"],
        ["shake", "spin", "pulse"],
        ["star"],
        [83.266117, 145.92827, 14.631373, 0.06307729, 0.05124604],
    ),
}
"""Index → kinds, actions, heard kinds, x of the first object, and statistics of the frames, the masks and the audio."""


@pytest.mark.parametrize("index", PINNED)
def test_the_same_seed_makes_the_clips_of_earlier_versions(index):
    """Corpora are named by their command, so a clip of a seed must not change."""
    settings = SceneSettings(duration_seconds=1.0, object_weights=(0, 1, 1), off_screen_fraction=0.3, snr_db=20.0)
    scene = draw_scene(settings, 3, "train", index)
    (frames, masks), wave = render_frames(scene), render_audio(scene).astype(float)
    kinds, actions, heard, numbers = PINNED[index]
    assert [o.kind for o in scene.objects] == kinds
    assert [o.action for o in scene.objects] == actions
    assert [o.kind for o in scene.heard] == heard
    change = np.abs(np.diff(frames.astype(int), axis=0)).mean()
    found = [scene.objects[0].home_xy[0], frames.mean(), change, masks.mean(), np.sqrt(np.mean(wave**2))]
    assert found == pytest.approx(numbers, rel=1e-4)
