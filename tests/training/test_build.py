from typing import Any

import pytest
import torch

from avssl.config import CHOICES, Config, ConfigError, config_from_dict
from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import clip_key, text_key
from avssl.core.manifest import Manifest
from avssl.data import ClipDataset
from avssl.models import AUDIO_ENCODERS, HEADS, VIDEO_ENCODERS
from avssl.objectives import OBJECTIVES, MemoryRows
from avssl.training.build import (
    build_model,
    build_objective,
    build_sampling,
    build_task,
    build_transform,
    check_options,
    memory_rows,
)
from avssl.transforms import SPECTROGRAMS


def choose(path: str, name: str) -> Config:
    tree: dict[str, Any] = {"name": name}
    for part in reversed(path.split(".")):
        tree = {part: tree}
    return config_from_dict(tree)


def test_config_knows_every_name_of_every_package():
    assert set(CHOICES["model.video"]) == set(VIDEO_ENCODERS)
    assert set(CHOICES["model.audio"]) == set(AUDIO_ENCODERS)
    assert set(CHOICES["model.head"]) == set(HEADS)
    assert set(CHOICES["objective"]) == set(OBJECTIVES)
    assert set(CHOICES["transform.spectrogram"]) == set(SPECTROGRAMS)


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path, table in CHOICES.items() for name in table if path not in ("schedule", "loss")],
)
def test_every_choice_builds_with_its_default_options(path, name):
    config = choose(path, name)
    if name == "shared_vit":  # of a video encoder that has blocks to share
        audio, config = config.model.audio, choose("model.video", "timm")
        config.model.audio = audio
    if path.startswith("model"):
        with torch.device("meta"):  # shapes without the memory
            build_model(config)
    if path == "objective":
        build_objective(config, MemoryRows.from_ids([str(i) for i in range(100)]))
    if path.startswith("transform"):
        build_transform(config)


def test_default_options_of_a_choice_are_those_of_the_package():
    """A config that says nothing and a call that says nothing make the same network."""
    from avssl.models import create_encoder

    with torch.device("meta"):
        for path in ("model.video", "model.audio"):
            for name in CHOICES[path]:
                options = CHOICES[path][name](name=name).options()
                trunk = {"trunk": create_encoder("timm")} if name == "shared_vit" else {}
                ours, theirs = create_encoder(name, **options, **trunk), create_encoder(name, **trunk)
                assert str(ours) == str(theirs), name


