"""Networks of many kinds through placement, export and build: the engine answers what the fake-quantized network does.

Weights are random and batch norms have seen the data, so these are tests of arithmetic, not of accuracy.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.graph.compare import agreement
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.models.text_encoder import TextEncoder
from pipeline.stages.export import answers_of_onnx


def unit(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: type = nn.ReLU
) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), act())


class Fire(nn.Module):
    """SqueezeNet's module: squeeze, expand twice, concat."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.one, self.three = nn.Conv2d(squeezed, expanded, 1), nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.one(x)), self.relu(self.three(x))], 1)


def squeezing() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(16, 8, 16),
        Fire(32, 8, 16), nn.Dropout(), nn.Conv2d(32, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        narrow = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.body = nn.Sequential(
            unit(channels, wide, 1, act=nn.ReLU6), unit(wide, wide, groups=wide, act=nn.ReLU6), narrow
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class Mobile(nn.Module):
    """A stem, two inverted residuals and a linear layer, pooled by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(unit(3, 16, stride=2, act=nn.ReLU6), Inverted(16, 32), Inverted(16, 48))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(F.adaptive_avg_pool2d(self.features(x), (1, 1)), 1)
        return self.classifier(x)  # type: ignore[no-any-return]


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 4),
    )  # fmt: skip


class Functional(nn.Module):
    """Functions instead of layers, a residual addition, and a view by the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.n, self.m = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.n(self.a(x)))
        x = F.relu(self.m(self.b(x)), inplace=True) + self.c(x)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(x.view(x.size(0), -1))  # type: ignore[no-any-return]


class Shuffled(nn.Module):
    """Half of the channels pass by, the halves are joined and shuffled, then a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = unit(3, 16), unit(8, 8), unit(16, 16, groups=4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.a(x).chunk(2, dim=1)
        x = torch.cat((one, self.b(other)), 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.c(x).mean((2, 3)))  # type: ignore[no-any-return]


def with_activation(make: type) -> nn.Module:
    return nn.Sequential(
        unit(3, 16, act=make), unit(16, 32, stride=2, act=make), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)
    )


def vectors() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4)
    )


class Recurrent(nn.Module):
    """A convolution over time, an LSTM whose last state is read too, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm = nn.Conv1d(3, 16, 3, padding=1), nn.LSTM(16, 16, batch_first=True)
        self.hidden, self.head = nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        steps, (state, _) = self.lstm(F.relu(self.conv(x.flatten(2))).transpose(1, 2))
        x = torch.cat([steps[:, -1], state[0]], 1)
        return self.head(F.relu(self.hidden(x)))  # type: ignore[no-any-return]


def encoder(norm: Literal["pre", "post"]) -> nn.Module:
    return TextEncoder(words=30, classes=4, length=12, depth=2, width=32, heads=2, norm=norm)


def texts_from(data: Dataset) -> Dataset:
    """Its vectors as texts of 5 … 12 words of 29, each class with words of its own."""
    splits = []
    for split in data.splits:
        ids = np.clip(np.round(split.inputs * 4 + 15), 1, 29)
        places, words = np.arange(ids.shape[1]), 5 + split.indices % 8
        splits.append(replace(split, inputs=np.where(places < words[:, None], ids, 0).astype(np.float32)))
    return replace(data, train=splits[0], validation=splits[1], test=splits[2])


# network, integer convolutions and matrix products, float ones
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "resnet, option A": (partial(ResNetCifar, 8, width=8, classes=4, shortcut="A"), 7, 1),
    "resnet, option B": (partial(ResNetCifar, 8, width=8, classes=4, shortcut="B"), 9, 1),
    "squeezing": (squeezing, 8, 0),
    "mobile": (Mobile, 7, 1),
    "plain": (plain, 3, 1),
    "functional": (Functional, 3, 1),
    "shuffled": (Shuffled, 3, 1),
    "leaky": (partial(with_activation, nn.LeakyReLU), 2, 1),
    "hardswish": (partial(with_activation, nn.Hardswish), 2, 1),
    "silu": (partial(with_activation, nn.SiLU), 2, 1),
    "gelu": (partial(with_activation, nn.GELU), 2, 1),
    "prelu": (partial(with_activation, nn.PReLU), 2, 1),
    "vectors": (vectors, 2, 1),
    # Each block has six linear layers, and two products of activations, which are float as the head is.
    "encoder, pre-norm": (partial(encoder, "pre"), 12, 5),
    "encoder, post-norm": (partial(encoder, "post"), 12, 5),
    "recurrent": (Recurrent, 3, 1),
}
SHAPES = {"vectors": (20,), "encoder, pre-norm": (12,), "encoder, post-norm": (12,)}


@pytest.mark.parametrize("name", NETWORKS)
def test_16_networks_answer_alike_in_torch_in_onnx_and_in_the_engine(
    name: str, way_of: Callable[..., Any], tiny_data: Callable[..., Dataset]
) -> None:
    network, integer, floating = NETWORKS[name]
    data = tiny_data(SHAPES.get(name, (3, 16, 16)))
    if name.startswith("encoder"):
        data = texts_from(data)
    way = way_of(network, data=data)
    # Outputs are compared by their largest difference over their size. Measured on 20 networks: up to 0.16 for what 8
    # bits cost a random network, 0.011 where float sums fall on the other side of a rounding, and 0.045 where integer
    # pooling and addition round in between. A quantizer in a wrong place costs more than the tolerances.
    written = answers_of_onnx(way.exported.path, way.inputs)
    for reference, answers, tolerance in (
        (way.whole, way.fake, 0.25), (way.fake, written, 0.04), (way.fake, way.engine, 0.1),
    ):  # fmt: skip
        same = agreement(reference, answers)
        assert same.scale > 0
        assert same.largest / same.scale < tolerance
    operators = way.built.facts["operators"]
    assert (operators["integer"], operators["floating"]) == (integer, floating)
    checked_as_a_graph(way.exported.path, weights=len(way.quantized.facts["placement"]["weights"]))


def checked_as_a_graph(path: Path, *, weights: int) -> None:
    """Quantized weights lie in the file as int8 and no constant has two readers."""
    graph = onnx.load(path).graph
    dequantized = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    stored = [each for each in graph.initializer if each.name in dequantized]
    assert len(stored) == weights
    assert all(each.data_type == TensorProto.INT8 for each in stored)
    readers = [name for node in graph.node for name in node.input]
    assert [each.name for each in graph.initializer if readers.count(each.name) != 1] == []
    largest = [int(np.abs(onnx.numpy_helper.to_array(each).astype(int)).max()) for each in stored]
    assert max(largest) <= 127
