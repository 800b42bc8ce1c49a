"""The CIFAR ResNets: by count, against the slices of the paper's authors, and with published weights."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import fx

from pipeline.data.cifar10 import Cifar10
from pipeline.data.dataset import inputs_for_network
from pipeline.models.checkpoint import load_state, state_from_file
from pipeline.models.resnet_cifar import PaddedSubsample, ResNetCifar, resnet20, resnet56


def weights(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet20_has_269722_weights_and_resnet56_853018() -> None:
    first, last = 27 * 16 + 32, 64 * 10 + 10
    wide = [9 * 16 * 16 + 32, 9 * 32 * 32 + 64, 9 * 64 * 64 + 128]  # a convolution with its batch norm, per group
    halving = [9 * 16 * 32 + 64, 9 * 32 * 64 + 128]
    assert first + 6 * wide[0] + 5 * (wide[1] + wide[2]) + sum(halving) + last == 269_722 == weights(resnet20())
    assert first + 18 * wide[0] + 17 * (wide[1] + wide[2]) + sum(halving) + last == 853_018 == weights(resnet56())


def test_shortcut_b_adds_2_convolutions_with_batch_norm() -> None:
    added = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert weights(ResNetCifar(20, shortcut="B")) == weights(ResNetCifar(20)) + added


@pytest.mark.parametrize("size", [8, 9])
def test_shortcut_a_is_every_second_pixel_and_zeros_around_3_channels(size: int) -> None:
    x = torch.randn(2, 3, size, size + 1)
    expected = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
    assert torch.equal(PaddedSubsample(stride=2, padding=2)(x), expected)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_trace_of_a_network_of_14_layers_answers_the_same(shortcut: Literal["A", "B"]) -> None:
    network = ResNetCifar(14, width=4, classes=5, channels=1, shortcut=shortcut).eval()
    inputs = torch.randn(2, 1, 32, 32)
    traced = fx.symbolic_trace(network)
    assert torch.equal(traced(inputs), network(inputs))
    assert network(inputs).shape == (2, 5)
    # 13 convolutions outside of shortcuts, each with a ReLU of its own
    assert sum(node.op == "call_module" and "relu" in str(node.target) for node in traced.graph.nodes) == 13


@pytest.mark.parametrize("depth", [7, 21, 2])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"not {depth}"):
        ResNetCifar(depth)


def accuracy(network: ResNetCifar, weights: Path, data_folder: Path, *, n: int) -> float:
    missing = [path for path in (weights, data_folder / "cifar10-small") if not path.exists()]
    if missing:
        pytest.skip(f"missing: {', '.join(map(str, missing))}")
    load_state(network, state_from_file(weights), path=weights)
    network.eval()
    data = Cifar10()(data_folder)
    correct = 0
    with torch.inference_mode():
        for start in range(0, n, 250):
            rows = slice(start, min(start + 250, n))
            inputs = torch.from_numpy(inputs_for_network(data, data.test.inputs[rows]))
            correct += int((network(inputs).argmax(1).numpy() == data.test.labels[rows]).sum())
    return correct / n


@pytest.mark.slow
def test_the_published_resnet20_answers_90_90_percent_of_3000_right(data_folder: Path) -> None:
    measured = accuracy(resnet20(), data_folder / "cifar10-resnets" / "resnet20-12fca82f.th", data_folder, n=3000)
    assert abs(measured - 0.9090) < 1.5 / 3000  # one picture may flip with the order of float sums


@pytest.mark.slow
def test_the_published_resnet56_answers_500_no_worse_than_its_93_10_percent_allows(data_folder: Path) -> None:
    measured = accuracy(resnet56(), data_folder / "cifar10-resnets" / "resnet56-4bfd9763.th", data_folder, n=500)
    assert measured > 0.9310 - 4 * (0.9310 * 0.0690 / 500) ** 0.5  # four standard errors of 500 draws
