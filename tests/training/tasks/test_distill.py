import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avssl.core.batch import Batch, BatchIndex
from avssl.models import Classifier, create_encoder
from avssl.training.tasks import DistillTask

TARGETS = torch.tensor([2, -1, 1, -1])


class Plain(nn.Module):
    """Raw batch to a transformed one, the shortest way."""

    def forward(self, batch):
        return Batch(batch.video.float().transpose(1, 2) / 255, batch.audio.unflatten(1, (1, 16, 16)), batch.index)


def classifier(seed, dropout=0.0):
    torch.manual_seed(seed)
    return Classifier(create_encoder("small_video", width=4), num_classes=3, dropout=dropout)


def batch():
    generator = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (4, 4, 3, 16, 16), dtype=torch.uint8, generator=generator)
    rows = torch.arange(4)
    return Batch(video, torch.randn(4, 256, generator=generator), BatchIndex(rows, rows, rows), torch.full((4, 2), 16))


def logits(student, teacher):
    video = Plain()(batch()).video
    return student(video), teacher.eval()(video)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_loss_is_the_cross_entropy_of_the_teachers_probabilities(temperature):
    student, teacher = classifier(0), classifier(1)
    task = DistillTask(Plain(), student, teacher, temperature=temperature).eval()
    ours, theirs = logits(student, teacher)
    loss = 0.0
    for clip in range(4):  # SimCLRv2, eq. 2
        p, q = (torch.exp(x[clip] / temperature) for x in (theirs, ours))
        loss = loss - ((p / p.sum()) * torch.log(q / q.sum())).sum() / 4
    torch.testing.assert_close(task(batch()).total, loss)


def test_labels_are_mixed_in_where_there_are_any():
    student, teacher = classifier(0), classifier(1)
    task = DistillTask(Plain(), student, teacher, TARGETS, teacher_weight=0.75).eval()
    ours, theirs = logits(student, teacher)
    distilled = F.cross_entropy(ours, theirs.softmax(1))
    labeled = -(ours.log_softmax(1)[0, 2] + ours.log_softmax(1)[2, 1]) / 4  # eq. 3 sums over the labeled clips
    torch.testing.assert_close(task(batch()).total, 0.75 * distilled + 0.25 * labeled)


def test_multi_label_teachers_are_sigmoids():
    student, teacher = classifier(0), classifier(1)
    task = DistillTask(Plain(), student, teacher, temperature=2.0, multi_label=True).eval()
    ours, theirs = logits(student, teacher)
    expected = F.binary_cross_entropy_with_logits(ours / 2, (theirs / 2).sigmoid())
    torch.testing.assert_close(task(batch()).total, expected)


def test_a_student_that_equals_its_teacher_has_no_gradient():
    student, teacher = classifier(0), classifier(0)
    task = DistillTask(Plain(), student, teacher).eval()
    terms = task(batch())
    terms.total.backward()
    assert terms.terms["agreement"] == 1
    assert max(p.grad.abs().max().item() for p in student.parameters()) < 1e-6


def test_teacher_is_neither_trained_nor_saved_nor_changed():
    teacher = classifier(1, dropout=0.5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task = DistillTask(Plain(), classifier(0), teacher).train()
    task(batch()).total.backward()
    assert {id(p) for p in task.parameters()}.isdisjoint({id(p) for p in teacher.parameters()})
    assert all(name.startswith("model.") for name in task.state_dict())
    assert not teacher.training, "train() is for the student alone"
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_teacher_computes_in_the_precision_of_the_run():
    task = DistillTask(Plain(), classifier(0), classifier(1))
    assert task.networks() == [task.model, task.target]
    assert isinstance(task.target, Classifier)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"teacher_weight": 1.5}, "teacher_weight"),
        ({"teacher_weight": 0.5}, "needs targets"),
        ({"teacher_weight": 0.5, "targets": TARGETS, "multi_label": True}, "needs targets, one label a row"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DistillTask(Plain(), classifier(0), classifier(1), **options)


def test_classes_must_be_the_same():
    teacher = Classifier(create_encoder("small_video", width=4), num_classes=5)
    with pytest.raises(ValueError, match="the teacher has 5 classes, the student 3"):
        DistillTask(Plain(), classifier(0), teacher)
