"""The image and text towers of CLIP and SigLIP, and CLAP's texts, against those of transformers."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from avssl.models import create_encoder, encoder_builder
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.text import text_encoder
from avssl.models.foreign.weights import WeightsError, weight_folder
from avssl.transforms import create_spectrogram

transformers = pytest.importorskip("transformers")


def encoder_of(folder):
    spec = encoder_builder("image_text").spec_of(Spec(""), weight_folder(str(folder)))
    encoder = create_encoder("image_text", **spec.words(), pretrained=str(folder), pool="token", frozen=True)
    encoder.load_pretrained()
    return encoder.eval()


@pytest.fixture(params=["clip", "siglip"])
def pair(request, tiny_image_text):
    """The folder of a tiny model and the model of transformers in it."""
    folder = tiny_image_text(request.param)
    kind = {"clip": "CLIPModel", "siglip": "SiglipModel"}[request.param]
    return folder, getattr(transformers, kind).from_pretrained(folder).eval()


def test_frames_have_the_vectors_of_transformers(pair):
    folder, theirs = pair
    encoder, x = encoder_of(folder), torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.get_image_features(x.transpose(1, 2).flatten(0, 1)).pooler_output.view(2, 3, -1)
        pooled, cells = encoder.forward_pooled(x)
    torch.testing.assert_close(pooled, expected.mean(dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(x), pooled)
    torch.testing.assert_close(encoder.tokens(x).extra[:, :, 0], expected, atol=1e-5, rtol=1e-4)
    assert cells.shape == (2, expected.shape[-1], 3, 4, 4)
    assert list(encoder.forward_stages(x)) == ["block.0", "block.1"]
    larger = encoder.forward_features(torch.randn(1, 3, 1, 40, 48))
    assert larger.shape[2:] == (1, 5, 6)


def test_a_cell_reads_its_patch_alone(pair):
    """If no patch attends to another one in the last layer, the vector of a patch is its cell."""
    folder, theirs = pair
    encoder, x = encoder_of(folder), torch.randn(1, 3, 1, 32, 32)
    with torch.no_grad():
        cells = encoder.forward_features(x)[0, :, 0].flatten(1).T  # (N, C)
        vision = theirs.vision_model
        if theirs.config.model_type == "clip":
            hidden = vision.encoder.layers[0](vision.pre_layrnorm(vision.embeddings(x[:, :, 0])), attention_mask=None)
            apart = torch.eye(hidden.shape[1]).log()[None, None]  # 0 on the diagonal, minus infinity elsewhere
            hidden = vision.encoder.layers[1](hidden, attention_mask=apart)[:, 1:]
            expected = theirs.visual_projection(vision.post_layernorm(hidden))[0]
        else:
            hidden = vision(x[:, :, 0]).last_hidden_state[0]
            expected = torch.cat([vision.head(patch[None, None]) for patch in hidden])
    torch.testing.assert_close(cells, expected, atol=1e-5, rtol=1e-4)


def test_the_contract_is_that_of_its_processor(pair):
    folder, _ = pair
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    contract = encoder_of(folder).contract
    assert contract.size == 32
    assert contract.mean == pytest.approx(processor.image_mean)
    assert contract.std == pytest.approx(processor.image_std)
    assert contract.interpolation == "bicubic"
    assert contract.resize_short == (32 if processor.do_center_crop else None)


def test_audio_has_the_vectors_of_transformers_and_a_cell_is_projected_alone(tiny_image_text):
    folder = tiny_image_text("clap")
    theirs = transformers.ClapModel.from_pretrained(folder).eval()
    spec = encoder_builder("audio_text").spec_of(Spec(""), weight_folder(str(folder)))
    encoder = create_encoder("audio_text", modality="audio", **spec.words(), pretrained=str(folder), pool="token")
    encoder.load_pretrained()
    contract = encoder.eval().contract
    x = create_spectrogram(contract.spectrogram, sample_rate_hz=8000, **contract.options)(torch.randn(2, 5000))
    with torch.no_grad():
        expected = theirs.get_audio_features(input_features=x)
        pooled, cells = encoder.forward_pooled(x)
        alone = theirs.audio_projection(expected.last_hidden_state[:, :, 1, 2])
    found = torch.nn.functional.normalize(pooled, dim=1)
    torch.testing.assert_close(found, expected.pooler_output, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(x), pooled)
    assert cells.shape[:2] == (2, 12)
    assert (cells.flatten(2) - alone[:, :, None]).norm(dim=1).amin(dim=1).max() < 1e-5
    encoder.set_window(0.5)
    assert encoder.forward_pooled(x)[1].shape[2] == encoder.forward_features(x).shape[2] == cells.shape[2] // 2


@pytest.mark.parametrize("kind", ["clip", "siglip", "clap"])
def test_texts_have_the_vectors_of_transformers(kind, tiny_image_text):
    folder = tiny_image_text(kind)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    texts = ["a dog barks", "the violin", "rain"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {"padding": True}
    tokens = tokenizer(texts, return_tensors="pt", **padding)
    mask = {} if kind == "siglip" else {"attention_mask": tokens["attention_mask"]}
    with torch.no_grad():
        expected = theirs.get_text_features(input_ids=tokens["input_ids"], **mask).pooler_output
    encoder = text_encoder(weight_folder(str(folder))).eval()
    found = encoder(texts)
    assert torch.equal(found["video"], found["audio"])
    torch.testing.assert_close(found["video"], torch.nn.functional.normalize(expected, dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(texts[:1])["audio"], found["audio"][:1], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="tokens, but the text tower takes 12 at most"):
        encoder(["a " * 20])


def test_folders_without_text_or_of_other_models_are_errors(tiny_image_text, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(
        WeightsError, match="model_type 'vit' has no text tower; pe_audio_video, clip, siglip, clap have"
    ):
        text_encoder(weight_folder(str(tmp_path)))
    with pytest.raises(WeightsError, match="model_type 'vit', not clip or siglip"):
        encoder_of(tmp_path)
    with pytest.raises(ValueError, match="must be clip or siglip, or empty beside pretrained"):
        create_encoder("image_text", backbone="clop")
    folder = tiny_image_text("clip")
    other = create_encoder(
        "image_text", backbone="clip", config=("hidden_size=8", "num_attention_heads=2"), pretrained=str(folder)
    )
    with pytest.raises(WeightsError, match="not the weights of this tower"):
        other.load_pretrained()


@pytest.mark.parametrize(
    ("kind", "tower", "name"),
    [("CLIP", "image_text", "vision_model.encoder.layers.7.mlp.fc1.bias"), ("Clap", "audio_text", "audio_model.x")],
)
def test_tensors_without_a_place_are_told(kind, tower, name, tiny_image_text, tmp_path, caplog):
    folder = shutil.copytree(tiny_image_text(kind.lower()), tmp_path / "weights")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, name: torch.zeros(4)}, folder / "model.safetensors", {"format": "pt"})
    spec = encoder_builder(tower).spec_of(Spec(""), weight_folder(str(folder)))
    encoder = create_encoder(tower, **spec.words(), pretrained=str(folder))
    with caplog.at_level("INFO", logger="avssl"):
        encoder.load_pretrained()
    (record,) = [record for record in caplog.records if "not used" in record.message]
    assert record.levelname == "WARNING"
    assert record.message.endswith(f"1 of its tensors are not used, as {kind}Model has no place for them: {name}")
