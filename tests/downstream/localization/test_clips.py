"""What is seen and heard at an instant, to the frame and to the sample."""

from __future__ import annotations

import pytest
import torch

from avssl.core.manifest import Manifest
from avssl.data.official.box_truth import TruthBox, TruthFrame, write_boxes
from avssl.data.sampling import ClipSampling
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.rows import find_instants
from avssl.media import MediaError, open_media, read_image

SAMPLING = ClipSampling(num_frames=4, frames_per_second=8.0, audio_seconds=0.5, sample_rate_hz=8000)


def instants_of(root, seconds, sampling=SAMPLING, image=None, **columns):
    """The instants of one row with a box at each time, and their reader."""
    frames = [TruthFrame(at, [TruthBox((0, 0, 1, 1))], image=image) for at in seconds]
    row = {"id": "v", "path": "v.mp4", "truth": write_boxes(root, "x", "v", frames), **columns}
    manifest = Manifest.from_columns({name: [value] for name, value in row.items()}, root)
    return find_instants(manifest, sampling.video_seconds)[0], InstantClips(manifest, sampling)


def brightness(frames):
    return frames.float().mean(dim=(-3, -2, -1)).div(10).round().tolist()  # frame k is 10 k bright


def test_windows_lie_around_the_instant(tmp_path, clip_maker):
    clip_maker(tmp_path / "v.mp4")
    instants, clips = instants_of(tmp_path, [0.1, 1.0, 1.95])
    found = [clips.frames(instant) for instant in instants]
    assert [brightness(frames) for frames, _ in found] == [[0, 1, 2, 3], [6, 7, 8, 9], [12, 13, 14, 15]]
    assert [place for _, place in found] == pytest.approx([0.8, 2.0, 3.6])
    assert [brightness(clips.picture(instant)) for instant in instants] == [0, 8, 15]
    with open_media(tmp_path / "v.mp4") as reader:
        start, stop = reader.info.audio_start_seconds, reader.info.audio_stop_seconds
        # Near an end of the track windows shift to lie inside it.
        begins = [start, 0.75, min(1.95 - 0.25, stop - 0.5)]
        expected = [reader.read_audio(begin, begin + 0.5, 8000)[0] for begin in begins]
    for instant, sound in zip(instants, expected, strict=True):
        assert torch.allclose(clips.sound(instant), sound, atol=1e-6)


def test_seconds_count_from_the_start_of_the_row(tmp_path, clip_maker):
    clip_maker(tmp_path / "v.mp4")
    (there,), clips = instants_of(tmp_path, [0.5], start_seconds=0.5, stop_seconds=2.0)
    assert brightness(clips.picture(there)) == 8
    (middle,), clips = instants_of(tmp_path, [None], start_seconds=1.0, stop_seconds=1.5)
    assert brightness(clips.picture(middle)) == 10  # a truth without a time is that of the middle


def test_stills_stand_still_beside_the_middle_of_their_sound(tmp_path, pairs):
    manifest = pairs.manifest()
    instant = find_instants(manifest, 0.5)[0][0]
    clips = InstantClips(manifest, SAMPLING)
    frames, _ = clips.frames(instant)
    assert torch.equal(frames, read_image(tmp_path / "a.png").expand(4, -1, -1, -1))
    with open_media(tmp_path / "sounds/a0.wav") as reader:
        assert torch.allclose(clips.sound(instant), reader.read_audio(0.25, 0.75, 8000)[0])
    long = ClipSampling(num_frames=1, frames_per_second=1.0, audio_seconds=2.0, sample_rate_hz=8000)
    sound = InstantClips(manifest, long).sound(instant)  # 1 s of sound, then nothing
    assert sound.shape == (16000,)
    assert sound[:8000].abs().max() > 0.5
    assert not sound[8100:].any()


def test_large_stills_are_read_small(tmp_path, corpus, picture_maker):
    picture_maker(tmp_path / "x.png", 0, hw=(300, 600))
    corpus.row("x", "x", [(0, 0, 1, 1)])
    manifest = corpus.manifest()
    (instant,), _ = find_instants(manifest, 0.5)
    assert InstantClips(manifest, SAMPLING).frames(instant)[0].shape == (4, 3, 256, 512)
    small = ClipSampling(num_frames=4, short_side=30)
    assert InstantClips(manifest, small).frames(instant)[0].shape == (4, 3, 30, 60)


def test_annotated_pictures_are_for_models_of_one_frame(tmp_path, clip_maker, picture_maker):
    clip_maker(tmp_path / "v.mp4")
    picture_maker(tmp_path / "f.png", 0)
    one = ClipSampling(num_frames=1, frames_per_second=8.0, audio_seconds=0.5, sample_rate_hz=8000)
    for sampling, sees_file in ((one, True), (SAMPLING, False)):
        (instant,), clips = instants_of(tmp_path, [1.0], sampling, image="f.png")
        same = torch.equal(clips.picture(instant), read_image(tmp_path / "f.png"))
        assert same == sees_file
    # Where there is no video, everyone sees it.
    picture_maker(tmp_path / "v.png", 1)
    (instant,), clips = instants_of(tmp_path, [1.0], SAMPLING, image="f.png", path="v.png")
    assert torch.equal(clips.picture(instant), read_image(tmp_path / "f.png"))


def test_what_is_not_there_is_told(tmp_path, clip_maker, picture_maker):
    clip_maker(tmp_path / "v.mp4")
    (late,), clips = instants_of(tmp_path, [2.2])
    for read in (clips.frames, clips.sound):
        with pytest.raises(MediaError, match=r"at 2\.200 s: the annotated instant lies outside the stream") as error:
            read(late)
        assert error.value.reason == "out_of_range"
    picture_maker(tmp_path / "v.png", 1)
    (mute,), clips = instants_of(tmp_path, [None], path="v.png")
    with pytest.raises(MediaError, match=r"a still image has no audio\. Name its audio file in the column audio_path"):
        clips.sound(mute)


def test_whatever_reading_raises_is_an_instant_that_cannot_be_read(tmp_path, clip_maker, monkeypatch):
    clip_maker(tmp_path / "v.mp4")
    (instant,), clips = instants_of(tmp_path, [0.5])

    def fail(*_):
        raise IndexError("odd")

    monkeypatch.setattr(clips, "_second", fail)
    for read in (clips.frames, clips.sound):
        with pytest.raises(MediaError, match=r"v\.mp4: container: reading failed \(IndexError in test_clips\.py"):
            read(instant)
