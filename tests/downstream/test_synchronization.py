"""Offsets of moved audio: the audio is where it should be, and the scores of known offsets are known."""

import numpy as np
import pytest
import torch

from avssl.core.manifest import ManifestError
from avssl.downstream.synchronization import OWN, SHUFFLED, ShiftedAudio, measure_sync, score_offsets
from avssl.hub.pretrained import from_pretrained
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


@pytest.mark.parametrize("late", [-0.5, 0.0, 0.5])
def test_audio_is_moved_by_the_offset_and_silent_where_there_is_none(noise_file, late):
    with open_media(noise_file) as reader:
        moved = ShiftedAudio(reader, late, reader.info.video_start_seconds)
        assert moved.info.audio_start_seconds == reader.info.video_start_seconds
        samples = moved.read_audio(0.75, 1.25, 8000)
        torch.testing.assert_close(samples, reader.read_audio(0.75 - late, 1.25 - late, 8000))
        assert samples.shape == (1, 4000)
        assert samples.abs().max() > 0.1
        if late > 0:
            assert moved.read_audio(0.0, 0.4, 8000).abs().max() == 0


def test_scores_of_known_offsets():
    true, offsets = np.array([0.0, 0.5, -0.5, 0.95]), np.linspace(-1, 1, 21)
    found = {OWN: np.array([0.1, 0.5, -0.7, 0.9]), SHUFFLED: np.array([0.5, 0.0, 0.0, 0.0])}
    scores = score_offsets(found, true, offsets)
    assert scores.within == {OWN: 0.75, SHUFFLED: 0.0}
    assert scores.median_error_seconds[OWN] == pytest.approx(0.075)
    assert scores.chance == pytest.approx((3 + 3 + 3 + 2) / 84)
    low, high = scores.intervals[OWN]
    assert 0.3 < low < 0.75 < high < 1


def test_clips_that_are_too_short_are_named(tiny_release, tmp_path):
    scene = SceneSettings(width=48, height=48, duration_seconds=1.5)
    rows = synthesize(tmp_path / "s", num_clips=0, num_test_clips=2, num_workers=0, scene=scene, progress=False)
    pretrained = from_pretrained(tiny_release)
    report = measure_sync(pretrained, rows, max_offset_seconds=0.2, progress=False)
    assert report["about"]["n"] == 2
    assert [row["audio"] for row in report["rows"]] == [OWN, SHUFFLED]
    again = measure_sync(pretrained, rows, max_offset_seconds=0.2, progress=False)
    assert report == again
    with pytest.raises(ManifestError, match=r"0 of 2 rows can be measured: .*too short.*--max-offset-seconds"):
        measure_sync(pretrained, rows, progress=False)
