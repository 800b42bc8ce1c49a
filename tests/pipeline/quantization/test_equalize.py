"""Equalised ranges: by hand, on networks, and where nothing may be touched."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations

from pipeline.graph.trace import traced
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.equalize import equalized
from pipeline.quantization.fold import batch_norm_folded
from pipeline.quantization.insert import watched

Body = Callable[[Any, Tensor], Any]


class Small(nn.Module):
    """Layers of the test's own and a forward pass over them."""

    def __init__(self, body: Body, **layers: nn.Module) -> None:
        super().__init__()
        self.body = body
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.body(self, x)
        return answer


def layer(graph: fx.GraphModule, name: str) -> Any:
    return graph.get_submodule(name)


def separable(activation: nn.Module) -> nn.Module:
    """Convolution → depthwise → convolution → depthwise with two outputs per channel → convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), activation, nn.Conv2d(6, 6, 3, groups=6), activation,
        nn.Conv2d(6, 4, 1), activation, nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 4, 1),
    )  # fmt: skip


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2, padding=1), nn.Conv2d(6, 8, 3, padding=1),
        nn.PReLU(8), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(),
        nn.Linear(72, 10), nn.ReLU(), nn.Linear(10, 4),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "depthwise": (lambda: separable(nn.ReLU()), (3, 12, 12), 4),
    "leaky": (lambda: separable(nn.LeakyReLU(0.1)), (3, 12, 12), 4),
    "pooled": (pooled, (3, 12, 12), 3),
    "residual": (partial(ResNetCifar, 8, width=4, shortcut="B"), (3, 16, 16), 3),
    "series": (lambda: nn.Sequential(nn.Conv1d(3, 5, 3), nn.MaxPool1d(2), nn.ReLU(), nn.Conv1d(5, 4, 3)), (3, 12), 1),
    "tokens": (lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 6, bias=False)), (7, 6), 1),
}  # fmt: skip


def folded(network: nn.Module, *, uneven: bool = True) -> fx.GraphModule:
    """The network's graph, with channels whose weights differ a hundredfold."""
    graph = batch_norm_folded(traced(network.eval()))
    with torch.no_grad():
        for each in graph.modules():
            if uneven and isinstance(each, (nn.Conv1d, nn.Conv2d, nn.Linear)):
                scale = 10.0 ** torch.linspace(-1, 1, len(each.weight))
                each.weight.mul_(scale.reshape(-1, *[1] * (each.weight.dim() - 1)))
    return graph


def test_ranges_of_4_and_1_before_and_1_and_4_behind_all_become_2() -> None:
    graph = traced(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)))
    first, second = layer(graph, "0"), layer(graph, "2")
    first.weight.data, first.bias.data = torch.tensor([[4.0, -1.0], [0.5, -1.0]]), torch.tensor([3.0, 5.0])
    second.weight.data = torch.tensor([[1.0, -4.0], [0.5, 2.0], [0.0, 1.0]])
    kept = second.bias.data.clone()
    (pair,) = equalized(graph)
    # s = √(4 · 1) / 1 = 2 and √(1 · 4) / 4 = 0.5: powers of two, so every figure is exact.
    assert first.weight.tolist() == [[2.0, -0.5], [1.0, -2.0]]
    assert first.bias.tolist() == [1.5, 10.0]
    assert second.weight.tolist() == [[2.0, -2.0], [1.0, 1.0], [0.0, 0.5]]
    assert torch.equal(second.bias, kept)
    assert (pair.first, pair.second, pair.unequal_before, pair.unequal_after) == ("0", "2", 4.0, 1.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_6_networks_answer_as_before_within_2e_6_and_every_pair_is_equal(name: str) -> None:
    make, shape, count = NETWORKS[name]
    torch.manual_seed(0)
    graph, inputs = folded(make()), torch.randn(4, *shape)
    with torch.no_grad():
        expected = copy.deepcopy(graph)(inputs)
        pairs = equalized(graph)
        got = graph(inputs)
    # Weights are scaled in float64 and rounded once to float32 (6e-8 each); sums of up to 200 of them.
    assert float((got - expected).abs().max() / expected.abs().max()) < 2e-6
    assert len(pairs) == count
    assert max(pair.unequal_before for pair in pairs) > 2
    assert max(pair.unequal_after for pair in pairs) < 1.01  # factors of the last round were within 1e-4, squared


def test_the_2_ranges_of_each_channel_of_a_depthwise_chain_agree_in_a_slow_version() -> None:
    torch.manual_seed(0)
    graph = folded(separable(nn.ReLU()))
    equalized(graph)
    first, deep, point, double, last = (layer(graph, each).weight.detach() for each in "03578")
    for channel in range(6):
        ranges = [float(weight.abs().max()) for weight in (first[channel], deep[channel], point[:, channel])]
        assert ranges == pytest.approx([ranges[0]] * 3, rel=1e-3)  # settled to 1e-4 per factor, two factors
    for channel in range(4):
        ranges = [float(weight.abs().max()) for weight in (point[channel], double[2 * channel : 2 * channel + 2])]
        assert ranges[0] == pytest.approx(ranges[1], rel=1e-3)
    for channel in range(8):
        assert float(double[channel].abs().max()) == pytest.approx(float(last[:, channel].abs().max()), rel=1e-3)


def test_2_dead_channels_stay_and_nothing_is_divided_by_0() -> None:
    torch.manual_seed(0)
    graph = traced(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)))
    first, second = layer(graph, "0"), layer(graph, "2")
    with torch.no_grad():
        first.weight[1] = 0.0
        second.weight[:, 2] = 0.0
    before = copy.deepcopy(first)
    equalized(graph)
    assert all(bool(each.isfinite().all()) for each in graph.parameters())
    for channel in (1, 2):
        assert torch.equal(first.weight[channel], before.weight[channel])
        assert torch.equal(first.bias[channel], before.bias[channel])
    assert not torch.equal(first.weight[0], before.weight[0])


