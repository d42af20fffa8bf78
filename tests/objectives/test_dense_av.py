from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.moments import matched_moments
from avssl.localization.similarity import sound_map
from avssl.objectives import DenseAV, create_objective, objective_needs
from avssl.objectives import dense_scores as module
from avssl.objectives.dense_scores import moment_scores, pair_scores, unit_places, unit_steps
from avssl.objectives.scores import max_scores

PLAIN = {
    "learn_temperature": False,
    "overlap_weight": 0.0,
    "nonnegative_weight": 0.0,
    "smooth_weight": 0.0,
}


def _index(count: int) -> BatchIndex:
    return BatchIndex(*[torch.arange(count)] * 3)


def _maps(seed: int, num_clips: int = 4, num_cells: int = 3, num_steps: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(num_clips, 6, num_cells, 2, 3, generator=generator)
    return video, torch.randn(num_clips, 6, num_steps, generator=generator)


def _online(video_map: Tensor, audio_map: Tensor, **others: Tensor) -> Embeddings:
    return Embeddings(video_map.mean((2, 3, 4)), audio_map.mean(2), video_map, audio_map, **others)


def _loop_scores(video: Tensor, audio: Tensor, num_heads: int, heard: Tensor | None = None) -> Tensor:
    """(B, N): every cosine of every pair, one at a time; ``heard`` (N, L)."""
    size, num_cells, num_steps = video.shape[1] // num_heads, video.shape[2], audio.shape[2]
    length = max(num_cells, num_steps)
    rows = []
    for seen in video:
        row = []
        for j, sound in enumerate(audio):
            moments = []
            for moment in range(length):
                cell, step = (math.floor((moment + 0.5) * count / length) for count in (num_cells, num_steps))
                cosines = [
                    F.cosine_similarity(
                        seen[k * size : (k + 1) * size, cell, h, w], sound[k * size : (k + 1) * size, step], dim=0
                    )
                    for k in range(num_heads)
                    for h in range(video.shape[3])
                    for w in range(video.shape[4])
                ]
                if heard is None or heard[j, moment]:
                    moments.append(torch.stack(cosines).max())
            row.append(torch.stack(moments).mean() if moments else torch.zeros(()))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _scores(video: Tensor, audio: Tensor, num_heads: int, heard: Tensor | None = None) -> Tensor:
    return pair_scores(moment_scores(unit_places(video, num_heads), unit_steps(audio, num_heads)), heard)


@pytest.mark.parametrize(("num_cells", "num_steps"), [(3, 6), (2, 5), (4, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("num_heads", [1, 2, 3])
@pytest.mark.parametrize("part", [1, 2**22])
def test_scores_match_loop_reference_in_value_and_gradient(
    num_cells: int, num_steps: int, num_heads: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_PART_ELEMENTS", part)
    maps = [x.requires_grad_() for x in _maps(num_cells, num_clips=3, num_cells=num_cells, num_steps=num_steps)]
    got, expected = _scores(*maps, num_heads), _loop_scores(*maps, num_heads)
    torch.testing.assert_close(got, expected)
    weight = torch.linspace(-1, 1, 9).view(3, 3)
    gradients = [torch.autograd.grad((scores * weight).sum(), maps) for scores in (got, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs)


def test_only_what_is_heard_counts() -> None:
    video, audio = _maps(0)
    heard = torch.tensor([[1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    got = _scores(video, audio, 2, heard.float())
    torch.testing.assert_close(got, _loop_scores(video, audio, 2, heard))
    assert (got[:, 3] == 0).all()
    torch.testing.assert_close(got[:, 1], _scores(video, audio, 2)[:, 1])


def test_one_step_in_one_head_scores_as_the_best_cell_of_every_frame() -> None:
    video, audio = _maps(1, num_steps=1)
    torch.testing.assert_close(_scores(video, audio, 1), max_scores(video, audio[..., 0], "space")[0])


def test_the_heat_map_shows_what_the_score_has_seen() -> None:
    video, audio = _maps(2, num_cells=6)
    cells = F.normalize(video.unflatten(1, (2, 3)), dim=2).flatten(1, 2)
    shown = sound_map(cells, audio, 2).amax(dim=(2, 3)).mean(dim=1)
    torch.testing.assert_close(shown, _scores(video, audio, 2).diag())


def test_moments_are_those_of_the_drawing() -> None:
    cell, step = matched_moments(3, 6)
    assert (cell.tolist(), step.tolist()) == ([0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5])


def test_dense_av_is_log_n_when_embeddings_coincide() -> None:
    video, audio = _maps(3)
    same = _online(video[:1].expand(4, -1, -1, -1, -1), audio[:1].expand(4, -1, -1))
    assert DenseAV(**PLAIN)(same, None, _index(4)).total.item() == pytest.approx(math.log(4))


def test_dense_av_of_two_orthogonal_clips_is_known_by_hand() -> None:
    # Head 0 of clip 0 and head 1 of clip 1 fit their own sound with cosine 1 in one of two places, all else is 0.
    video = torch.zeros(2, 4, 1, 1, 2)
    video[0, 0, 0, 0, 1] = video[1, 2, 0, 0, 0] = 3.0
    audio = torch.zeros(2, 4, 2)
    audio[0, 0], audio[1, 2] = 0.5, 7.0
    result = DenseAV(temperature=0.5, **PLAIN)(_online(video, audio), None, _index(2))
    assert result.total.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)
    assert result.terms["accuracy_v2a"].item() == 1
    assert result.terms["cosine_positive"].item() == pytest.approx(1)
    assert result.terms["cosine_negative"].item() == pytest.approx(0)


def test_regularizers_are_known_by_hand() -> None:
    """One place, one channel a head: every cosine is a product of signs."""
    # Clip 0 sounds with (+, +) and (+, 0), clip 1 with (-, +) and (0, +); pictures are (+, +) and (+, 0).
    audio = torch.tensor([[[2.0, 1.0], [1.0, 0.0]], [[-1.0, 0.0], [3.0, 5.0]]])  # (clip, head, step)
    video = torch.tensor([[1.0, 2.0], [4.0, 0.0]])[:, :, None, None, None]
    scale = torch.tensor(0.5)
    negative = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]] * 2)
    heard = torch.tensor([[True, False], [True, True]])
    online = replace(
        _online(video, audio, logit_scale=scale), audio_heard=heard, negative_audio=negative[:, :, 0],
        negative_audio_map=negative,
    )  # fmt: skip
    terms = DenseAV(silence_dbfs=-60, negative_sounds=2)(online, None, _index(2)).terms
    # Heads at two moments: clip 0 (1, 1), (1, 0); clip 1 (-1, 0), (0, 0).
    assert terms["overlap"].item() == pytest.approx(1 / 4)
    # Picture 0 with sound 1: (-1, 1), (0, 1); picture 1 with sound 0: (1, 0), (1, 0).
    assert terms["nonnegative"].item() == pytest.approx(1 / 8)
    # Changes: clip 0 (0, -1), although the best of its heads stays 1; clip 1 (1, 0).
    assert terms["smooth"].item() == pytest.approx(2 / 4)
    # The second moment of clip 0 alone is silent: cosines 1 and 0, of which there are two.
    assert terms["silence"].item() == pytest.approx(1 / 2)
    # Picture 0: (-1, 1), (0, 0); picture 1: (-1, 0), (0, 0).
    assert terms["negative"].item() == pytest.approx(3 / 8)
    assert terms["floor"].item() == pytest.approx(math.log(2) ** 2)
    assert terms["heard_share"].item() == pytest.approx(3 / 4)
    assert terms["temperature"].item() == pytest.approx(2)


def test_regularizers_are_those_of_the_program() -> None:
    """NumPy, over every cosine of own pairs: squared changes, absolute ones in silence, squared ones with noise."""
    video, audio = _maps(8, num_cells=1)
    negative = _maps(9, num_cells=1)[1][:2]
    heard = torch.tensor([[1, 1, 0, 1, 0, 1], [1] * 6, [0] * 6, [1, 1, 1, 1, 1, 0]]).bool()
    online = replace(
        _online(video, audio), audio_heard=heard, negative_audio=negative[:, :, 0], negative_audio_map=negative
    )  # fmt: skip
    options = {"silence_dbfs": -60, "negative_sounds": 2, "learn_temperature": False}
    terms = DenseAV(**options)(online, None, _index(4)).terms

    def cosines(sounds: Tensor) -> np.ndarray:  # (B, K, places, S)
        seen, heard = (x.unflatten(1, (2, 3)).flatten(3).double().numpy() for x in (video, sounds))
        seen, heard = (x / np.linalg.norm(x, axis=2, keepdims=True) for x in (seen, heard))
        return np.einsum("bkdp,bkds->bkps", seen, heard)

    own = cosines(audio)
    assert terms["smooth"].item() == pytest.approx(np.mean((own[..., 1:] - own[..., :-1]) ** 2), rel=1e-5)
    silent = np.concatenate([np.abs(own[b, :, :, s]).ravel() for b, s in (~heard).nonzero().tolist()])
    assert terms["silence"].item() == pytest.approx(silent.mean(), rel=1e-5)
    assert terms["negative"].item() == pytest.approx(np.mean(cosines(negative[[0, 1, 0, 1]]) ** 2), rel=1e-5)
    assert terms["overlap"].item() == pytest.approx(np.mean(np.abs(own[:, 0] * own[:, 1])), rel=1e-5)
    loud = DenseAV(**options)(replace(online, audio_heard=torch.ones_like(heard)), None, _index(4)).terms
    assert loud["silence"].item() == 0


def test_smoothness_is_the_square_of_a_change() -> None:
    video = torch.ones(1, 1, 1, 1, 1)
    audio = torch.tensor([[[1.0, -1.0, -1.0]]])  # scores 1, -1, -1
    terms = DenseAV(num_heads=1, learn_temperature=False)(_online(video, audio), None, _index(1)).terms
    assert terms["smooth"].item() == pytest.approx((4 + 0) / 2)
    assert "overlap" not in terms
    alone = DenseAV(num_heads=1, learn_temperature=False)(_online(video, audio[..., :1]), None, _index(1)).terms
    assert alone["smooth"].item() == 0


def test_total_is_the_weighted_sum_of_its_terms() -> None:
    video, audio = _maps(4)
    online = replace(
        _online(video, audio, logit_scale=torch.tensor(0.8)), audio_heard=torch.rand(4, 6) > 0.4,
        negative_audio=audio[:2, :, 0], negative_audio_map=audio[:2].roll(1, dims=1),
    )  # fmt: skip
    weights = {"overlap": 0.3, "nonnegative": 0.5, "smooth": 0.7, "silence": 1.1, "negative": 1.3, "floor": 1.7}
    options = {f"{name}_weight": weight for name, weight in weights.items()}
    result = DenseAV(silence_dbfs=-50, negative_sounds=2, pooled_weight=0.9, **options)(online, None, _index(4))
    expected = result.terms["loss_pairs"] + 0.9 * result.terms["loss_pooled"]
    expected = expected + sum(weight * result.terms[name] for name, weight in weights.items())
    torch.testing.assert_close(result.total, expected)
    assert all(result.terms[name] > 0 for name in weights)
    assert all(term.shape == () and not term.requires_grad for term in result.terms.values())


def test_dense_av_ignores_scale_order_and_mirror_images() -> None:
    video, audio = _maps(5)
    options = PLAIN | {"overlap_weight": 0.5, "smooth_weight": 0.5}  # the next clip's sound is another in another order
    loss = lambda v, a: DenseAV(**options)(_online(v, a), None, _index(4)).total  # noqa: E731
    expected = loss(video, audio)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(loss(3 * video, audio / 7), expected)
    torch.testing.assert_close(loss(video[order], audio[order]), expected)
    torch.testing.assert_close(loss(video.flip(-1), audio), expected)
    heads = torch.tensor([3, 4, 5, 0, 1, 2])
    torch.testing.assert_close(loss(video[:, heads], audio[:, heads]), expected)
    backwards = loss(video.flip(2), audio.flip(2))
    torch.testing.assert_close(backwards, expected)
    assert not torch.allclose(loss(video.flip(2), audio), expected)  # time does matter


def test_dense_av_stays_in_float32_under_autocast() -> None:
    video, audio = _maps(6)
    objective = DenseAV(learn_temperature=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = objective(_online(video, audio), None, _index(4)).total
    assert torch.equal(inside, objective(_online(video, audio), None, _index(4)).total)


def test_the_model_is_told_heads_and_time_by_options_alone() -> None:
    needs = objective_needs("dense_av", {"num_heads": 3, "temperature": 0.1})
    assert (needs.num_heads, needs.audio_over_time, needs.maps) == (3, True, True)
    assert needs.logit_scale == pytest.approx(10)
    assert objective_needs("dense_av", {"learn_temperature": False}).logit_scale is None
    assert DenseAV(3, 0.1).needs == needs


def test_dense_av_refuses() -> None:
    video, audio = _maps(7)
    good = _online(video, audio)
    objective = DenseAV(**PLAIN)
    with pytest.raises(ValueError, match="one view of each clip, got 4 embeddings of 2 clips"):
        objective(good, None, _index(2))
    with pytest.raises(ValueError, match=r"needs Embeddings\.video_map and audio_map"):
        objective(replace(good, audio_map=None), None, _index(4))
    with pytest.raises(ValueError, match=r"num_heads \(4\) .* divide the embedding size \(6\)"):
        DenseAV(num_heads=4, learn_temperature=False)(good, None, _index(4))
    with pytest.raises(ValueError, match=r"learn_temperature=True.*logits=LogitScale\(14.2857\)"):
        DenseAV()(good, None, _index(4))
    with pytest.raises(ValueError, match=r"silence_dbfs=-60\) needs Embeddings.audio_heard"):
        DenseAV(silence_dbfs=-60, **PLAIN)(good, None, _index(4))
    with pytest.raises(ValueError, match=r"DenseAV\(negative_sounds=2\) needs as many rows"):
        DenseAV(negative_sounds=2, **PLAIN)(good, None, _index(4))
    with pytest.raises(ValueError, match=r"negative_sounds \(3\) must be even"):
        DenseAV(negative_sounds=3)
    with pytest.raises(ValueError, match=r"num_heads \(0\)"):
        create_objective("dense_av", num_heads=0)
    with pytest.raises(ValueError, match=r"temperature \(0\) must be >= 1e-06"):
        DenseAV(temperature=0)
    with pytest.raises(ValueError, match=r"smooth_weight \(-1\) must be >= 0"):
        DenseAV(smooth_weight=-1)
    with pytest.raises(ValueError, match=r"audio_heard must be \(V\*B, T\) beside audio_map"):
        replace(good, audio_heard=torch.ones(4, 5, dtype=torch.bool))
