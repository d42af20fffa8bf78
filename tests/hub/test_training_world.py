"""Tests of the statistics of training clips in a release."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from avssl.hub.pretrained import demo_weights, from_pretrained
from avssl.hub.release import WORLD_NAME, HubError
from avssl.hub.training_world import load_worlds, save_worlds


@pytest.fixture
def release(tmp_path):
    return shutil.copytree(demo_weights(), tmp_path / "release")


def test_statistics_survive_a_round_trip(tmp_path, release):
    worlds = load_worlds(release)
    save_worlds(tmp_path, worlds)
    for world, again in zip(worlds, load_worlds(tmp_path), strict=True):
        assert torch.equal(world.queries, again.queries)
        for name, novelty in world.streams.items():
            assert all(torch.equal(value, vars(again.streams[name])[key]) for key, value in vars(novelty).items())


def test_a_release_works_without_them_and_a_new_one_removes_old_ones(release):
    pretrained = from_pretrained(release)
    assert len(pretrained.worlds) == 2
    assert "SoundingShapes" in pretrained.trained_on
    save_worlds(release, ())
    assert from_pretrained(release).worlds == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("video.mean", torch.zeros(3)),
        ("video.residual", torch.tensor(-1.0)),
        ("audio.threshold", torch.tensor(float("nan"))),
        ("surprise", torch.zeros(1)),
    ],
)
def test_damaged_statistics_are_an_error_that_names_the_file(release, name, value):
    path = release / WORLD_NAME
    save_file(load_file(path) | {name: value}, path)
    with pytest.raises(HubError, match=WORLD_NAME):
        from_pretrained(release)


def test_a_torn_file_is_an_error(release):
    path = release / WORLD_NAME
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HubError, match="remove the file"):
        from_pretrained(release)
