import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from avssl.core.batch import Embeddings
from avssl.engine import Precision
from avssl.models import AVModel, HeadPair, ProjectionHead, create_encoder, create_head


def small_model(head: str = "mlp", **options: str) -> AVModel:
    video, audio = create_encoder("small_video", width=8, **options), create_encoder("small_audio", width=4, **options)
    sizes = (16,) if head == "linear" else (16, 24)
    return AVModel(
        video,
        audio,
        create_head(head, video.num_features, *sizes),
        create_head(head, audio.num_features, *sizes),
    )


def clips(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 3, 8, 32, 40), torch.randn(count, 1, 50, 32)


def test_avid_model_has_the_published_size():
    with torch.device("meta"):
        model = AVModel(
            create_encoder("avid_r2plus1d_18"),
            create_encoder("avid_audio_cnn_10"),
            create_head("mlp", 512),
            create_head("mlp", 512),
        )
    assert sum(p.numel() for p in model.parameters()) == 21_286_784
    assert len(model.state_dict()) == 267
    assert model.embedding_size == 128


def test_forward_gives_pooled_embeddings_without_maps():
    model = small_model().eval()
    video, audio = clips()
    embeddings = model(video, audio)
    assert embeddings.video.shape == embeddings.audio.shape == (2, 16)
    assert embeddings.video_map is None
    assert embeddings.audio_map is None
    torch.testing.assert_close(embeddings.video, model.video_head(model.video_encoder(video)))
    torch.testing.assert_close(embeddings.audio, model.audio_head(model.audio_encoder(audio)))


