"""Small calibrated networks as canonical integer graphs, shared by the tests of the lowerings."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.insert import point_name, quantized, watched
from pipeline.stages.export import onnx_of
from targets.target import Scheme

SHAPE = (3, 12, 12)


class Mixed(nn.Module):
    """A depthwise convolution, a signed residual sum, poolings, a concat, a ReLU6 and a linear layer in integers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide, self.dilated = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3, padding=2, dilation=2, bias=False)
        self.relu, self.relu6, self.most, self.mean = nn.ReLU(), nn.ReLU6(), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2)
        self.hidden, self.last = nn.Linear(8 * 9, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.most(self.relu(self.stem(x)))
        x = x + self.wide(self.relu6(self.deep(x)))  # signed: no ReLU behind it
        x = torch.cat([self.dilated(x), self.relu(self.dilated(self.most(x)))], 1)
        return self.last(self.relu(self.hidden(torch.flatten(self.mean(x), 1))))  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mixed": Mixed,
    "option A": partial(ResNetCifar, 8, width=8, classes=4, shortcut="A"),  # zeros are padded in
    "option B": partial(ResNetCifar, 8, width=8, classes=4, shortcut="B"),  # sums of two convolutions
}


def asked(size: float, *, seed: int = 5) -> np.ndarray:
    """One input; networks are calibrated to size 1, and 100 saturates every tensor."""
    return (size * np.random.default_rng(seed).normal(size=(1, *SHAPE))).astype(np.float32)


@pytest.fixture(scope="session")
def inputs_of() -> Callable[..., np.ndarray]:
    """Makes one input of a size: `inputs_of(100.0)`."""
    return asked


@pytest.fixture(scope="session", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> str:
    """The name of each network in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def canonical_of() -> Callable[..., onnx.ModelProto]:
    """Makes the canonical graph of a network: random weights, ranges as seen on 8 inputs, biases on their grid.

    without: the beginning of the names of quantizers that are left out
    """

    @cache
    def make(name: str, scheme: Scheme, without: tuple[str, ...] = ()) -> onnx.ModelProto:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            module = NETWORKS[name]().eval()
            for layer in module.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    nn.init.uniform_(layer.weight, 0.5, 2.0)
                    nn.init.normal_(layer.bias)
        graph, placement = watched(module)
        for producer in list(placement.activations):
            if any(part in producer for part in without):
                del placement.activations[producer]
        amax: dict[str, float] = {}
        handles = [
            graph.get_submodule(point_name(producer)).register_forward_hook(
                lambda _module, _inputs, output, producer=producer: amax.update(
                    {producer: max(amax.get(producer, 0.0), float(output.abs().max()))}
                )
            )
            for producer in placement.activations
        ]
        with torch.no_grad():
            for seed in range(8):
                graph(torch.from_numpy(asked(1.0, seed=seed)))
        for handle in handles:
            handle.remove()
        student = quantized(graph, placement, amax=amax, scheme=scheme)
        biases_on_grid(student)
        return onnx_of(student, input_shape=SHAPE)

    return make
