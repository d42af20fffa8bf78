"""The loss that transformers computes for PE-AV, beside the sigmoid loss of this package.

transformers 5.24 multiplies the logits by the identity matrix in place of signs: the logits of different clips become
zero before the logarithm, so no clip is ever a negative. The sigmoid loss of SigLIP, which PE-AV is trained by, has
labels of plus and minus one.
"""

import pytest
import torch

from avssl.objectives.siglip import sigmoid_loss

pe_av = pytest.importorskip("transformers.models.pe_audio_video.modeling_pe_audio_video")


def gradient_of_logits(loss, logits):
    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits), logits)
    return gradient


def test_pairs_of_different_clips_have_no_gradient_there_and_one_here():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    is_pair = torch.eye(5, dtype=torch.bool)

    theirs = gradient_of_logits(lambda x: pe_av.PeAudioVideoModel._contrastive_loss(None, x), logits)
    assert (theirs[~is_pair] == 0).all()
    assert (theirs[is_pair] < 0).all()

    sign = 2 * is_pair.float() - 1
    siglip = gradient_of_logits(lambda x: -torch.nn.functional.logsigmoid(sign * x).sum() / 5, logits)
    assert (siglip[~is_pair] > 0).all()
    torch.testing.assert_close(siglip[is_pair], theirs[is_pair])


def test_collapsed_embeddings_are_best_there_and_bad_here():
    """If all clips have one embedding, their loss falls to its lowest value as the scale grows; ours grows."""
    same, own = torch.ones(6, 4), torch.nn.functional.normalize(torch.eye(6), dim=1)
    constant = 6 * 5 / 6 * torch.log(torch.tensor(2.0))  # of the logits that are multiplied by zero
    for scale in (10.0, 100.0):
        logits = scale * torch.nn.functional.normalize(same, dim=1) @ torch.nn.functional.normalize(same, dim=1).T
        theirs = pe_av.PeAudioVideoModel._contrastive_loss(None, logits)
        torch.testing.assert_close(theirs, constant, atol=1e-4, rtol=0)
    told_apart, collapsed = (sigmoid_loss(x, x, 20.0, -10.0) for x in (own, same))
    assert told_apart < 0.01
    assert collapsed > 10
