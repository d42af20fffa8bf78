"""Maps that have heard nothing, and have not seen the truth they are scored with."""

from __future__ import annotations

import pytest
import torch

from avssl.downstream.localization.baselines import CENTER, MEAN_BOX, RANDOM, RANDOM_OBJECT, WHOLE, Baselines
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.rows import find_instants, sources_of
from avssl.evaluation import random_object


def instant(mask, objects=None):
    return Instant(0, 0, None, mask.float, tuple(mask.shape), objects=None if objects is None else objects.clone)


def test_the_mean_truth_is_that_of_the_other_fold():
    masks = torch.eye(6).view(6, 2, 3)
    sources = ["a", "a", "b", "c", "d", "e"]  # the two of one file stay together
    baselines = Baselines([instant(mask) for mask in masks], sources, (2, 2), seed=0)
    means = baselines.maps(MEAN_BOX, slice(0, 6))
    assert not (means * masks).any()  # nobody sees its own
    assert not (means[0] * masks[1]).any()
    assert torch.equal(means[0], means[1])
    assert means.flatten(1).sum(dim=1) == pytest.approx(torch.ones(6))
    assert len({tuple(mean.flatten().tolist()) for mean in means}) == 2
    assert torch.equal(baselines.maps(MEAN_BOX, slice(2, 4)), means[2:4])


def test_parts_are_those_of_the_whole():
    masks = torch.rand(7, 2, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    masks[:, :, 0, 0] = True
    masks[3, 1] = False
    scenes = [instant(mask[0], mask if number != 3 else mask[:1]) for number, mask in enumerate(masks)]
    baselines = Baselines(scenes, list("abcdefg"), (3, 2), seed=5)
    assert baselines.names == [CENTER, MEAN_BOX, RANDOM_OBJECT, RANDOM, WHOLE]
    for name in baselines.names:
        whole = baselines.maps(name, slice(0, 7))
        parts = torch.cat([baselines.maps(name, part) for part in (slice(0, 3), slice(3, 4), slice(4, 7))])
        assert torch.equal(whole, parts)
    assert torch.equal(baselines.maps(RANDOM_OBJECT, slice(0, 7)), random_object(masks, seed=5)[0])
    assert baselines.maps(RANDOM, slice(0, 7)).shape == (7, 3, 2)


def test_rows_that_clips_do_not_allow_are_left_out(pairs):
    masks = torch.ones(2, 3, 3)
    alone = Baselines([instant(mask, mask[None] > 0) for mask in masks], ["a", "a"], (2, 2), seed=0)
    assert alone.names == [CENTER, RANDOM, WHOLE]
    pairs.row("c", "c", [(0, 0, 1, 1)])  # of this picture nobody knows the objects
    manifest = pairs.manifest()
    instants, _ = find_instants(manifest, 1.0)
    assert RANDOM_OBJECT not in Baselines(instants, sources_of(manifest, instants), (2, 2), 0).names
    assert RANDOM_OBJECT in Baselines(instants[:4], sources_of(manifest, instants[:4]), (2, 2), 0).names
