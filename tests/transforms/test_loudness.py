import math

import pytest
import torch

from avssl.transforms.loudness import loud_parts


@pytest.mark.parametrize(("threshold", "expected"), [(-50.0, [0, 1, 0, 1]), (-43.0, [0, 0, 0, 1]), (-70, [0, 1, 1, 1])])
def test_parts_are_told_by_their_level(threshold, expected):
    # Silence, a sine of -46 dBFS (amplitude 0.0071), constant -60 dBFS, and a click of -40 dBFS over its part.
    samples = torch.zeros(2, 400)
    samples[0, 100:200] = math.sqrt(2) * 10 ** (-46 / 20) * torch.sin(torch.arange(100) * math.tau / 10)
    samples[0, 200:300] = -(10 ** (-60 / 20))
    samples[0, 350] = 0.1
    assert loud_parts(samples, 4, threshold).tolist() == [[bool(x) for x in expected], [False] * 4]
