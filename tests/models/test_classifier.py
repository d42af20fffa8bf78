import pytest
import torch
from torch import nn

from avssl.models import AVModel, Classifier, create_classifier_loss, create_encoder, create_head
from avssl.models.batch_norm import hold_statistics

VIDEO, AUDIO = torch.randn(3, 3, 4, 16, 16), torch.randn(3, 1, 20, 16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    video, audio = create_encoder("small_video", width=4), create_encoder("small_audio", width=4)
    heads = (create_head("linear", encoder.num_features, 8) for encoder in (video, audio))
    return AVModel(video, audio, *heads)


@pytest.mark.parametrize("inputs", ["video", "audio", "both"])
@pytest.mark.parametrize("fusion", ["late", "fused"])
def test_logits_have_one_column_a_class(model, inputs, fusion):
    classifier = Classifier.of(model, 5, inputs=inputs, fusion=fusion)
    assert classifier(VIDEO, AUDIO).shape == (3, 5)
    assert classifier.inputs == inputs


def test_one_modality_is_dropout_and_a_linear_layer_on_the_pooled_features(model):
    classifier = Classifier.of(model, 5, inputs="video").eval()
    head = classifier.heads["video"]
    expected = model.encode_video(VIDEO) @ head.weight.T + head.bias
    torch.testing.assert_close(classifier(VIDEO), expected)
    assert classifier.dropout.p == 0.5
    assert not torch.equal(classifier.train()(VIDEO), expected)


def test_late_fusion_is_the_mean_of_log_probabilities(model):
    classifier = Classifier.of(model, 5, inputs="both").eval()
    video, audio = classifier(VIDEO, AUDIO, each_head=True)
    mean = (video.log_softmax(1) + audio.log_softmax(1)) / 2
    torch.testing.assert_close(classifier(VIDEO, AUDIO).softmax(1), mean.softmax(1))


def test_fused_head_sees_both_features(model):
    classifier = Classifier.of(model, 5, inputs="both", fusion="fused").eval()
    joined = torch.cat([model.encode_video(VIDEO), model.encode_audio(AUDIO)], dim=1)
    torch.testing.assert_close(classifier(VIDEO, AUDIO), classifier.heads["both"](joined))


def test_backbone_parameters_are_every_encoder_parameter_by_depth(model):
    classifier = Classifier.of(model, 5, inputs="both")
    groups = list(classifier.backbone_parameters())
    assert [depth for depth, _ in groups] == [0, 1, 2, 0, 1, 2, 3]  # three stages of video, four of audio
    ids = [id(p) for _, parameters in groups for p in parameters]
    assert len(ids) == len(set(ids))
    everything = {id(p) for p in classifier.parameters()}
    assert everything == set(ids) | {id(p) for p in classifier.head_parameters()}
    assert {id(p) for p in groups[0][1]} == {id(p) for p in model.video_encoder.stage2.parameters()}


def test_parameters_outside_the_stages_go_with_the_first(model):
    model.video_encoder.token = nn.Parameter(torch.zeros(3))
    groups = dict(Classifier.of(model, 5).backbone_parameters())
    assert any(p is model.video_encoder.token for p in groups[2])


def test_missing_input_is_named(model):
    with pytest.raises(ValueError, match="reads both, and audio is missing"):
        Classifier.of(model, 5, inputs="both")(VIDEO)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "sound"}, "inputs"),
        ({"fusion": "early"}, "fusion"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_unknown_choices_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        Classifier.of(model, 5, **options)


def test_encoders_must_be_in_order(model):
    with pytest.raises(ValueError, match=r"in this order, got \['audio', 'video'\]"):
        Classifier(model.audio_encoder, model.video_encoder, num_classes=2)
    with pytest.raises(ValueError, match="num_classes"):
        Classifier.of(model, 0)


def test_held_statistics_stay_and_affine_parameters_learn(model):
    encoder = model.video_encoder.train()
    hold_statistics(encoder, None)
    before = encoder.stem[1].running_mean.clone()
    encoder(VIDEO).sum().backward()
    assert torch.equal(encoder.stem[1].running_mean, before)
    assert encoder.stem[1].weight.grad is not None


@pytest.mark.parametrize("fusion", ["late", "fused"])
def test_a_classifier_starts_from_a_layer_of_the_head(fusion):
    torch.manual_seed(0)
    video, audio = create_encoder("small_video", width=4), create_encoder("small_audio", width=4)
    heads = [create_head("mlp_bn", encoder.num_features, 8, hidden=6) for encoder in (video, audio)]
    model = AVModel(video, audio, *heads)
    classifier = Classifier.of(model, 5, inputs="both", fusion=fusion, from_head_layer=1).eval()
    middle = [head.forward_layers(x)["head.1"] for head, x in zip(heads, (video(VIDEO), audio(AUDIO)), strict=True)]
    if fusion == "fused":
        expected = classifier.heads["both"](torch.cat(middle, dim=1))
    else:
        expected = (classifier.heads["video"](middle[0]) + classifier.heads["audio"](middle[1])) / 2
    torch.testing.assert_close(classifier(VIDEO, AUDIO), expected)
    trained = [p for _, parameters in classifier.backbone_parameters() for p in parameters]
    assert len(trained) + len(classifier.head_parameters()) == len(list(classifier.parameters()))
    whole = Classifier.of(model, 5, from_head_layer=3).eval()
    torch.testing.assert_close(whole(VIDEO), whole.heads["video"](model.embed_video(VIDEO)))
    assert not any(name.startswith("projections") for name in Classifier.of(model, 5).state_dict())
    with pytest.raises(ValueError, match="the head has 3 layers"):
        Classifier.of(model, 5, from_head_layer=4)


def test_the_loss_chooses_the_last_layer(model):
    classifier = Classifier.of(model, 5, loss=create_classifier_loss("cosine_softmax", temperature=0.1)).eval()
    assert classifier(VIDEO).abs().max() <= 10.0001
    assert list(classifier.heads.state_dict()) == ["video.weight"]
