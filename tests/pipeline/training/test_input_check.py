"""Inputs unlike those of the training are told apart by what the first batch norm remembers."""

import re

import pytest
import torch
from torch import nn

from pipeline.training.input_check import input_mismatch


def trained(*, channels: int = 3) -> nn.Module:
    """A network whose batch norms have seen 50 batches of mean 0 and deviation 1."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten()
    )
    for _ in range(50):
        network(torch.randn(32, channels, 8, 8))
    return network.eval()


def test_inputs_like_those_of_the_training_raise_0_doubts() -> None:
    network = trained()
    assert input_mismatch(network, torch.randn(64, 3, 8, 8)) is None
    assert not network.training
    assert all(not module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("factor", [0.2, 0.4, 50.0])
def test_inputs_of_a_fifth_two_fifths_and_50_times_the_size_are_pointed_out(factor: float) -> None:
    said = input_mismatch(trained(), factor * torch.randn(64, 3, 8, 8))
    assert said is not None
    (spread,) = re.findall(r"spread (\S+) times", said)
    # 64 inputs vary by a few per cent, and two digits are printed
    assert float(spread) == pytest.approx(factor, rel=0.08)


def test_a_middle_that_is_3_deviations_off_is_pointed_out() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten())
    for _ in range(100):
        network(torch.randn(64, 2, 4, 4))
    said = input_mismatch(network, torch.randn(64, 2, 4, 4) + 3)
    assert said is not None
    assert "their middle lies 3 deviations off" in said


def test_a_network_with_0_batch_norms_is_not_judged() -> None:
    assert input_mismatch(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()), 100 * torch.randn(4, 3, 2, 2)) is None
