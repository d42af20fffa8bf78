"""Offsets of audio on files that tell the time, and clips that cannot tell, whose truth is known."""

import math
from dataclasses import replace

import pytest
import torch
from localization_clock import Clock, Reads, ReadsMoments, Window

from avssl.localization import SyncCurve, draw_sync_curve, sync_curve
from avssl.localization.sync import MOST_BY_CHANCE, NUM_SHIFTS, chance_of_minimum
from avssl.media import MediaError


def scan(clock, **options):
    return sync_curve(clock, Reads(), Window(), **({"max_offset_seconds": 1.0, "step_seconds": 0.1} | options))


@pytest.mark.parametrize("late", [0.0, 0.4, -0.6])
def test_the_offset_of_moved_audio_is_found(late):
    curve = scan(Clock(late=late))
    assert curve.offset == pytest.approx(late)
    assert curve.is_decided
    assert not curve.is_at_edge
    # The energy of directions that are d seconds apart is 1 - cos(d turns / 4).
    expected = 1 - torch.cos((curve.offset_seconds - late) * math.pi / 2)
    torch.testing.assert_close(curve.energy.double(), expected, atol=0.01, rtol=0)
    assert curve.depth == pytest.approx(float(expected.quantile(0.5)), abs=0.01)
    assert curve.confidence > 0.99


def test_no_offset_of_a_foreign_video_is_reported():
    curve = scan(Clock(late=0.4))
    foreign = replace(curve, is_foreign=True)
    assert foreign.lowest_at_seconds == curve.offset
    assert foreign.offset is None


@pytest.mark.parametrize("late", [0.0, 0.4, -0.6])
@pytest.mark.parametrize("stop", [4.1, 8.0])
def test_the_offset_is_found_moment_by_moment(late, stop):
    curve = sync_curve(Clock(stop, late), ReadsMoments(), Window(), max_offset_seconds=1.0, step_seconds=0.1)
    assert curve.lowest_at_seconds == pytest.approx(late)
    # Moments are a quarter of a second apart; audio between them is interpolated.
    expected = 1 - torch.cos((curve.offset_seconds - late) * math.pi / 2)
    torch.testing.assert_close(curve.energy.double(), expected, atol=2e-3, rtol=0)
    # Those whose audio lies between the first and the last moment at all offsets.
    assert curve.num_instants == {4.1: 8, 8.0: 24}[stop]
    assert curve.points_per_stretch == 4


def test_a_file_shorter_than_the_clips_of_a_framewise_model_is_an_error():
    with pytest.raises(ValueError, match=r"clock\.mp4: 0\.80 s of video are too short: the model needs 1\.00 s"):
        sync_curve(Clock(0.8), ReadsMoments(), Window(), max_offset_seconds=0.1, step_seconds=0.1)
    with pytest.raises(ValueError, match=r"1\.\d+ s of video and audio are too short: .* needs 2\.00 s"):
        sync_curve(Clock(1.5), ReadsMoments(), Window(), max_offset_seconds=1.0, step_seconds=0.1)


def test_every_offset_is_measured_at_the_same_instants_inside_the_file():
    curve = scan(Clock(stop=8.0), max_offset_seconds=1.0, step_seconds=0.25)
    assert curve.offset_seconds.tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1]
    assert curve.num_instants == 11  # 1.5 s to 6.5 s, every half second
    assert curve.points_per_stretch == 2


def test_a_minimum_at_the_edge_is_no_offset():
    beyond = scan(Clock(late=1.5))
    assert beyond.is_at_edge
    assert beyond.offset is None
    drift = SyncCurve(torch.arange(-5, 6) / 10, torch.linspace(0.6, 0.5, 11).repeat(8, 1))
    assert drift.confidence > 0.95  # every point falls to the same edge, as where the audio fades
    assert drift.offset is None


def test_steady_or_silent_audio_is_undecided():
    flat = SyncCurve(torch.arange(-3, 4) / 10, torch.full((6, 7), 0.5))
    steady = SyncCurve(flat.offset_seconds, torch.rand(6, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 7))
    for curve in (flat, steady):
        assert (curve.confidence, curve.lowest_at_seconds, curve.offset) == (0, 0, None)
        assert curve.depth == pytest.approx(0, abs=1e-6)


def test_a_single_stretch_has_nothing_to_agree_with():
    energies = torch.ones(3, 7)
    energies[:, 2] = 0
    assert chance_of_minimum(energies, points_per_stretch=3) == 1
    assert scan(Clock(stop=3.0)).offset is None


def test_the_chance_of_agreement_is_that_of_dice():
    energies = torch.ones(3, 10)
    energies[:, 4] = 0
    # Three minima at one of 10 offsets: the second and the third must meet the first, once in 100.
    chance = chance_of_minimum(energies)
    assert chance == pytest.approx(0.01, abs=4 * math.sqrt(0.01 / NUM_SHIFTS))
    assert chance_of_minimum(energies) == chance
    assert chance_of_minimum(energies * 0.3 + 0.2) == chance  # scale and level do not matter
    assert chance_of_minimum(energies.roll(3, dims=1)) == chance  # nor does the offset
    energies[2] = energies[2].roll(1)
    assert chance_of_minimum(energies) > 0.1


def test_unrelated_audio_is_decided_no_more_often_than_stated():
    draw = torch.Generator().manual_seed(1)
    clips = torch.randn(300, 12, 21, generator=draw)
    kernel = torch.ones(1, 1, 5) / 5  # neighboring offsets are alike, as windows share audio
    smooth = torch.nn.functional.conv1d(clips.flatten(0, 1)[:, None], kernel, padding=2).view_as(clips)
    decided = sum(SyncCurve(torch.arange(-10, 11) / 10, clip).is_decided for clip in smooth)
    # Binomial of 300 draws at 0.05: at most 15 + 3.5 standard deviations.
    assert decided / 300 <= MOST_BY_CHANCE + 3.5 * math.sqrt(0.05 * 0.95 / 300)
    smooth[:, :, 14] -= 1.0
    found = [SyncCurve(torch.arange(-10, 11) / 10, clip).offset for clip in smooth]
    assert sum(offset is not None and abs(offset - 0.4) < 1e-6 for offset in found) > 290


def test_too_short_a_file_is_an_error():
    with pytest.raises(ValueError, match=r"2\.00 s of video and audio are too short: .* needs 3\.00 s"):
        scan(Clock(stop=2.0))
    assert scan(Clock(stop=3.0)).num_instants == 1
    with pytest.raises(ValueError, match="must be at least step_seconds"):
        scan(Clock(), max_offset_seconds=0.05)
    with pytest.raises(ValueError, match=r"step_seconds \(0\) must be greater than 0"):
        scan(Clock(), step_seconds=0)
    with pytest.raises(MediaError, match="no audio stream"):
        scan(Clock(sound=False))


def test_curves_are_drawn_decided_or_not(tmp_path):
    for name, clock in (("yes", Clock(late=0.4)), ("no", Clock(stop=3.0))):
        draw_sync_curve(scan(clock), tmp_path / f"{name}.png", "a $strange_name")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
