"""The towers of PE-AV against those of transformers."""

import pytest
import torch

from avssl.models import create_encoder
from avssl.models.foreign.pe import PeVideoEncoder, padded
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.weights import WeightsError, weight_folder
from avssl.transforms import VideoEval

transformers = pytest.importorskip("transformers")


@pytest.fixture
def theirs(tiny_pe_av_model):
    return tiny_pe_av_model


def ours(name, folder, **options):
    """Build a tower with the weights of a folder, as a run does."""
    from avssl.models import encoder_builder

    spec = encoder_builder(name).spec_of(Spec(""), weight_folder(str(folder)))
    encoder = create_encoder(name, **spec.words(), pretrained=str(folder), pool="token", **options)
    encoder.load_pretrained()
    return encoder.eval()


@pytest.mark.parametrize("frames", [1, 4])
def test_the_video_tower_is_that_of_transformers(tiny_pe_av, theirs, frames):
    tower, x = ours("pe_video", tiny_pe_av), torch.randn(2, 3, frames, 32, 32)
    with torch.no_grad():
        expected = theirs.video_model.video_encoder(x.transpose(1, 2).contiguous()).pooler_output
        pooled, cells = tower.forward_pooled(x)
        torch.testing.assert_close(tower(x), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
        assert cells.shape == (2, 16, 1, 4, 4)
        torch.testing.assert_close(tower.forward_features(x), cells)


def test_a_cell_is_the_class_token_of_its_patch_alone(tiny_pe_av, theirs):
    """Their own modules give it if every other patch is taken away behind the image network."""
    tower, x = ours("pe_video", tiny_pe_av), torch.randn(1, 3, 4, 32, 32)
    network = theirs.video_model.video_encoder
    vision = network.embedder.vision_model.timm_model
    with torch.no_grad():
        cells, tokens = tower.forward_features(x), vision.forward_features(x[0].transpose(0, 1))
        for row, column in ((0, 0), (1, 3), (3, 2)):
            patch = tokens[:, 1 + 4 * row + column, None]
            logits = vision.forward_head(patch)[None]
            embedded = network.embedder.proj(torch.nn.functional.normalize(logits, dim=-1))
            hidden, _ = network.patch_embedder(network.embedder.data_proj(embedded))
            places = network.rotary_emb(hidden, torch.arange(5)[None])
            for layer in network.layers:
                hidden = layer(hidden, position_embeddings=places)
            expected = network.output(network.norm(hidden))[0, 0]
            torch.testing.assert_close(cells[0, :, 0, row, column], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("samples", [320, 333])
def test_the_audio_tower_and_its_padding_are_those_of_transformers(tiny_pe_av, theirs, samples):
    tower, waveform = ours("pe_audio", tiny_pe_av), torch.rand(2, samples) - 0.5
    extractor = transformers.AutoProcessor.from_pretrained(tiny_pe_av).feature_extractor
    inputs = extractor([*waveform.numpy()], sampling_rate=8000, return_tensors="pt")
    torch.testing.assert_close(padded(waveform[:, None], 32), inputs["input_values"], atol=0, rtol=0)
    with torch.no_grad():
        output = theirs.audio_model.audio_encoder(inputs["input_values"])
        pooled, cells = tower.forward_pooled(waveform[:, None, :, None])
        torch.testing.assert_close(pooled, output.pooler_output, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(cells[..., 0].transpose(1, 2), output.last_hidden_state, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tower(waveform[:, None, :, None]), pooled)


def test_stages_have_maps_and_the_codec_is_fixed(tiny_pe_av):
    video, audio = ours("pe_video", tiny_pe_av), ours("pe_audio", tiny_pe_av)
    x = torch.randn(2, 3, 4, 32, 32)
    stages = video.forward_stages(x)
    assert {name: tuple(each.shape) for name, each in stages.items()} == {
        "block.0": (2, 16, 4, 4, 4),
        "block.1": (2, 16, 4, 4, 4),
        "layer.0": (2, 16, 1, 4, 4),
    }
    torch.testing.assert_close(stages["layer.0"], video.forward_features(x))
    assert list(audio.forward_stages(torch.randn(2, 1, 320, 1))) == ["layer.0"]
    trained = {name for name, parameter in audio.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any("dac_encoder" in name or "bottleneck" in name for name in trained)
    audio.train()(torch.randn(2, 1, 320, 1)).sum().backward()
    assert all(p.grad is not None for p in audio.parameters() if p.requires_grad)


def test_frames_are_those_of_the_processor(tiny_pe_av):
    """Compared on float frames: 8-bit frames are rounded after their resize."""
    spec = PeVideoEncoder.spec_of(Spec(""), weight_folder(str(tiny_pe_av)))
    contract = PeVideoEncoder.contract_of(spec)
    assert (contract.size, contract.num_frames, contract.mean) == (32, 4, (0.4, 0.5, 0.6))
    processor = transformers.AutoProcessor.from_pretrained(tiny_pe_av).video_processor
    frames = torch.randint(0, 256, (4, 3, 60, 80), dtype=torch.uint8)
    wanted = processor(videos=[frames.float()], return_tensors="pt")["pixel_values_videos"][0]
    ours = VideoEval(
        contract.size, crop="full", interpolation=contract.interpolation, mean=contract.mean, std=contract.std
    )(frames[None], torch.tensor([[60, 80]]))[0]
    assert contract.resize_short is None
    torch.testing.assert_close(ours.transpose(0, 1), wanted, atol=1e-4, rtol=0)


def test_weights_of_another_tower_are_named(tiny_pe_av, tmp_path):
    tower = ours("pe_audio", tiny_pe_av)
    words = [word for word in tower.backbone.spec.words()["config"] if not word.startswith("intermediate_size")]
    other = create_encoder("pe_audio", config=(*words, "intermediate_size=20"), pretrained=str(tiny_pe_av))
    with pytest.raises(
        WeightsError, match=r"not the weights of this audio tower: layers.0.mlp.down_proj.weight is \(16, 16\)"
    ):
        other.load_pretrained()
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="model_type 'clip', not pe_audio_video or pe_video"):
        ours("pe_video", tmp_path)
    with pytest.raises(ValueError, match=r"config \('widht'\) is not a setting"):
        create_encoder("pe_audio", config=("widht=3",))
