"""SqueezeNet 1.1 for pictures of 224×224: eight fire modules, and no linear layer at the end.

Iandola, Han, Moskewicz, Ashraf, Dally & Keutzer 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size", arXiv:1602.07360, section 3.2 (the fire module). A fire module narrows with a 1×1 convolution, then
widens with 1×1 and 3×3 convolutions side by side. Followed is the authors' version 1.1, published after the paper with
their code: a narrower first convolution and earlier pooling, 2.4 times less work by their account. There is no batch
norm. The names of the weights are those of torchvision.

The last convolution gives a picture per class, and the answer is the mean of its positive part.

Every ReLU is a module of its own, so that each activation has a name.

Letters: N inputs, H height, W width, K classes.
"""

import torch
from torch import Tensor, nn

# Input, squeezed and expanded channels of each fire module (each of its two expansions has the last number), and None
# where the picture is halved.
FIRES = ((64, 16, 64), (128, 16, 64), None, (128, 32, 128), (256, 32, 128), None,
         (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256))  # fmt: skip


class Fire(nn.Module):
    """Squeeze to few channels, expand with 1×1 and 3×3 kernels, and put both results side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        narrow = self.expand1x1_activation(self.expand1x1(x))
        wide = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([narrow, wide], dim=1)


class SqueezeNet(nn.Module):
    """Version 1.1; inputs (N, 3, H, W), answers (N, K), none of them negative."""

    def __init__(self, *, classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), _halved()]
        layers += [_halved() if fire is None else Fire(*fire) for fire in FIRES]
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(512, classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.flatten = nn.Flatten()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type] # every convolution here has one
        nn.init.normal_(last.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (N, 512, H/16 − 1, W/16 − 1)
        answer: Tensor = self.flatten(self.classifier(x))  # (N, K)
        return answer


def _halved() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)  # as Caffe counts: a window may stick out at the edge


def squeezenet_1_1() -> SqueezeNet:
    """1.24 million weights; 57.5 % top-1 on ImageNet in the paper (1.0), no less by the authors' account."""
    return SqueezeNet()
