"""Joint head: the sigmoid loss between video, audio and an embedding of both.

Source: PE-AV (https://arxiv.org/abs/2512.19687), whose pairs without text are audio and video, audio and the joint
embedding, video and the joint embedding; each pair has the sigmoid loss of SigLIP (Zhai et al., ICCV 2023),
https://arxiv.org/abs/2303.15343. Differences: all pairs have one learned scale and offset, and some clips' joint
embeddings lack a modality in training, so that it can be missing later.

Dimensions: B clips on this rank, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, Positive, ShareBelowOne, Signed, checked
from avssl.objectives.objective import Objective
from avssl.objectives.scores import check_chunk_size
from avssl.objectives.siglip import sigmoid_loss_and_terms


@checked
class JointSigLIP(Objective):
    """Mean of the sigmoid losses of three pairs: video and audio, video and joint, audio and joint.

    Args:
        modality_dropout: Share of the clips whose joint embedding lacks the video or the audio, each as often.
        chunk_size: Rows of the score matrices that exist at a time; None computes all at once.
        initial_scale: Initial value of the learned scale of the logits, in (0, 100].
        initial_bias: Initial value of their learned offset.

    Terms: ``loss``; ``loss_video_audio``, ``loss_video_joint`` and ``loss_audio_joint``; of video and audio
    ``accuracy_v2a``, ``cosine_positive`` and ``cosine_negative``; ``temperature`` and ``bias`` as learned so far.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones = torch.arange(2), torch.ones(2, 8)
        >>> scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
        >>> same = avssl.Embeddings(ones, ones, joint=ones, logit_scale=scale, logit_bias=bias)
        >>> JointSigLIP()(same, None, BatchIndex(row, row, row)).total  # every logit is 0: 2 log 2
        tensor(1.3863)
    """

    def __init__(
        self,
        modality_dropout: ShareBelowOne = 0.3,
        chunk_size: Count | None = None,
        initial_scale: Positive = 10.0,
        initial_bias: Signed = -10.0,
    ) -> None:
        super().__init__()
        check_chunk_size(chunk_size)
        self.chunk_size = chunk_size
        self.needs = self.needs_of(
            {"modality_dropout": modality_dropout, "initial_scale": initial_scale, "initial_bias": initial_bias}
        )

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            logit_scale=options["initial_scale"],
            logit_bias=options["initial_bias"],
            joint_dropout=options["modality_dropout"],
        )

    def extra_repr(self) -> str:
        return f"modality_dropout={self.needs.joint_dropout}, chunk_size={self.chunk_size}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or the model has no joint head, scale and offset.
        """
        self.check_views(online, index)
        scale, bias, joint = online.logit_scale, online.logit_bias, online.joint
        if scale is None or bias is None or joint is None:
            raise InputError(
                "JointSigLIP needs Embeddings.joint, logit_scale and logit_bias: give the model a joint_head and "
                f"logits=LogitScale({self.needs.logit_scale:g}, {self.needs.logit_bias:g})."
            )
        audios, joints = gather_together(online.audio, joint)
        video_audio, terms = sigmoid_loss_and_terms(online.video, audios, scale, bias, self.chunk_size)
        parts = {
            "loss_video_audio": video_audio,
            "loss_video_joint": sigmoid_loss_and_terms(online.video, joints, scale, bias, self.chunk_size)[0],
            "loss_audio_joint": sigmoid_loss_and_terms(online.audio, joints, scale, bias, self.chunk_size)[0],
        }
        total = (parts["loss_video_audio"] + parts["loss_video_joint"] + parts["loss_audio_joint"]) / 3
        learned = {"temperature": 1 / scale.detach(), "bias": bias.detach()}
        detached = {name: value.detach() for name, value in parts.items()}
        return LossTerms(total, {"loss": total.detach(), **detached, **terms, **learned})
