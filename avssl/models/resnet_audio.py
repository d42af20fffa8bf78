"""torchvision's ResNet-18 on spectrograms: one input channel, no classifier, untrained.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385; the usual audio encoder of localization papers (LVS, EZ-VSL).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models import resnet18

from avssl.models.encoder import Encoder, Pooling


class ResNetAudioEncoder(Encoder):
    """ResNet-18 (11.2 M parameters) on log-mel or linear spectrograms.

    Spectrogram (B, 1, time, freq) to (B, 512, time/32, freq/32), each rounded up.

    Args:
        pool: Pooling of all cells of the map into one vector, torchvision's by "mean"; "attention" learns which
            cells count.
    """

    def __init__(self, pool: Pooling = "mean") -> None:
        super().__init__("audio", 512, ("stem", "layer1", "layer2", "layer3", "layer4"), pool)
        network = resnet18(weights=None)
        conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
        self.stem = nn.Sequential(OrderedDict(conv1=conv1, bn1=network.bn1, relu=network.relu, maxpool=network.maxpool))
        for name in self.stage_names[1:]:
            self.add_module(name, network.get_submodule(name))
