import warnings

import pytest
import torch
from torch import nn

from avssl.core.batch import Batch, BatchIndex
from avssl.training.monitors import Diagnosis, EmbeddingMonitor, FixedClips, ProbeMonitor
from avssl.training.monitors.embedding import embedding_numbers


def batches(count=8, silent=False):
    """Clips whose every pixel and sample is their number."""
    for first in range(0, count, 4):
        number = torch.arange(first, first + 4)
        video = number.to(torch.uint8).view(4, 1, 1, 1, 1).expand(4, 1, 3, 2, 2)
        audio = number[:, None].expand(4, 8) * (0.0 if silent else 1.0)
        yield Batch(video, audio, BatchIndex(number, number, number), torch.full((4, 2), 2))


class Known(nn.Module):
    """One-hot embeddings of the clip's number, or one point for all; its features too."""

    def __init__(self, collapsed=False, size=8):
        super().__init__()
        self.scale, self.collapsed, self.size = nn.Parameter(torch.ones(())), collapsed, size

        self.video_encoder = self.audio_encoder = self.one_hot
        self.video_head = self.audio_head = nn.Identity()

    def one_hot(self, x):
        number = x.flatten(1)[:, 0].long()
        return nn.functional.one_hot(number * (not self.collapsed), self.size).float() * self.scale


class Task(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.transform = model, Plain()


class Plain(nn.Module):
    def video_input(self, video, valid_hw, chroma):
        assert not self.training, "measured without augmentation"
        return video.float()

    def audio_input(self, waveforms):
        return waveforms


# ---------------------------------------------------------------- numbers


def test_perfect_pairs_are_retrieved_and_clips_are_read_once():
    reads = []
    monitor = EmbeddingMonitor(FixedClips(lambda: reads.append(1) or batches()), every_steps=5, held_out=True)
    for _ in range(2):
        numbers = monitor.run(Task(Known()))
    assert numbers["retrieval/v2a_R@1"] == numbers["retrieval/a2v_R@1"] == numbers["retrieval/R@10"] == 1
    assert numbers["retrieval/chance_R@1"] == 1 / 8
    assert (numbers["retrieval/held_out"], numbers["retrieval/gallery_size"]) == (1, 8)
    assert numbers["rank/video"] == pytest.approx(8)
    assert numbers["spread/audio"] == pytest.approx((1 - 1 / 8) ** 0.5)
    assert numbers["alignment"] == numbers["modality_gap"] == 0
    # Any two of eight orthonormal vectors are sqrt(2) apart: log exp(-2 * 2).
    assert numbers["uniformity/video"] == pytest.approx(-4)
    assert reads == [1]


def test_shuffled_audio_is_never_retrieved():
    """One-hot pairs: the sound that counts as right ties with six others, behind the true one."""
    numbers = embedding_numbers(torch.eye(8), torch.eye(8))
    assert numbers["retrieval_shuffled/R@1"] == 0
    # One point: everything ties, with shuffled sound as without it.
    point = embedding_numbers(torch.ones(8, 3), torch.ones(8, 3))
    assert point["retrieval_shuffled/R@1"] == point["retrieval/R@1"] == pytest.approx(1 / 8)


def test_without_clips_there_are_no_numbers():
    assert EmbeddingMonitor(FixedClips(list), every_steps=1).run(Task(Known())) == {}
    with pytest.raises(ValueError, match=r"every_steps \(0\)"):
        EmbeddingMonitor(FixedClips(list), every_steps=0)


# ---------------------------------------------------------------- diagnosis


def test_lasting_collapse_is_reported_once_even_across_a_resume():
    task = Task(Known(collapsed=True))
    monitor = EmbeddingMonitor(FixedClips(batches), every_steps=5)
    assert monitor.run(task)["retrieval/v2a_R@1"] == pytest.approx(1 / 8)  # once is no alarm
    resumed = EmbeddingMonitor(FixedClips(batches), every_steps=5)
    resumed.load_state_dict(monitor.state_dict())
    with pytest.warns(UserWarning, match=r"collapsed to one point: their spread stays at 0\. Lower optim\.lr"):
        resumed.run(task)
    resumed.run(task)  # a second warning would be an error here


def numbers(**changes):
    healthy = embedding_numbers(torch.eye(64), torch.eye(64)) | {"retrieval/held_out": 1.0}
    return healthy | {name.replace("__", "/"): value for name, value in changes.items()}


def findings(diagnosis, times, **changes):
    return [text for _ in range(times) for text in diagnosis.findings(numbers(**changes), 64)]


def test_healthy_embeddings_give_no_warning():
    diagnosis = Diagnosis()
    diagnosis.observe({"loss": 4.0})
    diagnosis.observe({"loss": 1.0})
    assert findings(diagnosis, 10) == []


def test_few_directions_are_a_collapse_only_if_pairs_are_close():
    assert findings(Diagnosis(), 5, rank__audio=2.5, alignment=2.0) == []  # as an untrained model is
    (said,) = findings(Diagnosis(), 5, rank__audio=2.5, alignment=0.1)
    assert "audio embeddings have collapsed to about 2.5 of 64 directions" in said
    for word in ("lr", "BatchNorm", "temperature", "augmentations"):
        assert word in said


def test_chance_while_the_loss_falls_is_a_shortcut():
    chance = {"retrieval__R@10": 10 / 64}
    diagnosis = Diagnosis()
    diagnosis.observe({"loss": 4.0})
    diagnosis.observe({"lr": 1.0})
    assert findings(diagnosis, 5, **chance) == []  # it has not fallen yet
    diagnosis.observe({"loss": 2.0})
    assert findings(diagnosis, 2, **chance) == []
    resumed = Diagnosis()
    resumed.load_state_dict(diagnosis.state_dict())
    (said,) = findings(resumed, 5, **chance)
    assert "held-out clips stays at chance (R@10 0.156, chance 0.156) while the loss fell from 4 to 2" in said
    assert "shortcut or faulty pairs" in said


def test_one_good_measurement_resets_the_count():
    diagnosis = Diagnosis()
    diagnosis.observe({"loss": 4.0})
    diagnosis.observe({"loss": 2.0})
    for _ in range(3):
        assert findings(diagnosis, 2, **{"retrieval__R@10": 0.1}) == []
        assert findings(diagnosis, 1) == []


# ---------------------------------------------------------------- probe


def probe(fit_labels, test_labels, count=16):
    clips = FixedClips(lambda: batches(count, silent=True))
    return ProbeMonitor(clips, fit_labels, clips, test_labels, every_steps=1).run(Task(Known(size=count)))


def test_probe_reads_labels_from_features():
    labels = ["a"] * 4 + ["b"] * 12
    found = probe(labels, labels)
    assert found["probe/video_accuracy"] == 1  # one-hot of the clip
    assert found["probe/audio_accuracy"] == found["probe/majority"] == 0.75  # constant features


def test_probe_leaves_out_rows_without_one_known_label():
    labels = ["a"] * 4 + ["b"] * 4 + ["a|b", None, "", "c"] + ["a"] * 4
    found = probe(labels[:8] + ["a", "a", "b", "b"] + [None] * 4, labels)
    assert found["probe/majority"] == pytest.approx(8 / 12)  # of 16: one has two, two none, one an unknown label


def test_probe_without_labels_gives_no_numbers():
    assert probe([None] * 16, [None] * 16) == {}
    assert probe(["a"] * 16, ["a"] * 16) == {}  # one class


def test_warnings_are_errors_here():
    with pytest.raises(UserWarning):
        warnings.warn("so the tests above would fail", stacklevel=1)
