import pytest
import torch

from avssl.config import config_from_dict
from avssl.core.batch import Batch, BatchIndex
from avssl.core.manifest import Manifest
from avssl.engine import Precision
from avssl.objectives import MemoryRows
from avssl.training.build import build_task
from avssl.training.rows import hold_out
from avssl.training.setup import measure_cost


def config(source=".", **changes):
    """A run on a folder by default."""
    data = {"source": str(source)} | changes.pop("data", {})
    return config_from_dict({"data": data, **changes})


def manifest(count, root="/videos", **columns):
    names = [f"{number}.mp4" for number in range(count)]
    return Manifest.from_columns({"id": names, "path": names, **columns}, root)


def test_a_share_of_the_rows_is_held_out():
    trained, held_out = hold_out(config(), manifest(1000))
    assert (len(trained), len(held_out)) == (950, 50)
    assert set(trained["id"]).isdisjoint(held_out["id"])
    trained, held_out = hold_out(config(), manifest(10_000))
    assert (len(trained), len(held_out)) == (9872, 128)


def test_the_choice_does_not_depend_on_the_seed():
    first = hold_out(config(train={"seed": 0}), manifest(1000))[1]
    assert hold_out(config(train={"seed": 1}), manifest(1000))[1].hash() == first.hash()


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 600), ({"monitor": {"every_steps": 0}}, 5000), ({"monitor": {"held_out_fraction": 0.0}}, 5000)],
)
def test_small_corpora_and_runs_without_monitors_train_on_everything(changes, count):
    trained, held_out = hold_out(config(**changes), manifest(count))
    assert len(trained) == count
    assert held_out is None


def test_the_val_split_is_the_gallery_where_there_is_one(tmp_path):
    whole = manifest(2000, tmp_path, split=["train"] * 1900 + ["val"] * 100)
    whole.write(tmp_path / "manifest.csv")
    train = whole.where(split="train")
    trained, held_out = hold_out(config(tmp_path / "manifest.csv"), train)
    assert len(trained) == 1900
    assert set(held_out["split"]) == {"val"}
    assert len(held_out) == 100
    _, few = hold_out(config(tmp_path / "manifest.csv", monitor={"num_clips": 40}), train)
    assert len(few) == 40
    # All rows are trained on: then some of them must be kept out.
    trained, held_out = hold_out(config(tmp_path / "manifest.csv", data={"split": "all"}), whole)
    assert (len(trained), len(held_out)) == (1900, 100)  # 5 %
    assert set(trained["id"]).isdisjoint(held_out["id"])


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
        made = config(model=model, objective=objective, optim={"batch_size": 2})
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
