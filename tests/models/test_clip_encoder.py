"""The one path from raw clips to vectors, stage maps, cells and queries."""

import pytest
import torch
import torch.nn.functional as F

from avssl.config import config_from_dict
from avssl.core.batch import Batch, BatchIndex
from avssl.engine import Precision, all_precisions
from avssl.models import Classifier, ClipClassifier, ClipEncoder, unit_cells
from avssl.training.build import build_model, build_transform

CONFIG = config_from_dict(
    {
        "sampling": {"num_frames": 4, "frames_per_second": 4, "audio_seconds": 1, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 8, "window_length": 256}},
        "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 8, "out_features": 6}},
    }
)


@pytest.fixture
def parts():
    model, transform = build_model(CONFIG, 0).eval(), build_transform(CONFIG).eval()
    transform.standardize.set_statistics(torch.zeros(8), torch.ones(8))
    return model, transform


@pytest.fixture
def raw():
    """Two clips of different sizes on one canvas."""
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (2, 4, 3, 40, 48), dtype=torch.uint8, generator=generator)
    index = BatchIndex(*(torch.arange(2) for _ in range(3)))
    return Batch(video, torch.rand(2, 8000, generator=generator), index, torch.tensor([[40, 48], [32, 40]]))


@torch.no_grad()
def test_it_gives_what_transform_and_model_give(parts, raw):
    model, transform = parts
    encoder, views = ClipEncoder(model, transform), transform(raw)
    expected = model(views.video, views.audio)
    video, audio = (encoder.encode_batch(raw, name) for name in ("video", "audio"))
    assert torch.equal(video.embedding, expected.video)
    assert torch.equal(audio.embedding, expected.audio)
    assert torch.equal(video.features, model.encode_video(views.video))
    assert torch.equal(audio.vectors("features"), model.encode_audio(views.audio))
    assert torch.equal(audio.vectors("embeddings"), F.normalize(expected.audio, dim=1))
    assert torch.equal(encoder.cells(encoder.video_input(raw.video, raw.valid_hw)), unit_cells(model, views.video))
    assert torch.equal(encoder.queries(encoder.audio_input(raw.audio)), model.sound_queries(views.audio))


@torch.no_grad()
def test_stages_come_with_the_same_features(parts, raw):
    model, transform = parts
    encoder = ClipEncoder(model, transform)
    plain, found = encoder.encode_batch(raw, "video"), encoder.encode_batch(raw, "video", detail="stages")
    assert plain.stages == {}
    assert list(found.stages) == list(model.video_encoder.stage_names)
    assert torch.equal(found.features, plain.features)


def test_precision_is_that_of_the_run(parts, raw):
    half = ClipEncoder(*parts, Precision("bf16", "channels_last")).encode_batch(raw, "video")
    assert half.embedding.dtype == torch.bfloat16
    assert half.vectors("embeddings").dtype == torch.float32
    assert not half.embedding.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("precision", all_precisions(), ids=str)
def test_a_classifier_computes_as_in_training(parts, raw, precision):
    model, transform = parts
    classifier = Classifier.of(model, 5, inputs="both").eval()
    encoder, views = ClipClassifier(classifier, transform, precision), transform(raw)
    logits = encoder.logits(raw)
    heads = classifier.head_logits({name: encoder.features(raw, name) for name in ("video", "audio")})
    handle = precision.apply(classifier, "cpu")
    assert torch.equal(logits, classifier(views.video, views.audio))
    handle.remove()
    torch.testing.assert_close(torch.stack([*heads.values()]).mean(0), logits, rtol=2e-2, atol=2e-2)


def test_training_mode_is_an_error(parts):
    model, transform = parts
    with pytest.raises(ValueError, match=r"transform is in training mode.*transform\.eval\(\)"):
        ClipEncoder(model, transform.train())
    with pytest.raises(ValueError, match=r"model is in training mode.*model\.eval\(\)"):
        ClipEncoder(model.train(), transform)
