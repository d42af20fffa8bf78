from dataclasses import replace

import pytest
import torch
from torch import nn

from avssl.core.batch import Batch, BatchIndex, Embeddings, LossTerms
from avssl.core.needs import ObjectiveNeeds
from avssl.training.tasks import PretrainTask


class Plain(nn.Module):
    """Raw batch to the smallest transformed one."""

    def forward(self, batch):
        video = batch.video.float().transpose(1, 2) / 255
        return Batch(video, batch.audio[:, None, :, None], batch.index)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm3d(3)
        self.head = nn.Linear(3, 4)
        self.maps_asked = []

    def forward(self, video, audio, needs_maps=False):
        self.maps_asked.append(needs_maps)
        return Embeddings(self.head(self.norm(video).mean((2, 3, 4))), audio[:, 0, :4, 0])


class Counting(nn.Module):
    needs = ObjectiveNeeds(maps=True)

    def __init__(self):
        super().__init__()
        self.updates, self.epochs = [], []

    def forward(self, online, target, index):
        return LossTerms((online.video - online.audio).square().mean())

    def update(self, online, target, index):
        self.updates.append((online, index))

    def on_epoch_start(self, number):
        self.epochs.append(number)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    index = BatchIndex(*(torch.arange(5) for _ in range(3)))
    video = torch.randint(0, 256, (5, 2, 3, 4, 4), dtype=torch.uint8, generator=generator)
    return Batch(video, torch.randn(5, 8, generator=generator), index, torch.full((5, 2), 4))


def test_update_gets_the_detached_embeddings_once_after_the_step(batch):
    task = PretrainTask(Plain(), Pair(), Counting())
    task(batch).total.backward()
    assert task.objective.updates == []
    task.after_step()
    ((online, index),) = task.objective.updates
    assert not online.video.requires_grad
    assert index is batch.index
    with pytest.raises(AssertionError, match="after_step comes after forward"):
        task.after_step()


def test_target_follows_with_the_momentum_of_this_part_of_the_run():
    objective = Counting()
    objective.needs = ObjectiveNeeds(maps=True, target_momentum=0.6, final_momentum=1.0)
    task = PretrainTask(Plain(), Pair(), objective)
    momenta = []
    for share_done in (0, 0.5, 1):
        task.on_step_start(share_done)
        momenta.append(task.target.momentum)
    assert momenta == pytest.approx([0.6, 0.8, 1.0])


def test_objective_decides_about_maps_and_hears_of_passes(batch):
    task = PretrainTask(Plain(), Pair(), Counting())
    task.on_epoch_start(3)
    task(batch)
    assert (task.model.maps_asked, task.objective.epochs) == ([True], [3])


def test_objective_is_told_which_steps_of_a_sound_are_heard(batch):
    class Listening(Counting):
        needs = ObjectiveNeeds(maps=True, silence_dbfs=-20.0)

        def forward(self, online, target, index):
            self.heard = online.audio_heard
            return super().forward(online, target, index)

    class OverTime(Pair):
        def forward(self, video, audio, needs_maps=False):
            return replace(super().forward(video, audio), audio_map=audio[:, 0, :4].expand(-1, -1, 2))

    quiet = torch.cat([batch.audio[:, :4], torch.full((5, 4), 0.09)], dim=1)  # -20.9 dBFS in the second half
    task = PretrainTask(Plain(), OverTime(), Listening())
    task(replace(batch, audio=quiet))
    assert task.objective.heard.tolist() == [[True, False]] * 5


def test_held_batch_norm_does_not_move_and_trains_its_weights(batch):
    task = PretrainTask(Plain(), Pair(), Counting(), batch_norm="eval").train()
    task(batch).total.backward()
    assert task.model.norm.num_batches_tracked == 0
    assert task.model.norm.weight.grad is not None
    assert task.model.training
    free = PretrainTask(Plain(), Pair(), Counting()).train()
    free(batch)
    assert free.model.norm.num_batches_tracked == 1


def test_objective_with_parameters_is_refused():
    with pytest.raises(ValueError, match="Linear has parameters"):
        PretrainTask(Plain(), Pair(), nn.Linear(1, 1))