@pytest.mark.parametrize("head", ["mlp", "mlp_bn", "linear"])
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_maps_are_the_heads_on_every_cell(head: str, pool: str):
    model = small_model(head, pool=pool).eval()
    video, audio = clips()
    with torch.no_grad():
        embeddings = model(video, audio, needs_maps=True)
        video_features = model.video_encoder.forward_features(video)
        audio_features = model.audio_encoder.forward_features(audio)
        assert embeddings.video_map.shape == (2, 16, *video_features.shape[2:])
        assert embeddings.audio_map.shape == (2, 16, audio_features.shape[2])
        t, i, j = (size - 1 for size in video_features.shape[2:])
        for cell in [(0, 0, 0), (t, i, j), (0, i, j // 2)]:
            at = (slice(None), slice(None), *cell)
            torch.testing.assert_close(embeddings.video_map[at], model.video_head(video_features[at]))
        for t in range(audio_features.shape[2]):
            expected = model.audio_head(audio_features[:, :, t].amax(dim=2))
            torch.testing.assert_close(embeddings.audio_map[:, :, t], expected)


def test_maps_leave_the_pooled_embeddings_as_they_are():
    model = small_model().eval()
    video, audio = clips()
    without, with_maps = model(video, audio), model(video, audio, needs_maps=True)
    torch.testing.assert_close(without.video, with_maps.video)
    torch.testing.assert_close(without.audio, with_maps.audio)


@pytest.mark.parametrize("needs_maps", [False, True])
def test_forward_runs_each_trunk_once(needs_maps: bool):
    model = small_model()
    epochs = []
    model.video_encoder.stem.register_forward_hook(lambda *_: epochs.append("video"))
    model.audio_encoder.stage1.register_forward_hook(lambda *_: epochs.append("audio"))
    model(*clips(), needs_maps=needs_maps)
    assert sorted(epochs) == ["audio", "video"]


def test_single_modality_methods_equal_forward():
    model = small_model().eval()
    video, audio = clips()
    with torch.no_grad():
        embeddings = model(video, audio, needs_maps=True)
        assert torch.equal(model.encode_video(video), model.video_encoder(video))
        assert torch.equal(model.encode_audio(audio), model.audio_encoder(audio))
        torch.testing.assert_close(model.embed_video(video), embeddings.video)
        torch.testing.assert_close(model.embed_audio(audio), embeddings.audio)
        torch.testing.assert_close(model.video_map(video), embeddings.video_map)
        torch.testing.assert_close(model.audio_map(audio), embeddings.audio_map)


def test_a_sound_meets_the_map_as_a_whole_or_step_by_step():
    model = small_model().eval()
    video, audio = clips()
    assert model.num_heads == 1
    with torch.no_grad():
        assert torch.equal(model.visual_cells(video), model.video_map(video))
        assert torch.equal(model.sound_queries(audio)[..., 0], model.embed_audio(audio))
    parts = (model.video_encoder, model.audio_encoder, model.video_head, model.audio_head)
    dense = AVModel(*parts, num_heads=2, audio_over_time=True).eval()
    assert dense.num_heads == 2
    with torch.no_grad():
        assert torch.equal(dense.sound_queries(audio), model.audio_map(audio))
    with pytest.raises(ValueError, match=r"num_heads \(3\) must .* divide the embedding size \(16,"):
        AVModel(*parts, num_heads=3)


@pytest.mark.parametrize("used", [("video", "audio"), ("video_map", "audio_map"), ("video_map", "audio")])
def test_gradient_reaches_every_parameter_from_any_output(used: tuple[str, ...]):
    model = small_model()
    embeddings = model(*clips(4), needs_maps=True)
    sum((getattr(embeddings, name) ** 2).sum() for name in used).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_channels_last_changes_no_output():
    model = small_model().eval()
    video, audio = clips()
    with torch.no_grad():
        expected = model(video, audio, needs_maps=True)
        Precision("fp32", "channels_last").apply(model, "cpu")
        got = model(video, audio, needs_maps=True)
    for name in ("video", "audio", "video_map", "audio_map"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_model_is_traced_whole():
    model = small_model().eval()
    video, audio = clips()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(whole(video, audio, True).video_map, model(video, audio, True).video_map)


def test_state_dict_survives_safetensors(tmp_path):
    model = small_model("mlp_bn")
    model(*clips(4))
    Precision("fp32", "channels_last").apply(model, "cpu").remove()
    model.eval()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    loaded = small_model("mlp_bn").eval()
    loaded.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_different_numbers_of_clips_are_refused():
    with pytest.raises(ValueError, match="same clips in the same order"):
        small_model().eval()(clips(3)[0], clips(2)[1])


def test_exchanged_modalities_are_refused():
    model = small_model()
    with pytest.raises(ValueError, match=r"the video encoder reads audio \(SmallAudioEncoder\)"):
        AVModel(model.audio_encoder, model.video_encoder, model.audio_head, model.video_head)


def test_head_of_another_size_is_refused():
    model = small_model()
    with pytest.raises(ValueError, match="the audio head takes 99 features but its encoder"):
        AVModel(model.video_encoder, model.audio_encoder, model.video_head, create_head("mlp", 99, 16))
    with pytest.raises(ValueError, match="same embedding size, got video 16 and audio 8"):
        AVModel(model.video_encoder, model.audio_encoder, model.video_head, create_head("mlp", 32, 8))


def test_energy_is_one_less_the_cosine_of_each_pair():
    model = small_model().eval()
    video, audio = clips(3)
    found = model.energy(video, audio)
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (model.embed_video(video), model.embed_audio(audio))]
    torch.testing.assert_close(found, 1 - (unit[0] * unit[1]).sum(dim=1))
    assert found.shape == (3,)


def test_energy_of_known_embeddings_is_0_1_and_2():
    model = small_model().eval()
    model.embed_video = lambda x: x
    model.embed_audio = lambda x: x
    x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    found = [model.energy(x, other).item() for other in (x * 5, y, -x)]
    assert found == pytest.approx([0, 1, 2])


def test_energy_refuses_pairs_that_do_not_match():
    video, audio = clips(3)
    with pytest.raises(ValueError, match="got 3 videos and 2 audios"):
        small_model().eval().energy(video, audio[:2])


@pytest.mark.parametrize("needs_maps", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_negative_sounds_pass_behind_those_of_the_clips(needs_maps: bool, chunk_size: int | None):
    model = small_model("mlp_bn").eval()
    video, audio = clips(3)
    negative = torch.randn(2, 1, 50, 32)
    without = model(video, audio, needs_maps)
    embeddings = model(video, audio, needs_maps, chunk_size, negative_audio=negative)
    torch.testing.assert_close(embeddings.video, without.video)
    torch.testing.assert_close(embeddings.audio, without.audio)
    torch.testing.assert_close(embeddings.negative_audio, model.embed_audio(negative))
    assert without.negative_audio is None
    if needs_maps:
        torch.testing.assert_close(embeddings.audio_map, without.audio_map)
        torch.testing.assert_close(embeddings.negative_audio_map, model.audio_map(negative))
    else:
        assert embeddings.negative_audio_map is None


def test_negative_sounds_share_one_trunk_pass_and_its_statistics():
    model, (video, audio) = small_model("mlp_bn"), clips(3)
    negative = torch.randn(2, 1, 50, 32) - 5
    embeddings = model(video, audio, negative_audio=negative)
    norm = model.audio_encoder.stage1[1]
    assert norm.num_batches_tracked == 1
    together = torch.cat([audio, negative])
    expected = model.audio_encoder.stage1[0](together).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.1 * expected)
    (embeddings.audio.sum() + embeddings.negative_audio.sum()).backward()
    assert all(p.grad is not None for p in model.audio_encoder.parameters())


def test_negative_embeddings_of_another_size_are_refused():
    video, audio = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"negative_audio must be \(M, 4\), got \(6, 5\)"):
        Embeddings(video, audio, negative_audio=torch.zeros(6, 5))
    with pytest.raises(ValueError, match=r"negative_audio_map must be \(M, D, T\) beside negative_audio"):
        Embeddings(video, audio, negative_audio_map=torch.zeros(6, 4, 3))


def two_headed_model(head: str = "mlp_bn", video_dropout: float = 0.0) -> AVModel:
    model = small_model(head)
    where = HeadPair(*(create_head(head, side.in_features, 16, 24) for side in (model.video_head, model.audio_head)))
    return AVModel(*_parts(model), where_heads=where, video_dropout=video_dropout)


def test_second_heads_are_heads_of_their_own_on_the_same_features():
    model = two_headed_model().eval()
    video, audio = clips()
    epochs = []
    model.video_encoder.stem.register_forward_hook(lambda *_: epochs.append("video"))
    model.audio_encoder.stage1.register_forward_hook(lambda *_: epochs.append("audio"))
    with torch.no_grad():
        embeddings = model(video, audio, needs_maps=True)
        assert sorted(epochs) == ["audio", "video"]
        features = model.video_encoder.forward_features(video)
        expected = model.where_heads.video(features.movedim(1, -1)).movedim(-1, 1)
        torch.testing.assert_close(embeddings.video_where_map, expected)
        torch.testing.assert_close(embeddings.audio_where, model.where_heads.audio(model.encode_audio(audio)))
        plain = small_model("mlp_bn")
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("where")})
        for name in ("video", "audio", "video_map", "audio_map"):
            value = getattr(plain.eval()(video, audio, needs_maps=True), name)
            assert torch.equal(getattr(embeddings, name), value), name
        without = model(video, audio)
    assert (without.video_where_map, without.audio_where) == (None, None)


