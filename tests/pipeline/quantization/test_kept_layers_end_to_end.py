"""Networks with some layers in float through export and build: the engine answers what the torch network does."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.graph.compare import agreement
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.sensitivity import moves_in


class Inverted(nn.Module):
    """A stem, MobileNetV2's block with its addition, and a fork that is joined again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = unit(3, 8, stride=2), nn.Linear(16, 4)
        self.body = nn.Sequential(unit(8, 16, 1), unit(16, 16, groups=16), nn.Conv2d(16, 8, 1))
        self.one, self.other = unit(8, 8, 1), unit(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.body(x)
        x = torch.cat((self.one(x), self.other(x)), 1)
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


def unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "inverted": Inverted,
    "resnet, option A": partial(ResNetCifar, 8, width=8, classes=4, shortcut="A"),
}
# network, which of its layers stay float, by their place
CASES = [
    ("inverted", (0,)), ("inverted", (2,)), ("inverted", (1, 2, 3)), ("inverted", (4, 5)), ("inverted", (0, 3, 4)),
    ("resnet, option A", (0,)), ("resnet, option A", (1, 2)), ("resnet, option A", (4,)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "places"), CASES)
def test_8_networks_with_layers_in_float_answer_alike_in_torch_and_in_the_engine(
    name: str, places: tuple[int, ...], way_of: Callable[..., Any]
) -> None:
    layers = moves_in(NETWORKS[name]().eval()).whole.weights
    kept = tuple(layers[place] for place in places)
    way = way_of(NETWORKS[name], keep_float=kept)
    assert way.quantized.facts["placement"]["weights"] == tuple(each for each in layers if each not in kept)
    # As for networks that are integer all through (test_networks_end_to_end.py): 8 bits cost a random network up to
    # 0.16 of the size of its answers, other roundings in integer additions and pools up to 0.045.
    for reference, answers, tolerance in ((way.whole, way.fake, 0.25), (way.fake, way.engine, 0.1)):
        same = agreement(reference, answers)
        assert same.scale > 0
        assert same.largest / same.scale < tolerance
    operators = way.built.facts["operators"]
    assert (operators["integer"], operators["floating"]) == (len(layers) - len(kept), 1 + len(kept))
