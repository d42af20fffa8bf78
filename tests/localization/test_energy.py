import math

import pytest
from localization_clock import Clock, Reads, Window

from avssl.localization import energy_curve


def test_energy_is_low_for_the_moment_and_higher_for_others():
    curve = energy_curve(Clock(), Reads(), Window(), stride_seconds=0.5)
    assert curve.at_seconds.tolist()[:3] == [0.25, 0.75, 1.25]
    assert curve.mean < 0.02
    # The first instant's window is 0 to 1 s; the others' middles are 1.25, 1.75 ... 7.25 and, shifted inside, 7.5 s.
    others = [1.25 + 0.5 * number for number in range(13)] + [7.5]
    expected = sum(1 - math.cos((second - 0.5) * math.pi / 2) for second in others) / len(others)
    assert float(curve.shuffled[0]) == pytest.approx(expected, abs=0.01)
    assert curve.shuffled_mean > 0.5


def test_energy_of_another_files_sound():
    curve = energy_curve(Clock(), Reads(), Window(), stride_seconds=0.5, audio_from=Clock(late=2.0))
    assert curve.mean == pytest.approx(2, abs=0.05)  # half a turn behind, everywhere


def test_energy_in_a_file_of_one_window_has_no_other_moments():
    curve = energy_curve(Clock(stop=1.0), Reads(), Window(), stride_seconds=0.5)
    assert math.isnan(curve.shuffled_mean)
