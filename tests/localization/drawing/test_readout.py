import json

import pytest
import torch

from avssl.core.batch import Heatmap
from avssl.localization import Look, readout


def spot(row, column, height):
    values = torch.zeros(2, 4, 4)
    values[1, row, column] = height
    heads = torch.stack([values, values.flip(-1)], dim=1)
    return Heatmap(values, torch.tensor([0.5, 1.0], dtype=torch.float64), values.amax(dim=(1, 2)), heads)


def test_peaks_of_each_sound_on_one_scale():
    maps = {"own sound": spot(0, 3, 0.8), "silence": spot(3, 0, 0.2)}
    numbers = json.loads(json.dumps(readout(maps, (40, 80), "absolute")))
    assert numbers["frame"] == {"width": 80, "height": 40}
    assert numbers["scale"] == {"lowest": 0, "highest": 1}
    assert numbers["box"] is None
    assert [row["sound"] for row in numbers["maps"]] == ["own sound", "silence"]
    assert numbers["maps"][0]["peaks"][1] == {"second": 1.0, "x": 70.0, "y": 5.0, "confidence": 0.8}
    assert readout(maps, (40, 80))["scale"] == {"lowest": 0, "highest": pytest.approx(0.8)}


def test_boxes_at_a_stated_threshold():
    numbers = readout({"own sound": spot(0, 3, 0.8), "silence": spot(3, 0, 0.2)}, (40, 80), look=Look(boxes=0.5))
    assert numbers["box"] == {"share": 0.5, "cosine": pytest.approx(0.4)}
    own, silence = (row["peaks"] for row in numbers["maps"])
    assert own[0]["box"] is None
    assert own[1]["box"] == pytest.approx([60, 0, 80, 10], abs=4)
    assert silence[1]["box"] is None  # hot in silence, but not on the scale of both


def test_heads_are_told_apart():
    numbers = readout({"own sound": spot(0, 3, 0.8)}, (40, 80), look=Look(heads=True))
    assert [row["head"] for row in numbers["maps"]] == [1, 2]
    assert [row["peaks"][1]["x"] for row in numbers["maps"]] == [70, 10]