def test_weights_follow_the_seed_and_leave_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (build_model(Config(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["video_head.0.weight"], other["video_head.0.weight"])


def test_model_learns_what_the_objective_wants_of_its_logits():
    assert build_model(Config()).logits is None
    learned = build_model(config_from_dict({"objective": {"temperature": 0.05, "learn_temperature": True}}))
    assert learned.logits()[0].item() == pytest.approx(20)
    assert learned.logits()[1] is None
    siglip = build_model(config_from_dict({"objective": {"name": "siglip", "initial_bias": -7.0}}))
    assert [x.item() for x in siglip.logits()] == pytest.approx([10, -7])
    # The encoders and heads start as they do without.
    state = build_model(Config()).state_dict()
    assert all(torch.equal(state[name], siglip.state_dict()[name]) for name in state)


def test_model_carries_the_second_heads_of_the_objective():
    plain = build_model(Config())
    assert plain.where_heads is None
    slavc = build_model(config_from_dict({"objective": {"name": "slavc"}, "model": {"dropout": {"video": 0.9}}}))
    assert slavc.video_dropout.p == 0.9
    assert slavc.where_heads.video.out_features == slavc.embedding_size
    state = slavc.state_dict()
    # The encoders and first heads start as they do without, the second ones otherwise.
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    assert not torch.equal(state["where_heads.video.0.weight"], state["video_head.0.weight"])
    with pytest.raises(ConfigError, match=r"model.dropout.video \(1.0\) must be in \[0, 1\)"):
        config_from_dict({"model": {"dropout": {"video": 1.0}}})


def test_model_has_the_heads_and_the_time_of_its_objective():
    plain = build_model(Config())
    assert (plain.num_heads, plain.audio_over_time, plain.logits) == (1, False, None)
    dense = build_task(config_from_dict({"objective": {"name": "dense_av", "num_heads": 4, "temperature": 0.1}}))
    assert (dense.model.num_heads, dense.model.audio_over_time) == (4, True)
    assert dense.model.logits()[0].item() == pytest.approx(10)
    with pytest.raises(ValueError, match=r"objective.num_heads \(3\) must .* divide the embedding size \(128,"):
        build_model(config_from_dict({"objective": {"name": "dense_av", "num_heads": 3}}))
    with pytest.raises(ConfigError, match=r"objective.num_heads \(0\) must be >= 1"):
        check_options(config_from_dict({"objective": {"name": "dense_av", "num_heads": 0}}))


def test_audio_over_time_needs_the_picture_of_the_same_time():
    def task(**sampling):
        return build_task(config_from_dict({"objective": {"name": "dense_av"}, "sampling": sampling}))

    assert task(num_frames=16, frames_per_second=16.0, audio_seconds=1.0).objective.needs.maps
    assert task(num_frames=1, audio_seconds=3.0, max_offset_seconds=0.5).objective.needs.maps
    with pytest.raises(ConfigError, match=r"objective.name dense_av .* sampling.audio_seconds \(3\) must be .* \(2\)"):
        task(audio_seconds=3.0)
    with pytest.raises(ConfigError, match=r"sampling.max_offset_seconds \(0.25\) 0. Or use a single frame"):
        task(max_offset_seconds=0.25)


def test_chunks_of_scores_go_with_pooled_embeddings_alone():
    with pytest.raises(ConfigError, match=r'objective.chunk_size \(256\) needs pooling="pooled", not "both"'):
        check_options(config_from_dict({"objective": {"chunk_size": 256}}))
    assert build_objective(config_from_dict({"objective": {"chunk_size": 256, "pooling": "pooled"}})).chunk_size == 256


def test_settings_reach_the_objects():
    config = config_from_dict(
        {
            "sampling": {"sample_rate_hz": 16000, "num_frames": 4},
            "transform": {
                "video": {"size": 56, "scale": [0.5, 0.9]},
                "audio": {"gain": [0.5, 2.0], "max_time_width": 7},
            },
            "objective": {"temperature": 0.2},
            "train": {"batch_norm": "eval"},
        }
    )
    task = build_task(config)
    assert (task.transform.video_augment.size, task.transform.video_augment.scale) == (56, (0.5, 0.9))
    assert (task.transform.gain.low, task.transform.mask.max_time_width) == (0.5, 7)
    assert task.transform.spectrogram.sample_rate_hz == 16000
    assert (task.objective.temperature, task.batch_norm) == (0.2, "eval")
    assert (build_sampling(config).num_frames, build_sampling(config).short_side) == (4, 64)
    assert build_transform(config, crop="full").video_eval.crop == "full"


def test_memory_is_of_the_datasets_rows_and_the_heads_size():
    manifest = Manifest.from_columns(
        {"id": ["a", "b#0-5", "b#5-9", "c"], "path": ["a", "b", "b", "c"], "label": ["x", None, "y", "x"]}, "."
    )
    config = config_from_dict({"objective": {"name": "avid", "dtype": "bf16"}, "model": {"head": {"out_features": 24}}})
    rows = memory_rows(ClipDataset(manifest, build_sampling(config)))
    assert rows.id_key.tolist() == [text_key(name) for name in ("a", "b#0-5", "b#5-9", "c")]
    assert (rows.group[1] == rows.group[2]).item()
    assert (rows.label[0] == rows.label[3]).item()
    assert rows.label[1].item() == -1
    bank = build_task(config, rows).objective.bank
    assert (tuple(bank.video.shape), bank.video.dtype) == ((4, 24), torch.bfloat16)
    with pytest.raises(ConfigError, match=r"objective\.name avid keeps a memory of every row"):
        build_task(config)


@pytest.mark.parametrize("pooling", ["pooled", "both"])
@pytest.mark.parametrize("spectrogram", ["log_mel", "avid"])
def test_negative_sounds_and_silent_clips_train_every_weight(pooling, spectrogram):
    config = config_from_dict(
        {
            "sampling": {"num_frames": 2, "audio_seconds": 0.5, "sample_rate_hz": 8000},
            "transform": {"video": {"size": 16}, "spectrogram": {"name": spectrogram, "window_length": 256}},
            "model": {
                "video": {"width": 4},
                "audio": {"width": 4},
                "head": {"name": "mlp", "hidden": 8, "out_features": 8},
            },
            "objective": {"pooling": pooling, "negative_sounds": 6},
        }
    )
    task = build_task(config)
    standardize = task.transform.standardize
    standardize.set_statistics(torch.full_like(standardize.mean, -30.0), torch.full_like(standardize.std, 15.0))
    rows = torch.arange(4)
    audio = 0.1 * torch.randn(4, 4000, generator=torch.Generator().manual_seed(0))
    audio[1] = 0  # a clip without a sound is a clip
    video = torch.randint(0, 256, (4, 2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batch = Batch(video, audio, BatchIndex(rows, rows, clip_key(0, 0, rows)), torch.full((4, 2), 16))
    result = task(batch)
    result.total.backward()
    assert "cosine_silence" in result.terms
    assert all(term.isfinite() for term in result.terms.values())
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert build_transform(config).negative_sounds is None


def test_short_side_of_evaluation_is_a_setting_that_a_full_frame_ignores():
    config = config_from_dict({"transform": {"video": {"size": 32, "eval_resize_short": 32}}})
    assert build_transform(config).video_eval.resize_short == 32
    assert build_transform(config, crop="full").video_eval.crop == "full"
    config.transform.video.eval_resize_short = 31
    with pytest.raises(ConfigError, match=r"transform.video.eval_resize_short \(31\) must be at least"):
        build_transform(config)
