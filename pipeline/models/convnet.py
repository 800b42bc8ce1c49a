"""A small convolutional network for grey or colour pictures, for the recipes that must be quick.

Three times convolution, batch norm and ReLU, each but the first halving the picture; then the mean over the picture
and one linear layer. Nothing published: the plainest network in which every step of the journey has something to do.

Letters: N inputs, C channels, H height, W width, K classes.
"""

from torch import Tensor, nn


class ConvNet(nn.Module):
    """`width`, 2·width and 4·width channels; inputs (N, C, H, W), answers (N, K)."""

    def __init__(self, *, width: int = 16, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu3 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))  # (N, width, H, W)
        x = self.relu2(self.bn2(self.conv2(x)))  # (N, 2·width, H/2, W/2)
        x = self.relu3(self.bn3(self.conv3(x)))  # (N, 4·width, H/4, W/4)
        answer: Tensor = self.linear(self.flatten(self.pool(x)))  # (N, K)
        return answer
