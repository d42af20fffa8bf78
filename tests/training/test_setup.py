import pytest
import torch

from avssl.config import config_from_dict
from avssl.core.batch import Batch, BatchIndex
from avssl.engine import Precision, PrecisionTimes
from avssl.objectives import MemoryRows
from avssl.training import setup
from avssl.training.build import build_task
from avssl.training.setup import choose_precision, measure_cost


def test_memory_counts_what_the_objective_keeps():
    """A memory of the corpus, or a queue and the momentum model, lie on the device beside the model."""
    model = {
        "video": {"name": "small_video", "width": 4},
        "audio": {"name": "small_audio", "width": 4},
        "head": {"name": "mlp", "out_features": 8},
    }
    rows = MemoryRows.from_ids([str(number) for number in range(1000)])
    place = torch.arange(2)

    def state(**objective):
        made = config_from_dict({"model": model, "objective": objective, "optim": {"batch_size": 2}})
        task = build_task(made, rows)
        task.transform.standardize.set_statistics(*torch.ones(2, task.transform.spectrogram.num_bins))
        audio = torch.randn(2, round(made.sampling.audio_seconds * made.sampling.sample_rate_hz))
        video = torch.zeros(2, 2, 3, 40, 40, dtype=torch.uint8)
        batch = Batch(video, audio, BatchIndex(place, place, place), torch.full((2, 2), 40))
        return measure_cost(made, task, batch, Precision())[1], task

    plain, _ = state(name="info_nce")
    avid = {dtype: state(name="avid", dtype=dtype, num_negatives=4)[0] for dtype in ("fp32", "bf16")}
    assert avid["fp32"] - avid["bf16"] == 2 * 1000 * 8 * 2
    assert avid["fp32"] - plain > 2 * 1000 * 8 * 4
    moco, task = state(name="moco", queue_size=64)
    copied = sum(x.nbytes for x in task.model.state_dict().values())
    assert moco - plain == copied + 64 * 2 * (8 * 4 + 8) + 8


@pytest.mark.parametrize(
    ("precision", "memory_format", "has_bf16", "reason"),
    [
        ("auto", "auto", True, "bf16 contiguous, the fastest here in a step of 2 clips: bf16 contiguous 5 ms, bf16 "
         "channels_last 10 ms, fp32 contiguous 20 ms, fp32 channels_last 40 ms"),
        ("auto", "auto", False, "fp32 contiguous, the fastest here in a step of 2 clips: fp32 contiguous 20 ms, fp32 "
         "channels_last 40 ms; bf16 is left out, as this processor would emulate it"),
        ("fp32", "channels_last", True, "fp32 channels_last, as set in a step of 2 clips: fp32 channels_last 40 ms"),
        ("fp32", "channels_last_2d", True, "fp32 channels_last_2d, as set in a step of 2 clips: fp32 channels_last_2d "
         "7 ms"),
        ("bf16", "contiguous", False, "bf16 contiguous, as set in a step of 2 clips: bf16 contiguous 5 ms"),
    ],
)  # fmt: skip
def test_the_choice_of_the_precision_says_why(monkeypatch, precision, memory_format, has_bf16, reason):
    milliseconds = {"fp32 contiguous": 20, "fp32 channels_last": 40, "bf16 contiguous": 5, "bf16 channels_last": 10}
    milliseconds["fp32 channels_last_2d"] = 7

    def probe(candidates, trial):
        return PrecisionTimes({candidate: milliseconds[str(candidate)] / 1000 for candidate in candidates})

    monkeypatch.setattr(setup, "probe_precision", probe)
    monkeypatch.setattr(setup, "computes_bf16", lambda device: has_bf16)
    config = config_from_dict({"train": {"precision": precision, "memory_format": memory_format}})
    config.optim.batch_size = 2
    rows = torch.arange(2)
    sample = Batch(
        torch.zeros(2, 1, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 1),
        BatchIndex(rows, rows, rows),
        torch.full((2, 2), 4),
    )
    choice = choose_precision(config, torch.nn.Identity(), sample, torch.device("cpu"))
    assert str(choice) == reason
    assert choice.step_seconds == milliseconds[str(choice.precision)] / 1000
