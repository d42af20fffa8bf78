"""Joint head: three sigmoid losses, a modality that may be missing, from training to search."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.models import AVModel, LogitScale, create_encoder, create_head
from avssl.models.joint_head import JointHead
from avssl.objectives import JointSigLIP, create_objective, sigmoid_loss

KEYS = torch.arange(400) * 7919


def _index(count: int = 4) -> BatchIndex:
    return BatchIndex(*(torch.arange(count) for _ in range(3)))


def _online(**more: Tensor | None) -> Embeddings:
    video, audio, joint = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    learned = {"logit_scale": torch.tensor(5.0), "logit_bias": torch.tensor(-3.0), "joint": joint}
    return Embeddings(video, audio, **(learned | more))


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_loss_is_the_mean_of_the_sigmoid_losses_of_three_pairs(chunk_size: int | None) -> None:
    online = _online()
    sides = {"video": online.video.double(), "audio": online.audio.double(), "joint": online.joint.double()}
    sides = {name: x / x.norm(dim=1, keepdim=True) for name, x in sides.items()}
    expected = {}
    for first, second in (("video", "audio"), ("video", "joint"), ("audio", "joint")):
        total = 0.0
        for i in range(4):
            for j in range(4):
                logit = 5 * float(sides[first][i] @ sides[second][j]) - 3
                total += float(torch.nn.functional.softplus(torch.tensor(-logit if i == j else logit))) / 4
        expected[f"loss_{first}_{second}"] = total
    result = create_objective("joint", chunk_size=chunk_size)(online, None, _index())
    assert result.total.item() == pytest.approx(sum(expected.values()) / 3, rel=1e-5)
    for name, value in expected.items():
        assert result.terms[name].item() == pytest.approx(value, rel=1e-5)
    scaled = Embeddings(
        2 * online.video,
        online.audio,
        joint=online.joint / 3,
        logit_scale=online.logit_scale,
        logit_bias=online.logit_bias,
    )
    torch.testing.assert_close(JointSigLIP()(scaled, None, _index()).total, result.total)
    expected_pair = sigmoid_loss(online.video, online.audio, 5.0, -3.0)
    torch.testing.assert_close(result.terms["loss_video_audio"], expected_pair)


def test_unfit_input_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"needs Embeddings\.joint, logit_scale and logit_bias"):
        JointSigLIP()(_online(joint=None), None, _index())
    with pytest.raises(ValueError, match="takes one view of each clip, got 4 embeddings of 2 clips"):
        JointSigLIP()(_online(), None, _index(2))
    with pytest.raises(ValueError, match=r"modality_dropout \(1\.0\) must be in \[0, 1\)"):
        JointSigLIP(modality_dropout=1.0)
    with pytest.raises(ValueError, match=r"joint must start with \(4, 6\) and have 2 dimensions"):
        _online(joint=torch.zeros(3, 6))


def test_dropped_modalities_follow_the_keys_and_equal_missing_ones() -> None:
    torch.manual_seed(0)
    head = JointHead(3, 5, 4, dropout=0.4).train()
    torch.nn.init.normal_(head.missing["video"])
    torch.nn.init.normal_(head.missing["audio"])
    video, audio = torch.randn(400, 3), torch.randn(400, 5)
    found, both = head(video, audio, KEYS), head(video, audio)
    alone = {"video": head(video, None), "audio": head(None, audio)}
    same = {name: torch.isclose(found, x).all(dim=1) for name, x in {"both": both, **alone}.items()}
    shares = {name: rows.float().mean().item() for name, rows in same.items()}
    assert sum(rows.int() for rows in same.values()).eq(1).all()  # each clip is one of the three
    assert shares == {
        "both": pytest.approx(0.6, abs=0.07),
        "video": pytest.approx(0.2, abs=0.06),
        "audio": pytest.approx(0.2, abs=0.06),
    }
    order = torch.randperm(400)
    torch.testing.assert_close(head(video[order], audio[order], KEYS[order]), found[order])
    torch.testing.assert_close(head.eval()(video, audio, KEYS), both)  # nothing is dropped in evaluation
    with pytest.raises(ValueError, match="needs the video or the audio of a clip, got neither"):
        head(None, None)


def test_model_embeds_both_modalities_and_each_alone() -> None:
    torch.manual_seed(0)
    encoders = [create_encoder(f"small_{side}", modality=side, width=8) for side in ("video", "audio")]
    heads = [create_head("mlp", encoder.num_features, out_features=6) for encoder in encoders]
    joint = JointHead(encoders[0].num_features, encoders[1].num_features, 6, dropout=0.5)
    model = AVModel(*encoders, *heads, LogitScale(10.0, -10.0), joint_head=joint)
    video, audio, keys = torch.randn(4, 3, 2, 32, 32), torch.randn(4, 1, 32, 32), KEYS[:4]
    found = model(video, audio, keys=keys)
    result = JointSigLIP()(found, None, _index())
    result.total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        seen, heard = model.encode_video(video), model.encode_audio(audio)
        torch.testing.assert_close(model(video, audio).joint, model.embed_joint(seen, heard))
        assert model.embed_joint(seen, None).shape == model.embed_joint(None, heard).shape == (4, 6)
        with pytest.raises(ValueError, match=r"no joint head; train one with objective\.name"):
            AVModel(*encoders, *heads).embed_joint(seen, heard)