def test_a_channel_of_tiny_weights_and_a_bias_of_1_grows_by_no_more_than_the_bound_of_10() -> None:
    graph = traced(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    first, second = layer(graph, "0"), layer(graph, "2")
    first.weight.data, first.bias.data = torch.tensor([[1e-8, 0.0], [1.0, 1.0]]), torch.ones(2)
    second.weight.data = torch.ones(2, 2)
    (pair,) = equalized(graph, largest_factor=10.0)
    assert first.bias.tolist() == pytest.approx([10.0, 1.0])  # 10 000 without a bound
    assert pair.unequal_after == pytest.approx(1e6)  # 1e8 by 10 on either side


def test_the_watched_network_has_the_same_3_pairs_through_its_places_for_quantizers() -> None:
    torch.manual_seed(0)
    network = ResNetCifar(8, width=4, shortcut="B").eval()
    plain, (places, _) = batch_norm_folded(traced(network)), watched(network)
    assert len(equalized(plain)) == 3
    assert equalized(places) == equalized(batch_norm_folded(traced(network)))


def tied(**layers: nn.Module) -> nn.Module:
    network = Small(lambda m, x: m.b(F.relu(m.a(x))), **layers)
    network.get_submodule("b").weight = network.get_submodule("a").weight
    return network


def convolution(**settings: Any) -> nn.Module:
    return nn.Conv2d(4, 4, 3, padding=1, **settings)


UNTOUCHED: dict[str, Callable[[], nn.Module]] = {
    "ReLU6": lambda: nn.Sequential(convolution(), nn.ReLU6(), convolution()),
    "sigmoid": lambda: Small(lambda m, x: m.b(torch.sigmoid(m.a(x))), a=convolution(), b=convolution()),
    "batch norm between": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.BatchNorm2d(4), convolution()),
    "grouped": lambda: nn.Sequential(convolution(), nn.ReLU(), convolution(groups=2), nn.ReLU(), convolution()),
    "transposed": lambda: nn.Sequential(convolution(), nn.ConvTranspose2d(4, 4, 2), convolution()),
    "two readers": lambda: Small(lambda m, x: m.b(y := F.relu(m.a(x))) + y, a=convolution(), b=convolution()),
    "called twice": lambda: Small(lambda m, x: m.b(F.relu(m.a(m.a(x)))), a=convolution(), b=convolution()),
    "tied weights": lambda: tied(a=convolution(), b=convolution()),
    "weight read elsewhere": lambda: Small(
        lambda m, x: m.b(F.relu(m.a(x))) + m.a.weight.sum(), a=convolution(), b=convolution()
    ),
    "parametrised": lambda: nn.Sequential(parametrizations.weight_norm(convolution()), convolution()),
    "linear over the width": lambda: nn.Sequential(convolution(), nn.ReLU(), nn.Linear(4, 4)),
    "pooling over features": lambda: nn.Sequential(nn.Linear(4, 4), nn.MaxPool1d(3, 1, 1), nn.Linear(4, 4)),
    "flattened from the batch on": lambda: nn.Sequential(convolution(), nn.Flatten(0), nn.Linear(64, 4)),
    "padded with 1": lambda: Small(lambda m, x: m.b(F.pad(m.a(x), (1, 0), value=1)), a=convolution(), b=convolution()),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTOUCHED)
def test_14_networks_that_scaling_would_break_have_0_pairs(name: str) -> None:
    torch.manual_seed(0)
    graph = folded(UNTOUCHED[name](), uneven=False)
    kept = copy.deepcopy(graph.state_dict())
    assert equalized(graph) == ()
    assert all(torch.equal(tensor, kept[key]) for key, tensor in graph.state_dict().items())
