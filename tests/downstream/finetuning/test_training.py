import pytest
import torch
from torch import nn

from avssl.config import FinetuneConfig, FinetuneOptimConfig, Steps, config_from_dict
from avssl.downstream.finetuning import TrainingLength, build_schedule, rate_groups
from avssl.engine import create_optimizer
from avssl.engine.optim import set_lr
from avssl.models import AVModel, Classifier, create_encoder, create_head


@pytest.fixture
def model():
    video, audio = create_encoder("small_video", width=4), create_encoder("small_audio", width=4)
    pair = AVModel(video, audio, *(create_head("linear", e.num_features, 8) for e in (video, audio)))
    return Classifier.of(pair, 3, inputs="both")


def test_rates_by_stage_equal_those_by_hand(model):
    optim = FinetuneOptimConfig(lr=0.1, head_lr=0.8, layer_decay=0.5)
    optimizer = create_optimizer(rate_groups(model, optim, head_steps=10), "sgd", lr=optim.lr, weight_decay=0.0)

    def rates(step):
        set_lr(optimizer, 0.1, step)
        held = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        return {name: held[id(p)] for name, p in model.named_parameters()}

    after = rates(10)
    expected = {
        "heads.video.weight": 0.8,
        "heads.audio.bias": 0.8,
        "encoders.video.stage2.0.spatial.weight": 0.1,
        "encoders.video.stage1.0.spatial_bn.weight": 0.05,
        "encoders.video.stem.0.weight": 0.025,
        "encoders.audio.stage4.0.weight": 0.1,
        "encoders.audio.stage1.1.bias": 0.0125,
    }
    assert {name: after[name] for name in expected} == pytest.approx(expected)
    assert set(after) == dict(model.named_parameters()).keys()
    before = rates(9)
    assert {name for name, rate in before.items() if rate} == {name for name in before if name.startswith("heads")}


def test_length_counts_head_epochs_and_multiplies_epochs_to_min_steps():
    assert TrainingLength.from_config(FinetuneOptimConfig(head_epochs=5, epochs=16), 10) == TrainingLength(
        10, 1, 50, 210
    )
    assert TrainingLength.from_config(FinetuneOptimConfig(head_epochs=1, epochs=4, min_steps=11), 1) == TrainingLength(
        1, 3, 3, 15
    )
    assert TrainingLength.from_config(FinetuneOptimConfig(epochs=4, min_steps=8), 2).epoch_factor == 1


def test_milestones_count_from_the_end_of_the_head_epochs_and_are_multiplied_too():
    config = config_from_dict(
        {
            "optim": {"lr": 1.0, "head_epochs": 1, "epochs": 3, "min_steps": 16},
            "schedule": {"at_epochs": [1, 2], "factor": 0.5},
        },
        root=FinetuneConfig,
    )
    length = TrainingLength.from_config(config.optim, steps_per_epoch=2)
    assert length == TrainingLength(2, 2, 4, 16)
    rates = [build_schedule(config, length)(step) for step in range(16)]
    assert rates == [1.0] * 8 + [0.5] * 4 + [0.25] * 4
    assert isinstance(config.schedule, Steps)


def test_cosine_ends_at_its_last_rate():
    tree = {"optim": {"lr": 1.0, "epochs": 4, "warmup_epochs": 1}, "schedule": {"name": "cosine", "final_lr": 0.1}}
    config = config_from_dict(tree, root=FinetuneConfig)
    rate = build_schedule(config, TrainingLength.from_config(config.optim, 5))
    assert [rate(0), rate(4), rate(5)] == pytest.approx([0.2, 1.0, 1.0])
    assert rate(20) == pytest.approx(0.1)


def test_layer_decay_trains_as_loops_of_sgd_would():
    """One step of plain SGD: every weight moves by its own rate times its gradient."""
    torch.manual_seed(0)
    classifier = Classifier(create_encoder("small_audio", width=4), num_classes=2).eval()
    optim = FinetuneOptimConfig(lr=0.1, head_lr=0.3, layer_decay=0.5, betas=(0.0, 0.0))
    optimizer = create_optimizer(rate_groups(classifier, optim, 0), "sgd", lr=0.1, betas=optim.betas, weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in classifier.named_parameters()}
    classifier(audio=torch.randn(3, 1, 20, 16)).square().mean().backward()
    set_lr(optimizer, 0.1, 0)
    optimizer.step()
    scales = {"stage4": 0.1, "stage3": 0.05, "stage2": 0.025, "stage1": 0.0125, "heads": 0.3}
    for name, parameter in classifier.named_parameters():
        rate = next(rate for part, rate in scales.items() if part in name)
        torch.testing.assert_close(parameter.detach(), before[name] - rate * parameter.grad, msg=name)
    assert isinstance(classifier.heads["audio"], nn.Linear)
