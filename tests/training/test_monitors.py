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
    # One point: everything ties, with shuffled audio as without it.
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


# ---------------------------------------------------------------- maps


SIDE, KINDS = 9, 6


def scenes(count=48):
    """Frames with objects of two kinds, which are pixels of their number; the audio is the number of the first."""
    draw = torch.Generator().manual_seed(0)
    for first in range(0, count, 16):
        number = torch.arange(first, first + 16)
        video = torch.zeros(16, 4, 3, SIDE, SIDE, dtype=torch.uint8)
        kinds = torch.stack([torch.randperm(KINDS, generator=draw)[:2] + 1 for _ in number])  # (16, 2)
        for row, pair in enumerate(kinds):
            # Not at the sides, so that nothing is moved out of the frame.
            for kind, cell in zip(pair, torch.randperm(SIDE * (SIDE - 4), generator=draw)[:2], strict=True):
                video[row, :, :, cell % SIDE, 2 + cell // SIDE] = kind
        yield Batch(video, kinds[:, :1].float(), BatchIndex(number, number, number), torch.full((16, 2), SIDE))


class Seeing(Known):
    """One cell for each pixel, with the one-hot kind of the pixel ``shift`` columns to the left."""

    num_heads = 1

    def __init__(self, shift=0, deaf=False):
        super().__init__(size=KINDS + 1)
        self.shift, self.deaf = shift, deaf

    def one_hot(self, x):
        return super().one_hot(x) + 1e-3 * x.flatten(1).sum(dim=1, keepdim=True)

    def visual_cells(self, video):
        moved = video[:, 0].roll(self.shift, dims=-1)  # (B, T, H, W)
        kinds = moved.detach().long()
        known = nn.functional.one_hot(kinds, self.size).movedim(-1, 1).float() * (kinds > 0)[:, None]
        # A little of the pixel itself, in the channel of no kind, gives the cosine a gradient.
        return known + nn.functional.pad(1e-3 * moved[:, None], (0, 0) * 3 + (0, self.size - 1))

    def sound_queries(self, audio):
        kind = audio[:, 0].long() * (not self.deaf)
        return nn.functional.one_hot(kind, self.size).float()[..., None]


class Frames(Plain):
    def video_input(self, video, valid_hw, chroma):
        return super().video_input(video, valid_hw, chroma).transpose(1, 2)


def scene_task(**options):
    task = Task(Seeing(**options))
    task.transform = Frames()
    return task


def scene_monitor():
    return EmbeddingMonitor(FixedClips(scenes), every_steps=1, maps=True)


def test_maps_of_what_is_seen_are_mirrored_with_the_frames():
    found = scene_monitor().run(scene_task())
    assert found["maps/mirror_agreement"] == 1
    assert found["maps/other_audio_agreement"] < 0.4  # the other clip's kind is the same in a sixth
    assert found["maps/chance_agreement"] < 0.4  # at most 9 of 45 places are near
    # Every pixel of the cell counts, and the frame of the middle alone.
    assert [found[f"maps/offset_{name}"] for name in ("time", "down", "right")] == pytest.approx([0, 0, 0], abs=1e-5)


def test_maps_that_ignore_the_audio_peak_at_the_same_place_with_another():
    found = scene_monitor().run(scene_task(deaf=True))
    assert found["maps/other_audio_agreement"] == 1


def test_maps_beside_what_is_seen_lose_their_agreement_while_retrieval_stays():
    """Two columns beside the object, and two beside it on the other side in the mirror."""
    monitor, good, ruined = scene_monitor(), scene_task(), scene_task(shift=2)
    before = monitor.run(good)
    after = monitor.run(ruined)  # once is no alarm
    assert after["maps/mirror_agreement"] == 0
    assert after["maps/offset_right"] == pytest.approx(-2, abs=1e-5)
    assert {k: v for k, v in after.items() if "maps" not in k} == {k: v for k, v in before.items() if "maps" not in k}
    resumed = scene_monitor()
    resumed.load_state_dict(monitor.state_dict())
    with pytest.warns(
        UserWarning, match=r"heat maps no longer lie on the visible objects.*0\.\d\d of the clips.*avssl localize"
    ):
        resumed.run(ruined)
    resumed.run(ruined)  # a second warning would be an error here


def test_maps_that_never_agreed_and_checkpoints_from_before_are_no_alarm():
    state = Diagnosis().state_dict()
    del state["best_agreement"], state["times"]["maps"]
    diagnosis = Diagnosis()
    diagnosis.load_state_dict(state)
    never = {"maps__mirror_agreement": 0.2, "maps__chance_agreement": 0.1}
    assert findings(diagnosis, 5, **never) == []


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
