import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import clip_key, text_keys
from avssl.models import Classifier, create_classifier_loss, create_encoder
from avssl.training.tasks import ClassifyTask, balanced_weights

TARGETS = torch.tensor([2, 0, 1, 1, 2, 0])


class Plain(nn.Module):
    """Raw batch to a transformed one, the shortest way."""

    def forward(self, batch):
        return Batch(batch.video.float().transpose(1, 2) / 255, batch.audio.unflatten(1, (1, 16, 16)), batch.index)


class Rows(nn.Module):
    """Logits by hand: a head gives scale * the mean of the video's colors."""

    num_classes = 3
    loss = create_classifier_loss("softmax")

    def __init__(self, *scales):
        super().__init__()
        self.scales = nn.Parameter(torch.tensor(scales))

    def forward(self, video, audio, each_head=False):
        return tuple(scale * video.mean(dim=(2, 3, 4)) for scale in self.scales)


def batch(rows=(0, 1, 2, 3, 4, 5)):
    generator = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (6, 4, 3, 16, 16), dtype=torch.uint8, generator=generator)[list(rows)]
    audio = torch.randn(6, 256, generator=generator)[list(rows)]
    row = torch.tensor(rows)
    key = clip_key(0, 0, text_keys(f"clip{i}" for i in range(6)))[list(rows)]
    return Batch(video, audio, BatchIndex(row, row, key), torch.full((len(row), 2), 16))


def colors(rows=(0, 1, 2, 3, 4, 5)):
    """(B, 3): what :class:`Rows` multiplies."""
    return Plain()(batch(rows)).video.mean(dim=(2, 3, 4))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 4.0])])
def test_single_label_loss_equals_torchs(smoothing, weights):
    task = ClassifyTask(Plain(), Rows(9.0), TARGETS, label_smoothing=smoothing, class_weights=weights)
    expected = nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(9 * colors(), TARGETS)
    torch.testing.assert_close(task(batch()).total, expected)


def test_targets_are_those_of_the_rows():
    rows = (4, 2, 3)
    terms = ClassifyTask(Plain(), Rows(9.0), TARGETS)(batch(rows))
    logits = 9 * colors(rows)
    torch.testing.assert_close(terms.total, F.cross_entropy(logits, TARGETS[list(rows)]))
    hits = logits.argmax(1) == TARGETS[list(rows)]
    assert terms.terms["accuracy"].item() == pytest.approx(hits.float().mean().item())


def test_several_heads_are_each_trained():
    terms = ClassifyTask(Plain(), Rows(9.0, -3.0), TARGETS)(batch())
    each = [F.cross_entropy(scale * colors(), TARGETS) for scale in (9.0, -3.0)]
    torch.testing.assert_close(terms.total, sum(each) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_multi_label_loss_equals_torchs(smoothing):
    targets = torch.rand(6, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    task = ClassifyTask(Plain(), Rows(9.0), targets, label_smoothing=smoothing)
    wanted = targets.float() * (1 - smoothing) + smoothing / 2
    expected = nn.BCEWithLogitsLoss()(9 * colors(), wanted)
    terms = task(batch())
    torch.testing.assert_close(terms.total, expected)
    hits = [bool(target[best]) for target, best in zip(targets, colors().argmax(1), strict=True)]
    assert terms.terms["accuracy"].item() == pytest.approx(sum(hits) / 6)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 4.0])])
def test_mixup_is_the_loss_of_mixed_inputs_and_targets(weights):
    task = ClassifyTask(Plain(), Rows(9.0), TARGETS, mixup_alpha=0.8, class_weights=weights)
    share, partner = task.mixup(batch().index.key)
    mixed = share[:, None] * colors() + (1 - share[:, None]) * colors()[partner]
    per_class = torch.ones(3) if weights is None else weights
    loss = weight = 0.0
    for i in range(6):
        log_p = (9 * mixed[i]).log_softmax(0)
        for target, part in ((TARGETS[i], share[i]), (TARGETS[partner[i]], 1 - share[i])):
            loss = loss - part * per_class[target] * log_p[target]
            weight = weight + part * per_class[target]
    torch.testing.assert_close(task(batch()).total, loss / weight)


def test_mixup_of_multi_label_targets():
    targets = torch.eye(3, dtype=torch.bool).repeat(2, 1)
    task = ClassifyTask(Plain(), Rows(9.0), targets, mixup_alpha=0.8)
    share, partner = task.mixup(batch().index.key)
    share = share[:, None]
    mixed = share * colors() + (1 - share) * colors()[partner]
    wanted = share * targets.float() + (1 - share) * targets[partner].float()
    torch.testing.assert_close(task(batch()).total, F.binary_cross_entropy_with_logits(9 * mixed, wanted))


def test_balanced_weights_equal_scikit_learns():
    targets = torch.tensor([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets.numpy())
    assert balanced_weights(targets, 3).tolist() == pytest.approx(expected.tolist())
    with pytest.raises(ValueError, match="class 3 has none"):
        balanced_weights(targets, 4)


def test_frozen_batch_norm_moves_no_statistics():
    for frozen in (False, True):
        encoder = create_encoder("small_video", width=4)
        task = ClassifyTask(Plain(), Classifier(encoder, num_classes=3), TARGETS, frozen_batch_norm=frozen).train()
        task(batch())
        assert torch.equal(encoder.stem[1].running_mean, torch.zeros(4)) == frozen


def test_every_parameter_gets_a_gradient_and_checkpoints_hold_no_labels():
    classifier = Classifier(
        create_encoder("small_video", width=4), create_encoder("small_audio", width=4), num_classes=3
    )
    task = ClassifyTask(Plain(), classifier, TARGETS, class_weights=torch.ones(3), mixup_alpha=1.0).train()
    task(batch()).total.backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []
    assert all(name.startswith("model.") for name in task.state_dict())


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (torch.tensor([0, 3]), {}, r"targets must be \(N,\) int64 in \[0, 3\)"),
        (torch.tensor([-1, 0]), {}, "targets must be"),
        (torch.zeros(2, 4, dtype=torch.bool), {}, "targets must be"),
        (TARGETS, {"label_smoothing": 1.0}, "label_smoothing"),
        (TARGETS, {"class_weights": torch.ones(2)}, "class_weights"),
        (torch.zeros(2, 3, dtype=torch.bool), {"class_weights": torch.ones(3)}, "single-label"),
    ],
)
def test_impossible_settings_are_refused(targets, options, message):
    with pytest.raises(ValueError, match=message):
        ClassifyTask(Plain(), Rows(1.0), targets, **options)
