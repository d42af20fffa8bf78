"""Networks of transformers: maps, stages, gradients, input as their own processors make it, and weights."""

import numpy as np
import pytest
import torch

from avssl.core.errors import InputError
from avssl.models import create_encoder
from avssl.models.foreign.contract import VideoContract
from avssl.models.foreign.hf import AUDIO_KINDS, VIDEO_KINDS, HFAudioEncoder, HFVideoEncoder
from avssl.models.foreign.spec import Spec, parse_words
from avssl.models.foreign.weights import WeightsError, weight_folder
from avssl.transforms import VideoEval, create_spectrogram

SIZES = ("hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2")
WIDE = (*SIZES, "intermediate_size=64")
WAVES = (*WIDE, "conv_dim=[8, 8, 8]", "conv_stride=[5, 4, 4]", "conv_kernel=[10, 4, 4]", "num_feat_extract_layers=3")
WAVES += ("num_conv_pos_embeddings=16", "num_conv_pos_embedding_groups=2")
WHISPER = (
    "d_model=32",
    "encoder_layers=2",
    "encoder_attention_heads=2",
    "encoder_ffn_dim=64",
    "max_source_positions=50",
)
WHISPER += ("decoder_layers=1", "decoder_attention_heads=2", "vocab_size=60", "pad_token_id=0", "bos_token_id=1")
WHISPER += ("eos_token_id=2", "decoder_start_token_id=1")

VIDEO = {
    "clip": ((*WIDE, "image_size=32", "patch_size=8"), (4, 4), 1),
    "siglip": ((*WIDE, "image_size=32", "patch_size=8"), (4, 4), 0),
    "dinov2": ((*SIZES, "image_size=28", "patch_size=7"), (4, 4), 1),
    "dinov2_with_registers": ((*SIZES, "image_size=28", "patch_size=7"), (4, 4), 5),
    "dinov3_vit": ((*WIDE, "image_size=32", "patch_size=8", "num_register_tokens=4"), (4, 4), 5),
    "dinov3_convnext": (("hidden_sizes=[8, 16]", "depths=[1, 1]", "image_size=32"), (4, 4), 1),
    "videomae": ((*WIDE, "image_size=32", "patch_size=8", "num_frames=4"), (4, 4), 0),
    "vjepa2": ((*SIZES, "crop_size=32", "patch_size=8", "frames_per_clip=4", "pred_num_hidden_layers=1"), (4, 4), 0),
}
"""Settings of tiny networks, (H', W') of their maps and the number of extra tokens."""
AUDIO = {
    "ast": ((*WIDE, "num_mel_bins=32", "max_length=64"), (5, 2)),
    "clap": (("patch_embeds_hidden_size=8", "depths=[1, 1]", "num_attention_heads=[1, 2]", "hidden_size=16"), (128, 8)),
    "hubert": (WAVES, (79, 1)),
    "wavlm": (WAVES, (79, 1)),
    "wav2vec2": (WAVES, (79, 1)),
    "wav2vec2-bert": (WIDE, (19, 1)),
    "whisper": (WHISPER, (50, 1)),
}
"""Settings of tiny networks, and (T', F') of the map of 0.4 s."""
SECONDS = 0.4


def video_tower(kind):
    encoder = create_encoder("hf", modality="video", backbone=kind, config=VIDEO[kind][0])
    contract = encoder.contract
    return encoder, torch.randn(2, 3, contract.num_frames or 4, contract.size, contract.size)


def front_end(contract):
    return create_spectrogram(contract.spectrogram, sample_rate_hz=contract.sample_rate_hz, **contract.options)


def audio_tower(kind):
    encoder = create_encoder("hf", modality="audio", backbone=kind, config=AUDIO[kind][0])
    contract = encoder.contract
    return encoder, front_end(contract)(torch.randn(2, round(SECONDS * contract.sample_rate_hz)))


def test_all_kinds_are_tested():
    assert set(VIDEO) == set(VIDEO_KINDS)
    assert set(AUDIO) == set(AUDIO_KINDS)


def check(encoder, x, shape):
    features = encoder.eval().forward_features(x)
    assert features.shape == (2, encoder.num_features, *shape)
    stages = encoder.forward_stages(x)
    assert tuple(stages) == encoder.stage_names == tuple(encoder.blocks())
    assert torch.equal(list(stages.values())[-1], features)
    assert all(stage.ndim == x.ndim and len(stage) == 2 for stage in stages.values())
    encoder.train()(x).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("kind", VIDEO)
