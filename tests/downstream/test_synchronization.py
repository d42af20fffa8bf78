"""Offsets of moved audio: the audio is where it should be, and the scores of known offsets are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avssl.core.manifest import ManifestError
from avssl.downstream import synchronization
from avssl.downstream.synchronization import (
    OWN,
    SHUFFLED,
    SILENCE,
    TONE,
    MovedAudio,
    SteadyAudio,
    chance_within,
    measure_sync,
    score_offsets,
)
from avssl.hub.pretrained import from_pretrained
from avssl.localization import SyncCurve
from avssl.media import open_media, write_video
from avssl.recipes.synthesize import synthesize
from avssl.synthetic import SceneSettings


@pytest.fixture(scope="module")
def noise_file(tmp_path_factory):
    """Two seconds of gray frames and noise."""
    path = tmp_path_factory.mktemp("noise") / "noise.mp4"
    samples = 0.5 * torch.rand(1, 16000, generator=torch.Generator().manual_seed(0)) - 0.25
    write_video(path, torch.full((16, 3, 32, 32), 127, dtype=torch.uint8), 8.0, samples, 8000)
    return path


@pytest.mark.parametrize("late", [-0.5, 0.0, 0.25, 0.5])
def test_audio_is_moved_by_the_offset_and_equally_long_at_each(noise_file, late):
    with open_media(noise_file) as reader:
        start = reader.info.video_start_seconds
        moved = MovedAudio(reader, reader, late, 0.5)
        span = moved.info.audio_start_seconds, moved.info.audio_stop_seconds
        assert span == pytest.approx((start + max(0, late), start + max(0, late) + 1.5))
        torch.testing.assert_close(
            moved.read_audio(0.75, 1.25, 8000), reader.read_audio(0.75 - late, 1.25 - late, 8000)
        )
        # All that is announced is there: nothing is filled up with silence, which would tell the offset.
        assert (moved.read_audio(*span, 8000).abs().unfold(1, 400, 400).amax(dim=2) > 0.1).all()


def test_audio_of_another_clip_keeps_its_place_relative_to_its_own_frames(noise_file):
    with open_media(noise_file) as reader, open_media(noise_file) as other:
        later = SteadyAudio(other, 0.1)
        later.info = replace(later.info, video_start_seconds=3.0, audio_start_seconds=3.0, audio_stop_seconds=5.0)
        moved = MovedAudio(reader, later, 0.25, 0.5)
        assert (moved.info.audio_start_seconds, moved.info.audio_stop_seconds) == pytest.approx((0.25, 1.75))
        torch.testing.assert_close(moved.read_audio(0.25, 0.5, 8000), later.read_audio(3.0, 3.25, 8000))


def test_scores_of_known_offsets():
    true = np.array([0.0, 0.5, -0.5, 0.95])
    scores = score_offsets(np.array([0.1, 0.5, -0.7, 0.9]), np.array([True, False, True, False]), true, np.arange(4))
    assert scores.within == 0.75
    assert scores.decided == 0.5
    assert scores.within_of_decided == 0.5
    assert scores.median_error_seconds == pytest.approx(0.075)
    assert 0.3 < scores.interval[0] < 0.75 < scores.interval[1] < 1
    assert score_offsets(true, np.zeros(4, dtype=bool), true, np.arange(4)).within_of_decided is None
    assert chance_within(true, 0.1, 1.0) == pytest.approx((3 + 3 + 3 + 2) / 84)


def test_an_offset_at_the_edge_of_the_moves_is_inside_of_the_scan(tiny_release, tmp_path, monkeypatch):
    """A model that finds every offset is decided for each, also for the largest; one that finds none, for none."""
    scene = SceneSettings(width=32, height=32, duration_seconds=1)
    rows = synthesize(tmp_path / "s", num_clips=0, num_test_clips=3, num_workers=0, scene=scene, progress=False)
    monkeypatch.setattr(synchronization, "clip_key", lambda *_: torch.tensor([0, 2**20 - 1, 2**19]))  # -0.5, 0.5, 0

    def perfect(reader, encoder, sampling, *, max_offset_seconds, step_seconds):
        most = round(max_offset_seconds / step_seconds)
        offsets = torch.arange(-most, most + 1, dtype=torch.float64) * step_seconds
        energies = torch.zeros(6, len(offsets))  # flat: undecided
        if isinstance(reader._audio, SteadyAudio):
            return SyncCurve(offsets, energies)
        return SyncCurve(offsets, energies + (offsets - reader._late).abs().float())

    monkeypatch.setattr(synchronization, "sync_curve", perfect)
    report = measure_sync(
        from_pretrained(tiny_release), rows, max_offset_seconds=0.5, audio=(OWN, SILENCE, TONE), progress=False
    )
    own, *steady = report["rows"]
    assert own["within"] == own["decided"] == own["within_of_decided"] == 1
    assert [(row["decided"], row["within"]) for row in steady] == [(0, pytest.approx(1 / 3))] * 2
    assert report["baselines"]["no offset"] == pytest.approx(1 / 3)
    assert report["about"]["scanned_seconds"] == pytest.approx(0.7)
    assert [clip["lowest_at_seconds"][OWN] for clip in report["clips"]] == pytest.approx([-0.5, 0.5, 0.0])


def test_clips_that_are_too_short_are_named(tiny_release, tmp_path):
    scene = SceneSettings(width=48, height=48, duration_seconds=1.5)
    rows = synthesize(tmp_path / "s", num_clips=0, num_test_clips=2, num_workers=0, scene=scene, progress=False)
    pretrained = from_pretrained(tiny_release)
    report = measure_sync(pretrained, rows, max_offset_seconds=0.1, step_seconds=0.02, progress=False)
    assert report["about"]["n"] == 2
    assert [row["audio"] for row in report["rows"]] == [OWN, SHUFFLED]
    again = measure_sync(pretrained, rows, max_offset_seconds=0.1, step_seconds=0.02, progress=False)
    assert report == again
    with pytest.raises(ManifestError, match=r"0 of 2 rows can be measured: .*too short.*--max-offset-seconds"):
        measure_sync(pretrained, rows, progress=False)
