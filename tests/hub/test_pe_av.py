"""A PE-AV of transformers as a pretrained model: the same embeddings, and all that models are used for."""

import shutil

import pytest
import torch

import avssl
from avssl.core.batch import Batch, BatchIndex
from avssl.hub.pretrained import HubError, from_pretrained, random_init

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def pretrained(tiny_pe_av):
    return from_pretrained(tiny_pe_av)


@pytest.fixture(scope="module")
def clip(pretrained):
    """Two clips, as they are decoded."""
    generator = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (2, 4, 3, 48, 64), generator=generator, dtype=torch.uint8)
    audio = torch.rand(2, pretrained.sampling.num_samples, generator=generator) - 0.5
    rows = torch.arange(2)
    return Batch(video, audio, BatchIndex(rows, rows, rows), torch.tensor([[48, 64]] * 2))


def test_embeddings_are_those_of_transformers_with_its_processor(tiny_pe_av, tiny_pe_av_model, pretrained, clip):
    """Frames are resized without rounding to whole levels, so the processor gets floating-point frames too."""
    processor = transformers.AutoProcessor.from_pretrained(tiny_pe_av)
    frames = processor.video_processor([*clip.video.float()], do_sample_frames=False, return_tensors="pt")
    sounds = processor.feature_extractor([*clip.audio.numpy()], sampling_rate=8000, return_tensors="pt")
    ours = pretrained.encoder().video_input(clip.video, clip.valid_hw)
    torch.testing.assert_close(ours.transpose(1, 2), frames["pixel_values_videos"], atol=1e-4, rtol=0)
    assert pretrained.transform.video_eval.crop == "full"
    with torch.no_grad():
        theirs = tiny_pe_av_model(**frames, input_values=sounds["input_values"])
    found = pretrained.encode(clip)
    torch.testing.assert_close(found["video"].embedding, theirs.video_embeds, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["audio"].embedding, theirs.audio_embeds, atol=1e-4, rtol=1e-4)
    assert pretrained.sampling.sample_rate_hz == 8000
    assert pretrained.sampling.num_frames == 4


def test_text_is_that_of_transformers_and_has_a_projection_for_each_stream(tiny_pe_av, tiny_pe_av_model, pretrained):
    texts = ["a dog barks", "the violin", "rain"]
    tokens = transformers.AutoTokenizer.from_pretrained(tiny_pe_av)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = tiny_pe_av_model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values_videos=torch.randn(3, 4, 3, 32, 32),
            input_values=torch.randn(3, 1, 320),
        )
    for stream, expected in (("audio", theirs.text_audio_embeds), ("video", theirs.text_video_embeds)):
        found = pretrained.embed_text(texts, stream)
        torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=1), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(pretrained.embed_text(texts[1:2], stream), found[1:2], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"'a a a .* has 42 tokens, but the text tower takes 32 at most"):
        pretrained.embed_text(["a " * 40])
    with pytest.raises(ValueError, match=r"must be a list of texts: \['rain'\]"):
        pretrained.embed_text("rain")


def test_a_model_without_text_names_those_that_have_it(tiny_release):
    with pytest.raises(HubError, match=r"this model has no text tower. Words work with PE-AV"):
        from_pretrained(tiny_release).embed_text(["rain"])


def test_a_random_model_has_the_same_settings(pretrained, clip):
    other = random_init(pretrained)
    assert not torch.allclose(other.encode(clip)["video"].embedding, pretrained.encode(clip)["video"].embedding)


def test_weights_in_several_files_and_other_models(tiny_pe_av, tmp_path, pretrained, clip):
    import json

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "parts"
    shutil.copytree(tiny_pe_av, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file, metadata={"format": "pt"})
    index = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    again = avssl.from_pretrained(folder)
    assert torch.equal(again.encode(clip)["audio"].embedding, pretrained.encode(clip)["audio"].embedding)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(HubError, match=r"model-2.safetensors is missing. Weights must be safetensors"):
        from_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(HubError, match=r"holds a model of type clip.*--model.video.pretrained"):
        from_pretrained(folder)