def test_video_maps_stages_and_gradients(kind):
    encoder, x = video_tower(kind)
    frames = 2 if kind in ("videomae", "vjepa2") else 4  # tubelets of two frames
    check(encoder, x, (frames, *VIDEO[kind][1]))
    extra = encoder.tokens(x).extra
    assert (0 if extra is None else extra.shape[-2]) == VIDEO[kind][2]


@pytest.mark.parametrize("kind", AUDIO)
def test_audio_maps_stages_and_gradients(kind):
    encoder, x = audio_tower(kind)
    check(encoder, x, AUDIO[kind][1])


@pytest.mark.parametrize("kind", VIDEO)
def test_a_changed_patch_changes_its_own_cell_most(kind):
    encoder, x = video_tower(kind)
    encoder.eval()
    patch = x.shape[-1] // 4
    changed = x.clone()
    changed[:, :, 2:, patch : 2 * patch, 3 * patch :] += 5.0  # from frame 2 on, row 1, column 3
    with torch.no_grad():
        difference = (encoder.forward_features(changed) - encoder.forward_features(x)).norm(dim=1)[0]
    time, row, column = np.unravel_index(int(difference.argmax()), difference.shape)
    assert (row, column) == (1, 3)
    assert time >= len(difference) // 2


@pytest.mark.parametrize("kind", ["ast", "whisper", "clap", "hubert"])
def test_a_sound_changes_the_cells_of_its_time(kind):
    encoder, _ = audio_tower(kind)
    contract = encoder.eval().contract
    seconds = contract.max_seconds or SECONDS
    samples = round(seconds * contract.sample_rate_hz)
    quiet = 0.01 * torch.randn(1, samples)
    loud = quiet.clone()
    loud[:, round(0.7 * samples) : round(0.8 * samples)] += torch.randn(round(0.8 * samples) - round(0.7 * samples))
    prepare = front_end(contract)
    with torch.no_grad():
        stages = [encoder.forward_stages(prepare(waveform)) for waveform in (quiet, loud)]
    name = encoder.stage_names[0]
    difference = (stages[1][name] - stages[0][name]).norm(dim=1)[0].sum(dim=1)
    place = (int(difference.argmax()) + 0.5) / len(difference)
    assert 0.6 < place < 0.95


# ---------------------------------------------------------------- input, as the library's own processor makes it


@pytest.mark.parametrize("kind", VIDEO)
def test_frames_equal_those_of_the_processor(kind):
    import transformers

    contract = HFVideoEncoder.contract_of(Spec(kind))
    assert isinstance(contract, VideoContract)
    builder = HFVideoEncoder._kind(Spec(kind))
    processor = getattr(transformers, builder.processor_class)(
        **{
            k: v
            for k, v in builder.processor(Spec(kind)).items()
            if k in ("size", "crop_size", "image_mean", "image_std")
        }
    )
    frame = torch.randint(0, 256, (3, 300, 400), dtype=torch.uint8)
    given = frame.float()  # 8-bit images are rounded after their resize
    out = (
        processor(videos=[given[None]], return_tensors="pt")
        if "Video" in type(processor).__name__ and kind == "vjepa2"
        else processor(given, return_tensors="pt")
    )
    wanted = next(iter(out.values())).reshape(-1, 3, contract.size, contract.size)[0]
    ours = VideoEval(
        contract.size,
        crop="full" if contract.resize_short is None else "center",
        resize_short=contract.resize_short,
        interpolation=contract.interpolation,
        mean=contract.mean,
        std=contract.std,
    )(frame[None, None], torch.tensor([[300, 400]]))[0, :, 0]
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", AUDIO)
def test_audio_equals_that_of_the_processor(kind):
    import transformers

    builder = HFAudioEncoder._kind(Spec(kind))
    config = parse_words("config", AUDIO[kind][0]) if kind in ("ast", "whisper") else {}
    options = {
        "ast": {"num_mel_bins": 32, "max_length": 64},
        "whisper": {"chunk_length": 1},
        "clap": {"truncation": "rand_trunc"},
    }
    processor = getattr(transformers, builder.processor_class)(**options.get(kind, {}))
    contract = HFAudioEncoder.contract_of(Spec(kind, config))
    rate = contract.sample_rate_hz
    time = torch.arange(round(SECONDS * rate)) / rate
    waveforms = torch.stack(
        [0.3 * torch.sin(2 * torch.pi * f * time) + 0.05 * torch.randn(len(time)) for f in (300, 900)]
    )
    out = processor(list(waveforms.numpy()), sampling_rate=rate, return_tensors="pt")
    wanted = out["input_features" if "input_features" in out else "input_values"].float()
    prepare = front_end(contract)
    ours = prepare(waveforms)
    if prepare.fixed_statistics is not None:
        mean, std = prepare.fixed_statistics
        ours = (ours - mean) / std
    if kind == "whisper":
        ours = ours[:, 0].transpose(1, 2)
    elif kind == "clap":
        pass
    else:
        ours = ours[:, 0].squeeze(-1)
    torch.testing.assert_close(ours, wanted.reshape(ours.shape), atol=1e-4, rtol=1e-4 if kind == "clap" else 0)


