import torch

from avssl.config import config_from_dict
from avssl.core.batch import Batch, BatchIndex
from avssl.engine import Precision
from avssl.objectives import MemoryRows
from avssl.training.build import build_task
from avssl.training.setup import measure_cost


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