def test_second_heads_learn_all_their_parameters_and_go_through_chunks():
    model = two_headed_model().train()
    video, audio = clips(5)
    whole = model.eval()(video, audio, needs_maps=True)
    chunked = model(video, audio, needs_maps=True, chunk_size=2)
    for name in ("video_map", "video_where_map", "audio_where"):
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name))
    used = model.train()(video, audio, needs_maps=True)
    parts = (used.video_map, used.audio, used.video_where_map, used.audio_where)
    sum((part**2).sum() for part in parts).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_negative_sounds_stay_out_of_the_second_sounds():
    model = two_headed_model().eval()
    video, audio = clips()
    with torch.no_grad():
        plain = model(video, audio, needs_maps=True)
        beside = model(video, audio, needs_maps=True, negative_audio=torch.randn(3, 1, 50, 32))
    torch.testing.assert_close(beside.audio_where, plain.audio_where)


def test_cosine_of_two_headed_cells_is_the_mean_of_two_cosines():
    model = two_headed_model().eval()
    video, audio = clips()
    with torch.no_grad():
        out = model(video, audio, needs_maps=True)
        cells, queries = model.visual_cells(video), model.sound_queries(audio)
    assert cells.shape == (2, 32, 8, 4, 5)
    torch.testing.assert_close(cells.norm(dim=1), torch.ones(2, 8, 4, 5))
    which, where = (
        torch.nn.functional.cosine_similarity(cells_of, sound[:, :, None, None, None], dim=1)
        for cells_of, sound in ((out.video_map, out.audio), (out.video_where_map, out.audio_where))
    )
    torch.testing.assert_close((cells * queries[..., None, None]).sum(dim=1), (which + where) / 2)


