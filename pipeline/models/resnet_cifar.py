"""Residual networks for 32×32 pictures: ResNet-20, -32, -44, -56, -110.

He, Zhang, Ren & Sun 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2: a 3×3
convolution, three groups of n blocks with `width`, 2·width and 4·width channels, mean over the picture, one linear
layer; depth = 6n + 2. The names of the weights are those of the published checkpoints of Y. Idelbayev's
"pytorch_resnet_cifar10".

Where a block halves the picture its input is halved too. Shortcut "A", the paper's choice for CIFAR, has no weights:
every second pixel, and zeros for the new channels. Shortcut "B" is a 1×1 convolution with batch norm; take it when the
residual stream itself shall be pruned, because zeros that are padded in tie the channels of two groups together.

Every ReLU is a module of its own, so that each activation has a name.

Letters: N inputs, C channels, H height, W width, K classes.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


class PaddedSubsample(nn.Module):
    """Shortcut A: every second pixel, and `padding` channels of zeros before and after."""

    def __init__(self, *, stride: int, padding: int) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        # A maximum over one pixel is x[:, :, ::stride, ::stride], in a form that integer runtimes know.
        x = F.max_pool2d(x, kernel_size=1, stride=self.stride)
        return F.pad(x, (0, 0, 0, 0, self.padding, self.padding))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, and the input added to their result."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, shortcut: Literal["A", "B"]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            if shortcut == "A":
                self.shortcut = PaddedSubsample(stride=stride, padding=(outputs - inputs) // 2)
            else:
                convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        answer: Tensor = self.relu2(out + self.shortcut(x))
        return answer


class ResNetCifar(nn.Module):
    """A residual network of `depth` = 6n + 2 layers; inputs (N, C, H, W), answers (N, K).

    stem_stride: of the first convolution; 2 halves height and width at the door, for inputs that bear it
    """

    def __init__(
        self,
        depth: int,
        *,
        width: int = 16,
        classes: int = 10,
        channels: int = 3,
        shortcut: Literal["A", "B"] = "A",
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"a CIFAR ResNet has 6n + 2 layers (8, 14, 20, …), not {depth}")
        if shortcut not in ("A", "B"):
            raise ValueError(f"a shortcut is 'A' or 'B', not {shortcut!r}")
        if shortcut == "A" and width % 2:
            raise ValueError(f"shortcut 'A' pads half of the channels on either side: width {width} must be even")
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        blocks = (depth - 2) // 6
        self.layer1 = _group(width, width, blocks=blocks, stride=1, shortcut=shortcut)
        self.layer2 = _group(width, 2 * width, blocks=blocks, stride=2, shortcut=shortcut)
        self.layer3 = _group(2 * width, 4 * width, blocks=blocks, stride=2, shortcut=shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))  # (N, width, H, W) at stem stride 1
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 4·width, H/4, W/4)
        answer: Tensor = self.linear(self.flatten(self.pool(x)))  # (N, K)
        return answer


def _group(inputs: int, outputs: int, *, blocks: int, stride: int, shortcut: Literal["A", "B"]) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride=stride, shortcut=shortcut)
    rest = [BasicBlock(outputs, outputs, stride=1, shortcut=shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def resnet20() -> ResNetCifar:
    """0.27 million weights; 8.75 % error on CIFAR-10 in the paper."""
    return ResNetCifar(20)


def resnet56() -> ResNetCifar:
    """0.85 million weights; 6.97 % error on CIFAR-10 in the paper."""
    return ResNetCifar(56)
