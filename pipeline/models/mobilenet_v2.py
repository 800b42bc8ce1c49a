"""MobileNetV2 for pictures of 224×224: 17 blocks that widen, filter each channel, and narrow again.

Sandler, Howard, Zhu, Zhmoginov & Chen 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381,
section 3.3 (the block) and table 2 (the network). A block is a 1×1 convolution to t times the channels, a 3×3
convolution per channel, and a 1×1 convolution without activation; its input is added where the shapes agree. The names
of the weights are those of torchvision, in whose published files many projects pass this network on.

Every ReLU6 is a module of its own, so that each activation has a name.

Letters: N inputs, H height, W width, K classes, t expansion.
"""

from torch import Tensor, nn

# Expansion t, channels, blocks, stride of the first of them; table 2 of the paper.
PLAN = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, LAST = 32, 1280  # channels of the first and of the last convolution


class InvertedResidual(nn.Module):
    """Widen to `expansion` times the channels, filter each of them, narrow; the input is added if it fits."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers = [] if expansion == 1 else [_activated(inputs, inner, kernel=1)]
        self.conv = nn.Sequential(
            *layers,
            _activated(inner, inner, kernel=3, stride=stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.adds_input else out


class MobileNetV2(nn.Module):
    """Inputs (N, 3, H, W), answers (N, K); `dropout` before the last layer, while training."""

    def __init__(self, *, classes: int = 1000, dropout: float = 0.2) -> None:
        super().__init__()
        layers: list[nn.Module] = [_activated(3, STEM, kernel=3, stride=2)]
        channels = STEM
        for expansion, outputs, blocks, first_stride in PLAN:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                layers.append(InvertedResidual(channels, outputs, stride=stride, expansion=expansion))
                channels = outputs
        self.features = nn.Sequential(*layers, _activated(channels, LAST, kernel=1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(LAST, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (N, 1280, H/32, W/32)
        answer: Tensor = self.classifier(self.flatten(self.pool(x)))  # (N, K)
        return answer


def _activated(inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


def mobilenet_v2() -> MobileNetV2:
    """3.5 million weights; 72.0 % top-1 on ImageNet in the paper (table 4)."""
    return MobileNetV2()