def test_one_headed_cells_are_the_map():
    model = small_model().eval()
    video, audio = clips()
    with torch.no_grad():
        assert torch.equal(model.visual_cells(video), model.video_map(video))
        assert torch.equal(model.sound_queries(audio), model.embed_audio(audio)[..., None])


def test_visual_dropout_drops_features_of_all_cells_at_once():
    """With heads that change nothing, a feature is 0 in every cell of a clip, or its double."""
    video, audio = clips(6)
    model = AVModel(*_encoders(), *(ProjectionHead(32, 32) for _ in range(2)), video_dropout=0.5)
    kept = model.eval()(video, audio, needs_maps=True)
    torch.manual_seed(1)
    for module in model.modules():  # in training, but for the statistics of batches
        module.training = isinstance(module, AVModel | nn.Dropout3d)
    dropped = model(video, audio, needs_maps=True)
    ratio = torch.where(kept.video_map == 0, torch.nan, dropped.video_map / kept.video_map)
    factor = ratio.flatten(2).nanmean(dim=2)  # (B, C)
    assert set(factor[factor.isfinite()].tolist()) == {0.0, 2.0}
    assert 0.3 < (factor == 0).float().mean() < 0.7
    assert len({tuple(row.tolist()) for row in factor == 0}) == 6  # each clip loses others
    torch.testing.assert_close(dropped.video, dropped.video_map.flatten(2).amax(dim=2))
    assert torch.equal(dropped.audio, kept.audio)


def test_visual_dropout_draws_nothing_where_it_is_0_or_in_evaluation():
    video, audio = clips(4)
    for model in (small_model().train(), two_headed_model(video_dropout=0.9).eval()):
        before = torch.get_rng_state()
        model(video, audio, needs_maps=True)
        assert torch.equal(torch.get_rng_state(), before)
    assert small_model().state_dict().keys() == AVModel(*_parts(small_model()), video_dropout=0.9).state_dict().keys()


def test_second_heads_and_dropout_that_do_not_fit_are_refused():
    model = small_model()
    where = HeadPair(create_head("mlp", 32, 16), create_head("mlp", 32, 8))
    with pytest.raises(ValueError, match="same embedding size, got video 16 and audio 8"):
        AVModel(*_parts(model), where_heads=where)
    with pytest.raises(ValueError, match="the video head takes 9 features"):
        AVModel(*_parts(model), where_heads=HeadPair(create_head("mlp", 9, 16), create_head("mlp", 32, 16)))
    with pytest.raises(ValueError, match=r"video_dropout \(1.0\) must be in \[0, 1\)"):
        AVModel(*_parts(model), video_dropout=1.0)


def _parts(model: AVModel) -> tuple:
    return model.video_encoder, model.audio_encoder, model.video_head, model.audio_head


def _encoders() -> tuple:
    return create_encoder("small_video", width=8), create_encoder("small_audio", width=4)