# ---------------------------------------------------------------- names and weights


def test_weights_and_processor_are_read_from_a_folder(tmp_path, caplog):
    import transformers

    config = transformers.CLIPVisionConfig(**parse_words("config", VIDEO["clip"][0]))
    network = transformers.CLIPVisionModel(config)
    network.save_pretrained(tmp_path)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size=32, image_mean=[0.1, 0.2, 0.3]
    ).save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    spec = HFVideoEncoder.spec_of(Spec(""), weight_folder(str(tmp_path)))
    contract = HFVideoEncoder.contract_of(spec)
    assert (contract.size, contract.resize_short, contract.mean) == (32, 40, (0.1, 0.2, 0.3))
    encoder = create_encoder("hf", modality="video", **spec.words(), pretrained=str(tmp_path), lora=2)
    encoder.load_pretrained()
    theirs = {k.removeprefix("vision_model."): v for k, v in network.state_dict().items()}
    ours = encoder.backbone.network.state_dict()
    for name, value in ours.items():
        if "lora_" not in name:
            assert torch.equal(value, theirs[name.replace(".base_layer.", ".").removeprefix("vision_model.")])
    assert encoder.license_id == "mit"
    assert not [record for record in caplog.records if "not used" in record.message]
    shorter = tuple(word.replace("num_hidden_layers=2", "num_hidden_layers=1") for word in VIDEO["clip"][0])
    with caplog.at_level("INFO", logger="avssl"):
        create_encoder(
            "hf", modality="video", backbone="clip", config=shorter, pretrained=str(tmp_path)
        ).load_pretrained()
    (unused,) = [record for record in caplog.records if "not used" in record.message]
    assert unused.levelname == "WARNING"
    assert "16 of its tensors are not used, as clip has no place for them: " in unused.message
    assert "encoder.layers.1.layer_norm1.bias, " in unused.message
    assert unused.message.endswith(", and 11 more")
    other = create_encoder(
        "hf",
        modality="video",
        backbone="clip",
        config=(*WIDE, "image_size=32", "patch_size=16"),
        pretrained=str(tmp_path),
    )
    with pytest.raises(
        WeightsError, match=r"patch_embedding.weight is \(32, 3, 8, 8\) there and \(32, 3, 16, 16\) here"
    ):
        other.load_pretrained()
    with pytest.raises(WeightsError, match="holds weights of clip, not of dinov2"):
        HFVideoEncoder.spec_of(Spec("dinov2"), weight_folder(str(tmp_path)))


@pytest.mark.parametrize(
    ("modality", "options", "message"),
    [
        ("video", {"backbone": "dinov4"}, "must be one of clip, .* Did you mean 'dinov2'"),
        ("video", {"backbone": "ast"}, "takes audio: name it as model.audio"),
        (
            "audio",
            {"backbone": "hubert", "config": ("hiden_size=3",)},
            "not a setting of HubertConfig. Did you mean hidden_size",
        ),
    ],
)
def test_bad_names_are_errors(modality, options, message):
    with pytest.raises(InputError, match=message):
        create_encoder("hf", modality=modality, **options)


def test_padding_behind_short_audio_is_no_part_of_the_map():
    encoder, x = audio_tower("whisper")
    encoder.set_window(SECONDS)
    assert encoder(x).shape == (2, 32)
    assert encoder.forward_features(x).shape == (2, 32, 20, 1)
    assert {stage.shape[2] for stage in encoder.forward_stages(x).values()} == {20}
