"""MobileNet for pictures of 224×224: a 3×3 convolution, then 13 depthwise separable ones.

Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
arXiv:1704.04861, table 1: a convolution per channel (3×3, depthwise) and one across channels (1×1, pointwise), each
with batch norm and an activation; `width` is the paper's α, which narrows every layer.

The paper has ReLU. Followed here is the published checkpoint of width 0.25 that face detectors of the RetinaFace family
start from: LeakyReLU with slope 0.1, batch norm with PyTorch's ε = 10⁻⁵, three stages, and its names of the weights.

Every activation is a module of its own, so that each has a name.

Letters: N inputs, H height, W width, K classes.
"""

from torch import Tensor, nn

# Stride and channels at width 1 of the separable convolutions of each stage; table 1 of the paper.
STAGES = (
    ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256)),
    ((2, 512), (1, 512), (1, 512), (1, 512), (1, 512), (1, 512)),
    ((2, 1024), (1, 1024)),
)
STEM = 32  # channels of the first convolution at width 1


class MobileNetV1(nn.Module):
    """Inputs (N, 3, H, W), answers (N, K).

    width: the paper's α · slope: of the activations below zero; 0 is the paper's ReLU
    """

    def __init__(self, *, width: float = 1.0, classes: int = 1000, slope: float = 0.0) -> None:
        super().__init__()
        if not 0 < width <= 4:
            raise ValueError(f"width {width} must be above 0 and at most 4; the paper has 0.25, 0.5, 0.75 and 1")
        channels = _narrowed(STEM, width)
        stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            _activation(slope),
        )
        stages: list[nn.Sequential] = []
        for plan in STAGES:
            layers = [] if stages else [stem]
            for stride, outputs_at_1 in plan:
                outputs = _narrowed(outputs_at_1, width)
                layers.append(_separable(channels, outputs, stride=stride, slope=slope))
                channels = outputs
            stages.append(nn.Sequential(*layers))
        self.stage1, self.stage2, self.stage3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(x)))  # (N, 1024·width, H/32, W/32)
        answer: Tensor = self.fc(self.flatten(self.pool(x)))  # (N, K)
        return answer


def _separable(inputs: int, outputs: int, *, stride: int, slope: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        _activation(slope),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        _activation(slope),
    )


def _activation(slope: float) -> nn.Module:
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def _narrowed(channels: int, width: float) -> int:
    return max(1, int(channels * width))


def mobilenet_v1_025() -> MobileNetV1:
    """0.47 million weights; 46.58 % top-1 on ImageNet by the note in the checkpoint."""
    return MobileNetV1(width=0.25, slope=0.1)
