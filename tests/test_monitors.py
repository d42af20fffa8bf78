import pytest
import torch
from torch import nn

from avssl.batch import Batch, BatchIndex, Embeddings
from avssl.monitors import RetrievalMonitor


def batches():
    for first in (0, 4):
        video = torch.arange(first, first + 4, dtype=torch.uint8).view(4, 1, 1, 1, 1).expand(4, 1, 3, 2, 2)
        yield Batch(video, torch.zeros(4, 8), BatchIndex(*(torch.arange(4),) * 3), torch.full((4, 2), 2))


class Known(nn.Module):
    """One-hot embeddings of the clip's number, or one point for all."""

    def __init__(self, collapsed=False):
        super().__init__()
        self.scale, self.collapsed = nn.Parameter(torch.ones(())), collapsed

    def forward(self, video, audio):
        number = (video[:, 0, 0, 0, 0] * 0 if self.collapsed else video[:, 0, 0, 0, 0]).long()
        one_hot = nn.functional.one_hot(number, 8).float() * self.scale
        return Embeddings(one_hot, one_hot)


class Task(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def transform(self, batch):
        assert not self.training, "measured without augmentation"
        return Batch(batch.video.float().transpose(1, 2), batch.audio[:, None, None], batch.index)


def test_perfect_pairs_are_found_and_clips_are_read_once():
    reads = []
    monitor = RetrievalMonitor(lambda: reads.append(1) or batches(), every_steps=5)
    for _ in range(2):
        numbers = monitor.run(Task(Known()))
    assert numbers["retrieval/v2a_R@1"] == numbers["retrieval/a2v_R@1"] == 1
    assert numbers["retrieval/chance_R@1"] == 1 / 8
    assert numbers["rank/video"] == pytest.approx(8)
    assert numbers["spread/audio"] == pytest.approx((1 - 1 / 8) ** 0.5)
    assert reads == [1]


def test_lasting_collapse_is_said_once_also_across_a_resume():
    task = Task(Known(collapsed=True))
    monitor = RetrievalMonitor(batches, every_steps=5)
    assert monitor.run(task)["retrieval/v2a_R@1"] == pytest.approx(1 / 8)  # once is no alarm
    resumed = RetrievalMonitor(batches, every_steps=5)
    resumed.load_state_dict(monitor.state_dict())
    with pytest.warns(UserWarning, match="embeddings have collapsed: their spread stays at 0"):
        resumed.run(task)
    resumed.run(task)  # a second warning would be an error here


def test_no_clips_is_no_number():
    assert RetrievalMonitor(list, every_steps=1).run(Task(Known())) == {}
