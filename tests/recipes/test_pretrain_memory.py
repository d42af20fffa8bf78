"""Runs whose objective keeps a memory of every row."""

import pytest
import torch

from avssl.config import ConfigError
from avssl.engine import read_metrics
from avssl.engine.checkpoint import load_checkpoint
from avssl.recipes.pretrain import pretrain

OBJECTIVES = {
    "avid": {"name": "avid", "loss": "nce_running", "num_negatives": 32},
    "robust_xid": {"name": "robust_xid", "warmup_epochs": 1, "tau_s": 0.1},
    "cma": {"name": "cma", "num_positives": 4, "warmup_epochs": 1, "refresh_epochs": 2},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_run_resumes_bit_for_bit(videos, tiny_config, name, assert_resumes_bit_for_bit):
    config = tiny_config(videos, objective=OBJECTIVES[name], optim={"epochs": 4}, monitor={"every_steps": 0})
    assert "objective.bank.id_key" in assert_resumes_bit_for_bit(config)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_run_beats_chance(videos, tiny_config, tmp_path, name):
    changes = {"loss": "softmax"} if "loss" in OBJECTIVES[name] else {}
    config = tiny_config(
        videos,
        objective=OBJECTIVES[name] | changes,
        optim={"epochs": 40, "lr": 0.005},
        train={"log_every": 20, "checkpoint_every_steps": 1000},
        monitor={"every_steps": 0},
    )
    run, _ = pretrain(config, out=tmp_path / "run", progress=False)
    first, *_, last = (row["loss"] for row in read_metrics(run))
    assert last < first - 0.5


def test_cma_starts_from_an_avid_run(videos, tiny_config, tmp_path, caplog):
    caplog.set_level("INFO", "avssl")
    options = {"optim": {"epochs": 1}, "monitor": {"every_steps": 0}}
    pretrain(tiny_config(videos, objective={"name": "avid"}, **options), out=tmp_path / "avid", progress=False)
    cma = OBJECTIVES["cma"] | {"warmup_epochs": 0}
    train = {"init_from": str(tmp_path / "avid")}
    config = tiny_config(videos, objective=cma, **options, train=train)
    pretrain(config, out=tmp_path / "cma", progress=False)
    assert f"starts from {tmp_path / 'avid'}, step 2" in caplog.text
    assert "loss_within" in read_metrics(tmp_path / "cma")[0]

    other = tiny_config(videos, objective=cma, **options, train=train, model={"head": {"out_features": 16}})
    with pytest.raises(ConfigError, match=r"init_from .*audio_head.* is \(8,\) there and \(16,\) here"):
        pretrain(other, out=tmp_path / "other", progress=False)
    nothing = tiny_config(videos, objective=cma, **options, train={"init_from": str(tmp_path)})
    with pytest.raises(ConfigError, match="there is no checkpoint of a run"):
        pretrain(nothing, out=tmp_path / "nothing", progress=False)


def test_init_from_with_and_without_a_momentum_model(videos, tiny_config, tmp_path):
    def run(objective, begin=None, **optim):
        changes = {"optim": {"epochs": 1, **optim}, "monitor": {"every_steps": 0}, "train": {"init_from": begin}}
        folder = tmp_path / objective["name"]
        pretrain(tiny_config(videos, objective=objective, **changes), out=folder, progress=False)
        return folder, load_checkpoint(folder / "checkpoints/step-000000002.pt")["task"]

    folder, plain = run({"name": "info_nce"})
    folder, moco = run({"name": "moco", "queue_size": 40, "momentum": 1.0}, str(folder))
    name = "video_head.0.weight"
    assert torch.equal(moco[f"target.model.{name}"], plain[f"model.{name}"])
    _, avid = run({"name": "avid"}, str(folder), lr=1e-12)
    torch.testing.assert_close(avid[f"model.{name}"], moco[f"model.{name}"])
    assert not [key for key in avid if key.startswith("target.")]


def test_init_from_another_corpus_by_id_with_remap(videos, tiny_config, video_maker, tmp_path):
    options = {"optim": {"epochs": 1}, "monitor": {"every_steps": 0}}
    pretrain(tiny_config(videos, objective={"name": "avid"}, **options), out=tmp_path / "avid", progress=False)
    folder = tmp_path / "others"
    for number in range(12, 24):  # 8 of the 20, and 4 new ones
        video_maker(folder / f"clip{number:02d}.mp4", number)
    train = {"init_from": str(tmp_path / "avid")}
    with pytest.raises(ValueError, match="another corpus: 8 of its 20 ids are among the 12 rows"):
        pretrain(
            tiny_config(folder, objective={"name": "avid"}, **options, train=train), out=tmp_path / "no", progress=False
        )
    config = tiny_config(folder, objective={"name": "avid", "remap": True}, **options, train=train)
    pretrain(config, out=tmp_path / "yes", progress=False)
