"""Names of metrics are known before a run."""

import pytest
import torch

from avssl.config import config_from_dict
from avssl.training.build import build_task, stand_in_rows
from avssl.training.metric_names import metric_names, noise

SMALL = {
    "sampling": {"num_frames": 2, "audio_seconds": 1.0, "sample_rate_hz": 8000, "short_side": 36},
    "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16, "window_length": 256}},
    "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 8, "out_features": 8}},
}


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ({"name": "info_nce"}, {"accuracy_v2a", "cosine_positive", "retrieval/R@10"}),
        ({"name": "avid"}, {"loss_cross"}),
        ({"name": "byol"}, {"cosine_positive"}),
        ({"name": "xdc", "clusters": 2}, {"used_clusters", "accuracy_video"}),
    ],
)
def test_a_step_on_noise_tells_the_names(objective, names):
    before = torch.get_rng_state()
    found = metric_names(config_from_dict({**SMALL, "objective": objective}))
    assert names | {"step", "loss", "grad_norm", "probe/majority"} <= set(found)
    assert len(set(found)) == len(found)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["xdc", "selavi"])
def test_terms_of_clusters_are_those_of_later_epochs(name):
    config = config_from_dict({**SMALL, "objective": {"name": name, "clusters": 2}})
    task = build_task(config, stand_in_rows(config)).train()
    mean = task.transform.standardize.mean
    task.transform.standardize.set_statistics(torch.zeros_like(mean), torch.ones_like(mean))
    found = []
    for epoch in (0, 1):
        task.on_epoch_start(epoch)
        found.append(set(task(noise(config)).terms))
        task.after_step()
    assert found[1] - found[0] == set(task.objective.later_terms)
